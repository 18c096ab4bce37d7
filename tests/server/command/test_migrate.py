"""`chat-agent migrate`: sessions with all their branches go from one database to another, and back, as they were."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.command import run
from tests.support.databases import SQLITE, select
from tests.support.postgres import Postgres
from tests.support.upstream import Answer, Call, Upstream, last_text

TOOL = {"type": "function", "function": {"name": "look_up"}}
TURNS = "SELECT thread_id, number, branch, asked, digest, waiting, checkpoint_id, agent FROM turns ORDER BY turn"


def serving(database: str, upstream_url: str) -> Any:
    return agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, checkpoint_url=database)


def fill(server: AgentServer, upstream: Upstream) -> None:
    """Make sessions: a long one with branches, one that waits for the client's tool, one with odd characters."""
    said: list[dict[str, Any]] = []
    for number in range(12):
        said.append({"role": "user", "content": f"question {number}"})
        answer = server.post({"model": MODEL, "messages": said, "session_id": "long"}).json()["choices"][0]["message"]
        said.append(answer)
    for text in ("edited", "edited again"):
        edited = [*said[:6], {"role": "user", "content": text}]
        assert server.post({"model": MODEL, "messages": edited, "session_id": "long"}).is_success
    upstream.script(Answer(calls=[Call("look_up", "{}")]))
    assert server.post({**ask("look"), "tools": [TOOL], "session_id": "waits"}).is_success
    assert server.post({**ask("안녕\x00 \U0001f600"), "session_id": "odd"}).is_success


def ask(text: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def shown(server: AgentServer) -> dict[str, Any]:
    """All that a server tells of its sessions, but for their sizes."""
    sessions = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    found: dict[str, Any] = {}
    for session in sessions:
        session.pop("bytes")
        branches = range(1, session["branches"] + 1)
        url = f"{server.url}/v1/sessions/{session['id']}/messages"
        read = [httpx.get(url, params={"branch": branch}).json()["data"] for branch in branches]
        found[session["id"]] = session, read
    return found


def test_sessions_go_to_postgres_and_back(upstream: Upstream, upstream_url: str, postgres: Postgres) -> None:
    database, back = postgres.new_database(), "sqlite:///back.db"
    with serving(SQLITE, upstream_url) as server:
        fill(server, upstream)
        before = shown(server)
    for source, target in ((SQLITE, database), (database, back)):
        done = run("migrate", source, target)
        assert done.returncode == 0, done.stderr
        assert "Sessions copied and compared: 3. There already: 0. Failed: 0." in done.stdout
        again = run("migrate", source, target)
        assert "Sessions copied and compared: 0. There already: 3. Failed: 0." in again.stdout
    turns = select(SQLITE, TURNS)
    assert len(turns) == 16
    assert sorted(turns) == sorted(select(database, TURNS)) == sorted(select(back, TURNS))
    for url in (database, back):
        with serving(url, upstream_url) as server:
            assert shown(server) == before
            [call] = before["waits"][1][0][-1]["tool_calls"]
            result = {"role": "tool", "tool_call_id": call["id"], "content": "found"}
            assert server.post({"model": MODEL, "messages": [result], "tools": [TOOL]}).is_success
            assert last_text(upstream.last) == "found"
            server.ask("and on", session="long", extra_headers={"X-Session-Mode": "append"})
            asked = [message["content"] for message in upstream.last["messages"] if message["role"] == "user"]
            assert asked == ["question 0", "question 1", "question 2", "edited again", "and on"]


def test_a_session_that_differs_is_left_alone_and_the_others_are_copied(
    upstream: Upstream, upstream_url: str, postgres: Postgres
) -> None:
    database = postgres.new_database()
    with serving(SQLITE, upstream_url) as server:
        fill(server, upstream)
    with serving(database, upstream_url) as server:
        server.ask("mine", session="odd")
    done = run("migrate", SQLITE, database)
    assert done.returncode == 1
    assert "Session 'odd': the target has another session of that name. It was left alone." in done.stdout
    assert "Sessions copied and compared: 2. There already: 0. Failed: 1." in done.stdout
    assert select(database, "SELECT count(*) FROM sessions") == [(3,)]


def test_a_dry_run_copies_nothing(upstream: Upstream, upstream_url: str, tmp_path: Path) -> None:
    with serving(SQLITE, upstream_url) as server:
        fill(server, upstream)
    done = run("migrate", SQLITE, "sqlite:///new.db", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "Sessions that would be copied, unless the target has them: 3.\n")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        (SQLITE, SQLITE, "FROM and TO are the same database."),
        ("sqlite:///none.db", "sqlite:///new.db", "There is no database none.db."),
        ("memory://", "sqlite:///new.db", "memory:// keeps nothing that could be copied."),
        ("mysql://u:secret@h/d", "sqlite:///new.db", "A database is sqlite:///file.db"),
        ("postgresql://u:secret@127.0.0.1:1/d", "sqlite:///new.db", "the database cannot be used: "),
    ],
)
def test_databases_that_cannot_be_used_are_said(source: str, target: str, told: str) -> None:
    done = run("migrate", source, target)
    assert done.returncode == 1
    assert told in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_in_use_is_not_copied(upstream_url: str, upstream: Upstream, postgres: Postgres) -> None:
    database = postgres.new_database()
    upstream.script(Answer(["Wait"], hold=True))
    with serving(database, upstream_url) as server:
        body = {**ask("hold"), "stream": True, "session_id": "s"}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            assert any("Wait" in line for line in lines)
            done = run("migrate", database, "sqlite:///new.db")
    assert (done.returncode, "Stop it first" in done.stderr) == (1, True)


def test_a_session_that_cannot_be_read_does_not_hold_up_the_others(
    upstream: Upstream, upstream_url: str, postgres: Postgres
) -> None:
    database = postgres.new_database()
    with serving(SQLITE, upstream_url) as server:
        fill(server, upstream)
    with closing(sqlite3.connect("data/chat-agent.db")) as broken, broken:
        odd = "(SELECT thread_id FROM sessions WHERE id = 'odd')"
        broken.execute(f"UPDATE checkpoints SET checkpoint = x'c1' WHERE thread_id = {odd}")
    for copied, known in ((2, 0), (0, 2)):
        done = run("migrate", SQLITE, database)
        assert done.returncode == 1
        assert f"Sessions copied and compared: {copied}. There already: {known}. Failed: 1." in done.stdout
        assert "cannot be copied: " in done.stdout
        assert "Traceback" not in done.stderr
    assert select(database, "SELECT count(*) FROM sessions") == [(2,)]
