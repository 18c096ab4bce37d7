"""Two servers on one PostgreSQL: what holds for one holds for both together."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from server.sessions.naming import Session
from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.databases import select
from tests.support.postgres import Postgres
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

TOOL = {"type": "function", "function": {"name": "look_up"}}


@dataclass(frozen=True)
class Pair:
    """Two servers, and the address of their database."""

    first: AgentServer
    second: AgentServer
    database: str


@contextmanager
def pair(upstream_url: str, database: str, **settings: Any) -> Iterator[Pair]:
    """Run two servers on a database."""
    shared = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "checkpoint_url": database, **settings}
    with agent_server(**shared) as first, agent_server(**shared) as second:
        yield Pair(first, second, database)


@pytest.fixture
def both(upstream_url: str, postgres: Postgres) -> Iterator[Pair]:
    with pair(upstream_url, postgres.new_database()) as servers:
        yield servers


def body(text: str, session: str = "s", **fields: Any) -> dict[str, Any]:
    """A request of a session, which sends what is new alone."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "session_id": session, **fields}


def post(server: AgentServer, text: str, session: str = "s", **fields: Any) -> httpx.Response:
    return server.post(body(text, session, **fields), headers={"X-Session-Mode": "append"})


def told(server: AgentServer, session: str = "s") -> dict[str, Any]:
    """What a server tells of a session."""
    found: dict[str, Any] = httpx.get(f"{server.url}/v1/sessions/{session}").json()
    return found


def questions(upstream: Upstream) -> list[str]:
    """What the model was shown last that people asked."""
    return [message["content"] for message in upstream.last["messages"] if message["role"] == "user"]


@contextmanager
def held(server: AgentServer, upstream: Upstream, session: str = "s") -> Iterator[Iterator[str]]:
    """A streamed request whose answer does not end, read up to its only word."""
    upstream.script(Answer(["Wait"], hold=True))
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body("hold", session, stream=True)) as response:
        lines = response.iter_lines()
        while "Wait" not in next(lines):
            pass
        yield lines


def test_the_requests_of_a_conversation_may_go_to_either_server(both: Pair, upstream: Upstream) -> None:
    asked = [f"question {number}" for number in range(10)]
    for number, question in enumerate(asked):
        assert post([both.first, both.second][number % 2], question).is_success
    assert questions(upstream) == asked
    assert told(both.first) == told(both.second)
    assert told(both.first)["turns"] == 10


def test_fifty_requests_of_one_session_at_once_are_fifty_turns(both: Pair, upstream: Upstream) -> None:
    with ThreadPoolExecutor(50) as pool:
        servers = [both.first, both.second] * 25
        answers = list(pool.map(lambda at: post(servers[at], f"question {at}"), range(50)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    answered = {f"question {at}" for at, answer in enumerate(answers) if answer.is_success}
    assert len(answered) >= 40, "five seconds are enough for most"
    post(both.first, "the last")
    assert sorted(questions(upstream)) == sorted([*answered, "the last"])
    assert told(both.second)["turns"] == len(answered) + 1
    assert told(both.second)["branches"] == 1


def test_a_session_that_the_other_server_runs_in_is_busy(
    upstream: Upstream, upstream_url: str, postgres: Postgres
) -> None:
    with pair(upstream_url, postgres.new_database(), session_wait=0.3) as both, held(both.first, upstream):
        refused = post(both.second, "now")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
        assert httpx.post(f"{both.second.url}/v1/sessions/s/reset").status_code == 409


def test_a_first_turn_is_known_to_the_other_server_while_it_runs(both: Pair, upstream: Upstream) -> None:
    with held(both.first, upstream):
        assert told(both.second)["status"] == "running"
        [listed] = httpx.get(f"{both.second.url}/v1/sessions").json()["data"]
        assert (listed["id"], listed["status"], listed["turns"]) == ("s", "running", 0)
    until(lambda: told(both.second)["status"] == "idle")


def test_a_run_is_cancelled_from_the_other_server(both: Pair, upstream: Upstream) -> None:
    with held(both.first, upstream) as lines:
        began = time.monotonic()
        cancelled = httpx.post(f"{both.second.url}/v1/sessions/s/cancel")
        took = time.monotonic() - began
        assert (cancelled.status_code, cancelled.json()["status"], cancelled.json()["turns"]) == (200, "idle", 1)
        assert '"code":"run_cancelled"' in "".join(lines)
    assert took < 1
    said = httpx.get(f"{both.second.url}/v1/sessions/s/messages").json()["data"]
    assert [message["content"] for message in said] == ["hold", "Wait"]


def test_a_session_is_deleted_from_the_other_server_while_it_runs(both: Pair, upstream: Upstream) -> None:
    with held(both.first, upstream):
        assert httpx.delete(f"{both.second.url}/v1/sessions/s").status_code == 200
    assert told(both.first)["error"]["code"] == "session_not_found"
    assert select(both.database, "SELECT count(*) FROM checkpoint_writes") == [(0,)]


def test_a_turn_that_waits_for_the_client_s_tool_goes_on_at_the_other_server(both: Pair, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("look_up", "{}")]))
    call = post(both.first, "ask", tools=[TOOL]).json()["choices"][0]["message"]["tool_calls"][0]
    assert told(both.second)["status"] == "waiting"
    result = {"role": "tool", "tool_call_id": call["id"], "content": "found"}
    resumed = both.second.post({"model": MODEL, "messages": [result], "tools": [TOOL]})
    assert (resumed.status_code, resumed.headers["X-Session-ID"]) == (200, "s")
    assert told(both.first)["status"] == "idle"


def test_a_lease_lasts_as_long_as_its_run(both: Pair, upstream: Upstream) -> None:
    post(both.first, "one")
    with held(both.second, upstream, "other"):
        assert select(both.database, "SELECT id FROM leases") == [("other",)]
    until(lambda: select(both.database, "SELECT id FROM leases") == [])


def test_a_lease_that_somebody_has_locked_holds_up_its_own_session_alone(upstream_url: str, postgres: Postgres) -> None:
    with pair(upstream_url, postgres.new_database(), session_wait=1) as both:
        thread = Session("", "s").thread_id
        with psycopg.connect(both.database) as gone:
            gone.execute(
                "INSERT INTO leases (thread_id, principal, id, owner, run_began, expires_at) "
                "VALUES (%s, '', 's', 'somebody', 1, now() + interval '1 min')",
                [thread],
            )
            gone.commit()
            gone.execute("DELETE FROM leases")  # and it never says whether that is to be
            with ThreadPoolExecutor(8) as pool:
                locked = [pool.submit(post, both.first, "now", "s") for _ in range(6)]
                for number in range(5):
                    began = time.monotonic()
                    assert post(both.first, "and others?", f"other-{number}").is_success
                    assert time.monotonic() - began < 3
                assert {answer.result().status_code for answer in locked} == {409}
            gone.rollback()


def test_old_sessions_are_deleted_once_by_either_server(
    upstream_url: str, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    with pair(upstream_url, postgres.new_database(), session_ttl_single=0.3) as both:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda at: post([both.first, both.second][at % 2], "once", f"s{at}"), range(20)))
        until(lambda: select(both.database, "SELECT count(*) FROM sessions") == [(0,)], within=20)
        until(lambda: select(both.database, "SELECT count(*) FROM leases") == [(0,)])
        for table in ("turns", "checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            assert select(both.database, f"SELECT count(*) FROM {table}") == [(0,)]
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
