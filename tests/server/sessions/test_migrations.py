"""Databases of older versions, and of newer ones."""

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from graph.storage.opening import open_checkpointer
from graph.storage.saver import CheckpointUrlError
from server.sessions.index import open_index
from server.sessions.leases import Leases
from server.sessions.migrations import MIGRATIONS
from tests.server.sessions.test_limits import kept
from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.command import run
from tests.support.project import ROOT
from tests.support.upstream import Upstream, last_text

DATABASE = Path("data/chat-agent.db")
BEFORE_MIGRATIONS = ROOT / "tests" / "databases" / "before_migrations.sql"
TOOL = {"type": "function", "function": {"name": "look_up"}}
NOWHERE = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1", "USE_MCP_TOOLS": "false"}


def restore(dump: Path) -> None:
    """Make the database that a dump is of."""
    DATABASE.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(DATABASE)) as database:
        database.executescript(dump.read_text())


def numbers() -> list[int]:
    """The migrations that the database says it has."""
    with closing(sqlite3.connect(DATABASE)) as database:
        return [number for (number,) in database.execute("SELECT number FROM migrations ORDER BY number")]


def messages(server: AgentServer, name: str, branch: int) -> list[str]:
    """The texts of one branch."""
    data = httpx.get(f"{server.url}/v1/sessions/{name}/messages", params={"branch": branch}).json()["data"]
    return [message["content"] for message in data]


def test_a_database_without_numbers_opens_with_its_sessions(upstream: Upstream, upstream_url: str) -> None:
    restore(BEFORE_MIGRATIONS)
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        listed = httpx.get(f"{server.url}/v1/sessions").json()["data"]
        assert [(session["id"], session["turns"], session["branches"], session["status"]) for session in listed] == [
            ("waits", 1, 1, "waiting"),
            ("chat", 2, 2, "idle"),
        ]
        beginning = ["one", "You said: one"]
        assert messages(server, "chat", 1) == [*beginning, "two", "You said: two"]
        assert messages(server, "chat", 2) == [*beginning, "two, edited", "You said: two, edited"]
        server.ask("three", session="chat", extra_headers={"X-Session-Mode": "append"})
        shown = [message["content"] for message in upstream.last["messages"][1:]]
        assert shown == [*beginning, "two, edited", "You said: two, edited", "three"]
        result = {"role": "tool", "tool_call_id": "call_t3NdqiKxkQ5ruw2RTwyH71TT", "content": "It has leaves."}
        resumed = server.post({"model": MODEL, "messages": [result], "tools": [TOOL], "session_id": "waits"})
        assert (resumed.status_code, last_text(upstream.last)) == (200, "It has leaves.")
    assert numbers() == list(range(1, len(MIGRATIONS["sqlite"]) + 1))
    assert set(kept()) == {"waits", "chat"}
    assert all(told == there > 0 for told, there in kept().values())


async def test_migrations_run_once() -> None:
    async with open_checkpointer(f"sqlite:///{DATABASE}") as saver:
        await open_index(saver, Leases(session_wait=1))
        await open_index(saver, Leases(session_wait=1))
    assert numbers() == list(range(1, len(MIGRATIONS["sqlite"]) + 1))


async def test_a_database_of_a_newer_version_is_left_alone() -> None:
    async with open_checkpointer(f"sqlite:///{DATABASE}") as saver:
        await open_index(saver, Leases(session_wait=1))
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("INSERT INTO migrations VALUES (1000, 0)")
    async with open_checkpointer(f"sqlite:///{DATABASE}") as saver:
        with pytest.raises(CheckpointUrlError, match="newer version"):
            await open_index(saver, Leases(session_wait=1))
    ended = run("serve", **NOWHERE)
    assert (ended.returncode, ended.stderr) == (
        1,
        "ERROR: CHECKPOINT_URL: the database was used by a newer version of chat-agent. Install that version, or set "
        "CHECKPOINT_URL to another one.\n",
    )
