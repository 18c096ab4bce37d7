"""Servers on one PostgreSQL that die, hang, or lose their database: nothing acknowledged is lost, and it goes on."""

import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count

import httpx
import pytest

from server.sessions.shared_leases import LIFETIME
from tests.server.sessions.test_replicas import held, post, questions, told
from tests.support.agent_server import AgentServer
from tests.support.command import Serving, serving, without_tools
from tests.support.postgres import Postgres, running_postgres
from tests.support.upstream import Upstream
from tests.support.waiting import until


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that a test may stop, and that keeps what it has."""
    with running_postgres(keeps=True) as server:
        yield server


def replicas(stack: ExitStack, upstream_url: str, database: str, number: int) -> list[tuple[Serving, AgentServer]]:
    """Start so many processes on one database."""
    settings = without_tools(upstream_url, CHECKPOINT_URL=database, PLAYGROUND="false")
    return [stack.enter_context(serving("serve", **settings)) for _ in range(number)]


def test_a_session_whose_server_is_killed_or_hangs_goes_on_elsewhere_within_its_lease(
    upstream: Upstream, upstream_url: str, postgres: Postgres
) -> None:
    with ExitStack() as stack:
        processes = replicas(stack, upstream_url, postgres.new_database(), 3)
        (killed, first), (hanging, second), (_, third) = processes
        for session in ("killed", "hanging"):
            assert post(third, "before", session).is_success
        stack.enter_context(held(first, upstream, "killed"))
        lines = stack.enter_context(held(second, upstream, "hanging"))
        stack.callback(hanging.process.send_signal, signal.SIGCONT)
        began = time.monotonic()
        killed.process.send_signal(signal.SIGKILL)
        hanging.process.send_signal(signal.SIGSTOP)
        for session in ("killed", "hanging"):
            assert post(third, "after", session).is_success
            assert questions(upstream) == ["before", "after"]
        assert time.monotonic() - began < LIFETIME + 5
        hanging.process.send_signal(signal.SIGCONT)
        assert '"code":"session_lost"' in "".join(lines)
        assert post(second, "and on", "hanging").is_success
        assert questions(upstream) == ["before", "after", "and on"]
        assert told(third, "hanging")["branches"] == 1


class Load:
    """Writers that ask one question after another, each in a session of its own, and note what was answered."""

    def __init__(self, servers: list[AgentServer], writers: int = 6, *, is_streamed: bool = False) -> None:
        self.servers, self.acknowledged = servers, defaultdict[str, list[str]](list)
        self.statuses: set[int] = set()
        self.failures: list[str] = []
        """Answers that began with 200 and did not end in order."""
        self._is_streamed = is_streamed
        self._is_over = False
        self._pool = ThreadPoolExecutor(writers)
        self._writing = [self._pool.submit(self._write, f"writer-{number}", number) for number in range(writers)]

    def _write(self, session: str, at: int) -> None:
        for number in count():
            if self._is_over:
                return
            question = f"question {number}"
            server = self.servers[(at + number) % len(self.servers)]
            answer = post(server, question, session, stream=self._is_streamed and number % 2 == 0)
            self.statuses.add(answer.status_code)
            if answer.is_success and '"error"' in answer.text:
                self.failures.append(answer.text)
            elif answer.is_success:
                self.acknowledged[session].append(question)

    def turns(self) -> int:
        """Return how many turns were answered so far."""
        return sum(map(len, list(self.acknowledged.values())))

    def goes_on(self, within: float = 30) -> None:
        """Wait for twenty more turns."""
        goal = self.turns() + 20
        until(lambda: self.turns() >= goal, within=within)

    def end(self, upstream: Upstream) -> None:
        """Stop the writers, and check that every session has all that was answered, in order."""
        self._is_over = True
        for writing in self._writing:
            writing.result(60)
        self._pool.shutdown()
        for session, asked in self.acknowledged.items():
            until(lambda session=session: post(self.servers[0], "the last", session).is_success, within=30)  # type: ignore[misc]
            shown = questions(upstream)
            assert [question for question in shown if question in set(asked)] == asked


def test_postgres_may_be_restarted_under_load(upstream: Upstream, upstream_url: str, own_postgres: Postgres) -> None:
    with ExitStack() as stack:
        servers = [server for _, server in replicas(stack, upstream_url, own_postgres.new_database(), 2)]
        load = Load(servers)
        for how in (signal.SIGINT, signal.SIGQUIT):  # in order, and as a crash
            load.goes_on()
            own_postgres.stop(how)
            until(lambda: 503 in load.statuses, within=20)
            own_postgres.start()
            load.goes_on()
        assert httpx.get(f"{servers[0].url}/ready").status_code == 200
        load.end(upstream)
        assert load.statuses <= {200, 409, 503}


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_postgres_may_hang_for_half_a_minute_under_load(
    upstream: Upstream, upstream_url: str, own_postgres: Postgres
) -> None:
    with ExitStack() as stack:
        servers = [server for _, server in replicas(stack, upstream_url, own_postgres.new_database(), 2)]
        load = Load(servers)
        load.goes_on()
        own_postgres.signal_all(signal.SIGSTOP)
        time.sleep(30)
        assert httpx.get(f"{servers[0].url}/health").is_success
        own_postgres.signal_all(signal.SIGCONT)
        load.goes_on()
        load.end(upstream)
        assert load.statuses <= {200, 409, 503}
