"""Servers on one PostgreSQL that die, hang, or lose their database: nothing acknowledged is lost, and it goes on."""

import os
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
from tests.support.command import Serving, serving, without_tools, workers_of
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


@pytest.mark.nightly
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
            assert load.statuses <= {200, 409, 503}
            load.statuses.clear()
        assert httpx.get(f"{servers[0].url}/ready").status_code == 200
        load.end(upstream)


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


@pytest.mark.nightly
def test_a_run_that_loses_its_session_stores_nothing_of_its_turn(
    upstream: Upstream, upstream_url: str, own_postgres: Postgres
) -> None:
    with ExitStack() as stack:
        [(_, server)] = replicas(stack, upstream_url, own_postgres.new_database(), 1)
        assert post(server, "before").is_success
        lines = stack.enter_context(held(server, upstream))
        own_postgres.signal_all(signal.SIGSTOP)
        time.sleep(LIFETIME + 2)
        own_postgres.signal_all(signal.SIGCONT)
        assert '"code":"session_lost"' in "".join(lines)
        until(lambda: post(server, "after").is_success, within=LIFETIME + 5)
        assert questions(upstream) == ["before", "after"]


@pytest.mark.nightly
def test_a_turn_whose_commit_is_not_confirmed_is_not_to_be_repeated(upstream_url: str, own_postgres: Postgres) -> None:
    database = own_postgres.new_database()
    with ExitStack() as stack:
        [(_, server)] = replicas(stack, upstream_url, database, 1)
        # As a standby that is to confirm each commit, and is away.
        own_postgres.execute_in(
            database,
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(13); RETURN NEW; END';"
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON turns DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        answer = post(server, "slow")
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
        assert "did not confirm" in answer.json()["error"]["message"]
        own_postgres.execute_in(database, "DROP TRIGGER slow ON turns")
        until(lambda: told(server).get("turns") == 1, within=20)


@pytest.mark.nightly
def test_workers_outlive_their_database(upstream: Upstream, upstream_url: str, own_postgres: Postgres) -> None:
    settings = without_tools(upstream_url, CHECKPOINT_URL=own_postgres.new_database(), API_WORKERS="2")
    with serving("serve", **settings, PLAYGROUND="false") as (command, server):
        until(lambda: command.output.count("Application startup complete") == 2, within=20)
        assert post(server, "before").is_success
        own_postgres.stop(signal.SIGINT)
        os.kill(workers_of(command.process.pid).pop(), signal.SIGKILL)
        until(lambda: "A worker ended with status 3. It is started again." in command.logged("error"), within=30)
        own_postgres.start()
        until(lambda: post(server, "after").is_success, within=30)
        assert questions(upstream) == ["before", "after"]
