"""What happens to the database while the server runs: it is said, and nothing is acknowledged that is not kept."""

import asyncio
import os
import resource
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.checkpoint.base import empty_checkpoint

from graph.storage.database import Row
from graph.storage.database_file import DatabaseMoved
from graph.storage.sqlite import SqliteThreads
from graph.storage.sqlite_database import BUSY_TIMEOUT
from server.http.foreign_errors import as_api_error
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.command import Serving, serving
from tests.support.envelope import error_of
from tests.support.threads import sqlite_threads
from tests.support.upstream import Answer, Call, Json, Reply, Upstream

DATABASE = Path("data/chat-agent.db")
LOG = Path("data/chat-agent.db-wal")
ELSEWHERE = Path("elsewhere")
FILLER = "x" * 1_000_000
QUESTION: Json = {"model": MODEL, "messages": [HELLO], "session_id": "s"}


@pytest.fixture
def process(upstream_url: str) -> Iterator[tuple[Serving, AgentServer]]:
    """The agent's server as a process of its own: limits are a process's, and so are SQLite's locks."""
    with serving("serve", OLLAMA_MODEL=MODEL, OLLAMA_BASE_URL=upstream_url, USE_MCP_TOOLS="false") as running:
        yield running


@contextmanager
def full_disk(process_id: int, size: int) -> Iterator[None]:
    """Let the process write no file past so many bytes."""
    soft, hard = resource.prlimit(process_id, resource.RLIMIT_FSIZE)
    resource.prlimit(process_id, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(process_id, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def locked() -> Iterator[None]:
    """Hold the write lock of the database, as a backup or a person with a database browser may."""
    with closing(sqlite3.connect(DATABASE)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def readiness(server: AgentServer) -> tuple[int, str, str]:
    """The status of /ready, and what it says of the database."""
    response = httpx.get(f"{server.url}/ready", timeout=30)
    part = response.json()["checkpointer"]
    return response.status_code, part["state"], part["error"] or ""


def assert_unavailable(response: httpx.Response, reason: str) -> None:
    """It may be sent again, and says why."""
    error = error_of(response)
    assert (response.status_code, error["code"], error["type"]) == (503, "storage_unavailable", "server_error")
    assert reason in error["message"]
    assert response.headers.get("x-should-retry") != "false"
    assert int(response.headers["retry-after"]) > 0


def asked_last(upstream: Upstream) -> list[str]:
    """What the model was shown last, without the prompt."""
    return [message["content"] for message in upstream.last["messages"][1:]]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_m20_a_full_disk_is_said_and_passes(process: tuple[Serving, AgentServer], upstream: Upstream) -> None:
    command, server = process
    server.ask("one", session="s")
    assert readiness(server) == (200, "ready", "")
    with full_disk(command.process.pid, LOG.stat().st_size):
        status, state, error = readiness(server)
        assert (status, state) == (503, "down")
        assert "disk" in error
        assert_unavailable(server.post(QUESTION), "disk")
        assert_unavailable(server.post({**QUESTION, "session_id": "new"}), "disk")
        stream = server.post({**QUESTION, "stream": True})
        assert stream.status_code == 503 or '"code":"storage_unavailable"' in stream.text
        assert '"finish_reason": "stop"' not in stream.text
        assert httpx.get(f"{server.url}/v1/sessions/s").json()["turns"] == 1, "what was kept can be read"
    assert readiness(server) == (200, "ready", "")
    server.ask("two", session="s")
    assert asked_last(upstream) == ["one", "You said: one", "two"]
    assert "Traceback" not in command.output
    assert "disk I/O error" in command.output or "is full" in command.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_m20_a_disk_that_fills_in_the_middle_of_a_turn_keeps_nothing_of_it(
    process: tuple[Serving, AgentServer], upstream: Upstream
) -> None:
    command, server = process
    server.ask("one", session="s")
    upstream.script(Answer([FILLER]))
    with full_disk(command.process.pid, LOG.stat().st_size + 500_000):
        assert_unavailable(server.post(QUESTION), "disk")
        assert server.ask("small", session="small") == "You said: small"
    server.ask("two", session="s")
    assert asked_last(upstream) == ["one", "You said: one", "two"]


def test_m20_a_lock_that_lasts_is_a_503_that_may_be_repeated(server: AgentServer, upstream: Upstream) -> None:
    server.ask("one", session="s")
    with locked():
        assert_unavailable(server.post(QUESTION), "locked")
        status, state, error = readiness(server)
        assert (status, state) == (503, "down")
        assert "locked" in error
        assert httpx.get(f"{server.url}/v1/sessions/s").json()["turns"] == 1, "reading needs no lock"
    assert readiness(server) == (200, "ready", "")
    server.ask("two", session="s")
    assert asked_last(upstream) == ["one", "You said: one", "two"]


def test_m20_those_who_meet_the_same_lock_do_not_wait_one_after_the_other(server: AgentServer) -> None:
    def ask(number: int) -> httpx.Response:
        return server.post({**QUESTION, "session_id": f"s{number}"})

    server.ask("one", session="s")
    with locked(), ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(ask, range(8)))
    assert [response.status_code for response in responses] == [503] * 8
    assert max(response.elapsed.total_seconds() for response in responses) < 20, "eight times five seconds"
    with locked():
        assert ask(9).status_code == 503
    assert ask(9).is_success


async def test_m20_a_lock_that_does_not_last_is_waited_for_again_after_one_that_did() -> None:
    async with sqlite_threads() as saver:
        with locked():
            for _ in range(2):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    await saver.check_writable()
        await saver.check_writable()
        with locked():
            waiting = asyncio.create_task(saver.check_writable())
            await asyncio.sleep(0.3)
        await waiting


def test_m20_after_tools_have_run_a_lock_is_not_repeated(weather_server: AgentServer, upstream: Upstream) -> None:
    weather_server.ask("one", session="s")
    holding: list[sqlite3.Connection] = []

    def lock(_: Json) -> Answer:
        other = sqlite3.connect(DATABASE, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        holding.append(other)
        return Answer(["It is cold."])

    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), lock)
    response = weather_server.post(QUESTION)
    for other in holding:
        other.close()
    assert (response.status_code, error_of(response)["code"]) == (503, "storage_unavailable")
    assert response.headers["x-should-retry"] == "false"
    weather_server.ask("two", session="s")
    assert asked_last(upstream) == ["one", "You said: one", "two"]


def delete() -> None:
    DATABASE.unlink()


def delete_folder() -> None:
    shutil.rmtree(DATABASE.parent)


def delete_log() -> None:
    LOG.unlink()


def move() -> None:
    DATABASE.rename("moved.db")


def move_folder() -> None:
    DATABASE.parent.rename("moved")


def replace() -> None:
    shutil.copy(DATABASE, "copy.db")
    os.replace("copy.db", DATABASE)


WAYS = [delete, delete_folder, delete_log, move, move_folder, replace]


@pytest.mark.parametrize("lose", WAYS, ids=lambda way: way.__name__)
def test_m20_a_database_file_that_is_gone_is_noticed(
    lose: Callable[[], None], server: AgentServer, upstream: Upstream
) -> None:
    server.ask("one", session="s")
    lose()
    assert_unavailable(server.post(QUESTION), "was deleted, moved or replaced")
    assert_unavailable(httpx.get(f"{server.url}/v1/sessions/s"), "was deleted, moved or replaced")
    assert_unavailable(httpx.get(f"{server.url}/v1/sessions"), "was deleted, moved or replaced")
    assert_unavailable(httpx.post(f"{server.url}/v1/sessions/s/reset"), "was deleted, moved or replaced")
    assert_unavailable(httpx.delete(f"{server.url}/v1/sessions/s"), "was deleted, moved or replaced")
    assert len(upstream.requests) == 1, "the model is not asked for what cannot be kept"
    status, state, error = readiness(server)
    assert (status, state) == (503, "down")
    assert "was deleted, moved or replaced" in error
    assert server.post({**QUESTION, "store": False}).is_success, "what needs no database goes on"


@pytest.mark.parametrize("lose", WAYS, ids=lambda way: way.__name__)
def test_m20_a_turn_whose_file_goes_meanwhile_is_not_acknowledged(
    lose: Callable[[], None], server: AgentServer, upstream: Upstream
) -> None:
    server.ask("one", session="s")

    def losing(_: Json) -> Answer:
        lose()
        return Answer(["lost"])

    replies: list[Reply] = [losing]
    upstream.script(*replies)
    stream = server.post({**QUESTION, "stream": True}).text
    *_, error, done, _ = stream.split("\n\n")
    assert "storage_unavailable" in error
    assert done == "data: [DONE]"


def test_m20_a_file_that_is_put_back_is_good_again(server: AgentServer, upstream: Upstream) -> None:
    server.ask("one", session="s")
    DATABASE.rename("moved.db")
    assert server.post(QUESTION).status_code == 503
    Path("moved.db").rename(DATABASE)
    assert readiness(server) == (200, "ready", "")
    server.ask("two", session="s")
    assert asked_last(upstream) == ["one", "You said: one", "two"]


def test_m20_a_link_to_the_database_is_followed(upstream_url: str) -> None:
    ELSEWHERE.mkdir()
    Path("data").mkdir()
    DATABASE.symlink_to(Path("..") / ELSEWHERE / "real.db")
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        server.ask("one", session="s")
        assert readiness(server) == (200, "ready", "")
        (ELSEWHERE / "real.db").unlink()
        assert readiness(server)[:2] == (503, "down")


def test_m20_a_database_in_memory_has_no_file_to_lose(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, checkpoint_url="memory://") as server:
        server.ask("one", session="s")
        assert readiness(server) == (200, "ready", "")


def test_m20_a_database_that_is_damaged_while_the_server_runs_is_said(
    process: tuple[Serving, AgentServer], upstream: Upstream
) -> None:
    command, server = process
    for number in range(3):
        server.ask(f"question {number}", session="s")
    with closing(sqlite3.connect(DATABASE)) as other:
        other.execute("CREATE TABLE mine (x)")  # lets the server read its pages again
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with DATABASE.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(DATABASE.stat().st_size - 4096))
    response = server.post(QUESTION)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (503, "storage_unavailable")
    assert "Restore its file from a copy" in error["message"]
    assert response.headers["x-should-retry"] == "false", "it does not pass by itself"
    assert readiness(server)[:2] == (503, "down")
    assert "malformed" in command.output
    assert len(upstream.requests) == 3


