"""A copy of the database, made while the server uses it."""

import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.agent_server import AgentServer
from tests.support.command import run, serving, without_tools
from tests.support.upstream import Upstream

COPY = Path("copies/today.db")


@pytest.fixture
def settings(upstream_url: str) -> dict[str, str]:
    Path("copies").mkdir()
    return without_tools(upstream_url)


def asked(upstream: Upstream) -> list[str]:
    return [message["content"] for message in upstream.last["messages"] if message["role"] == "user"]


def test_a_copy_that_is_made_under_load_has_whole_turns_and_can_be_served(
    upstream: Upstream, settings: dict[str, str]
) -> None:
    acknowledged: list[str] = []
    done = threading.Event()

    def ask_on(server: AgentServer) -> None:
        while not done.is_set():
            server.ask(f"question {len(acknowledged)}", session="s")
            acknowledged.append(f"question {len(acknowledged)}")

    with serving("serve", **settings) as (_, server):
        asking = threading.Thread(target=ask_on, args=[server])
        asking.start()
        try:
            while len(acknowledged) < 20:
                asking.join(0.05)
            before = list(acknowledged)
            ended = run("backup", str(COPY), **settings)
            assert (ended.returncode, ended.stderr) == (0, "")
        finally:
            done.set()
            asking.join()
    assert ended.stdout.startswith(f"{COPY}: 1 sessions, ")
    assert os.listdir(COPY.parent) == [COPY.name], "no log, no part"
    assert stat.S_IMODE(COPY.stat().st_mode) == 0o600
    with serving("serve", **settings, CHECKPOINT_URL=f"sqlite:///{COPY}") as (_, server):
        server.ask("and now?", session="s", extra_headers={"X-Session-Mode": "append"})
        known = asked(upstream)[:-1]
        turns = httpx.get(f"{server.url}/v1/sessions/s").json()["turns"]
    assert known[: len(before)] == before, "every turn that was acknowledged before"
    assert known == [f"question {number}" for number in range(len(known))], "whole turns, in their order"
    assert turns == len(known) + 1


def test_a_copy_replaces_nothing_and_says_what_is_wrong(settings: dict[str, str]) -> None:
    missing = run("backup", str(COPY), **settings)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "ERROR: There is no database data/chat-agent.db. Is CHECKPOINT_URL right?\n"
    with serving("serve", **settings) as (_, server):
        server.ask("hello")
    COPY.write_text("mine")
    there = run("backup", str(COPY), **settings)
    assert (there.returncode, there.stderr) == (1, f"ERROR: {COPY} exists already. Choose another name.\n")
    assert COPY.read_text() == "mine"
    nowhere = run("backup", "no/such/folder/copy.db", **settings)
    assert nowhere.returncode == 1
    assert "cannot be copied to no/such/folder/copy.db: No such file or directory." in nowhere.stderr
    memory = run("backup", "other.db", "--database", "memory://", **settings)
    assert "Only a SQLite file is copied, and memory:// has none" in memory.stderr
    Path("broken.db").write_bytes(b"no database" * 1000)
    broken = run("backup", "other.db", "--database", "sqlite:///broken.db", **settings)
    assert broken.returncode == 1
    assert "file is not a database" in broken.stderr
    assert not Path("other.db").exists()
    for ended in (missing, there, nowhere, memory, broken):
        assert "Traceback" not in ended.stderr


def test_no_model_is_needed_for_a_copy() -> None:
    Path("data").mkdir()
    with closing(sqlite3.connect("data/chat-agent.db")) as database:
        database.executescript("CREATE TABLE sessions (id); CREATE TABLE turns (id); INSERT INTO turns VALUES (1)")
    ended = run("backup", "copy.db")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("copy.db: 0 sessions, 1 turns, ")