BUSY_RECOVERY, FULL_OF_SOMETHING, IOERR_WRITE, READONLY_DBMOVED, CORRUPT_INDEX = 261, 13, 778, 1032, 779


@pytest.mark.parametrize(
    ("code", "status", "advice", "may_pass"),
    [
        (sqlite3.SQLITE_BUSY, 503, "Try again", True),
        (BUSY_RECOVERY, 503, "Try again", True),
        (sqlite3.SQLITE_LOCKED, 503, "Try again", True),
        (sqlite3.SQLITE_PROTOCOL, 503, "Try again", True),
        (FULL_OF_SOMETHING, 503, "Make room", True),
        (sqlite3.SQLITE_IOERR, 503, "Check its disk", True),
        (IOERR_WRITE, 503, "Check its disk", True),
        (sqlite3.SQLITE_READONLY, 503, "Let the server write", True),
        (READONLY_DBMOVED, 503, "Let the server write", True),
        (sqlite3.SQLITE_PERM, 503, "Let the server write", True),
        (sqlite3.SQLITE_CANTOPEN, 503, "Check that its folder is there", True),
        (sqlite3.SQLITE_NOLFS, 503, "too large", True),
        (sqlite3.SQLITE_CORRUPT, 503, "Restore its file", False),
        (CORRUPT_INDEX, 503, "Restore its file", False),
        (sqlite3.SQLITE_NOTADB, 503, "Restore its file", False),
        (sqlite3.SQLITE_ERROR, 500, "The server had an error", False),
        (sqlite3.SQLITE_CONSTRAINT, 500, "The server had an error", False),
        (None, 500, "The server had an error", False),
    ],
)
def test_m20_each_of_sqlites_errors_has_an_answer(code: int | None, status: int, advice: str, may_pass: bool) -> None:
    error = sqlite3.OperationalError("its words")
    if code is not None:
        error.sqlite_errorcode = code
    answer = as_api_error(error)
    assert answer.status_code == status
    assert advice in answer.message
    assert ("its words" in answer.message) == (status == 503), "a defect's words are for the log"
    assert (answer.headers.get("x-should-retry") != "false") == may_pass


async def reading(saver: SqliteThreads, query: str) -> Sequence[Row]:
    """Return rows."""
    return await saver.database.read(partial(saver.database.select, query))


async def test_m20_a_write_that_fails_leaves_no_transaction_for_the_next() -> None:
    async with sqlite_threads() as saver:
        await reading(saver, "PRAGMA busy_timeout = 50")

        async def put(thread: str) -> None:
            config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
            stored = await saver.aput(config, empty_checkpoint(), {"source": "loop", "step": 0}, {})
            await saver.aput_writes(stored, [("x", 1)], "task")

        with locked():
            for write in (put("failed"), saver.adelete_thread("other"), saver.check_writable()):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    await write
                assert not await saver.database.read(lambda: saver.conn.in_transaction)
        await put("kept")
        rows = await reading(saver, "SELECT thread_id FROM checkpoints")
        assert [row["thread_id"] for row in rows] == ["kept"]


async def test_m20_while_another_program_writes_emptying_the_log_makes_nobody_wait_again() -> None:
    async with sqlite_threads() as saver:
        await reading(saver, "PRAGMA busy_timeout = 50")

        async def timeout() -> int:
            (row,) = await reading(saver, "PRAGMA busy_timeout")
            return int(row["timeout"])

        with locked():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await saver.check_writable()
            await saver.database.truncate_log()
            assert await timeout() == 0
        await saver.check_writable()
        assert await timeout() == BUSY_TIMEOUT


async def test_m20_a_commit_that_fails_is_undone_before_anybody_else_writes() -> None:
    async with sqlite_threads() as saver:
        tables = (
            "PRAGMA foreign_keys = ON; CREATE TABLE a (x PRIMARY KEY);"
            "CREATE TABLE b (x REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED)"
        )
        await saver.database.read(partial(saver.conn.executescript, tables))
        with pytest.raises(sqlite3.IntegrityError):  # as a commit that meets a full disk
            await saver.database.write(partial(saver.conn.execute, "INSERT INTO b VALUES ('nowhere')"))
        assert not await saver.database.read(lambda: saver.conn.in_transaction)
        await saver.database.write(partial(saver.conn.execute, "INSERT INTO a VALUES ('here')"))
        assert [tuple(row) for row in await reading(saver, "SELECT x FROM b")] == []


async def test_m20_what_is_written_to_a_file_that_is_gone_is_an_error() -> None:
    async with sqlite_threads() as saver:
        await saver.check_writable()
        delete()
        with pytest.raises(DatabaseMoved, match=r"chat-agent\.db"):
            await saver.check_writable()
