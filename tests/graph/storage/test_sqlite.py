"""Where threads are kept: private, strict about what it reads, and whole though runs are cancelled."""

import asyncio
import random
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from graph.storage.database_file import make_private
from graph.storage.opening import open_checkpointer, sqlite_path
from graph.storage.saver import CheckpointUrlError
from graph.storage.sqlite import SqliteThreads, open_sqlite


@dataclass
class Stranger:
    """A type that no message of ours has in it."""

    value: str


CONFIG: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


async def put(saver: BaseCheckpointSaver[str], value: Any) -> RunnableConfig:
    """Store a checkpoint with one channel."""
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"x": value}
    checkpoint["channel_versions"] = {"x": "1"}
    return await saver.aput(CONFIG, checkpoint, {"source": "loop", "step": 0}, {"x": "1"})


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a/b.db", Path("a/b.db")), ("sqlite:////data/b.db", Path("/data/b.db"))],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, path: Path) -> None:
    assert sqlite_path(url) == path


async def test_the_folder_is_made_and_the_file_is_private() -> None:
    async with open_checkpointer("sqlite:///deep/er/x.db") as saver:
        await put(saver, "value")
        for file in Path("deep/er").iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_file_that_is_no_database_is_named() -> None:
    Path("notes.db").write_text("not a database " * 100)
    with pytest.raises(CheckpointUrlError, match=r"notes\.db"):
        async with open_checkpointer("sqlite:///notes.db"):
            pass


async def test_a_row_that_somebody_wrote_cannot_import_code() -> None:
    async with open_checkpointer("sqlite:///x.db") as saver:
        config = await put(saver, Stranger("x"))
        stored = await saver.aget_tuple(config)
    assert stored is not None
    assert not isinstance(stored.checkpoint["channel_values"]["x"], Stranger)


async def test_a_cancelled_write_leaves_no_open_transaction() -> None:
    chance = random.Random(3)
    async with open_checkpointer("sqlite:///x.db") as saver:
        assert isinstance(saver, SqliteThreads)
        for number in range(100):
            writing = asyncio.create_task(put(saver, number))
            await asyncio.sleep(chance.random() / 500)
            writing.cancel()
            await asyncio.wait({writing})
        assert not await saver.database.read(lambda: saver.conn.in_transaction)
        with sqlite3.connect("x.db", timeout=0.1) as other:
            other.execute("CREATE TABLE mine (x)")
        other.close()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///x.db"])
async def test_a_deleted_thread_is_gone_and_others_are_not(url: str) -> None:
    async with open_checkpointer(url) as saver:
        await put(saver, "mine")
        await saver.adelete_thread("other")
        assert await saver.aget_tuple(CONFIG)
        await saver.adelete_thread("t")
        assert await saver.aget_tuple(CONFIG) is None


def test_a_file_that_others_may_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "agent.db"
    file.touch(0o600)
    make_private(file)
    assert caplog.messages == []
    file.chmod(0o666)
    make_private(file)
    assert caplog.messages == [f"{file} can be read by other users (mode 666). Run: chmod 600 {file}"]


@contextmanager
def busy(saver: SqliteThreads) -> Iterator[None]:
    """Keep the database's thread busy, so that what is asked for meanwhile waits."""
    free = threading.Event()
    saver.database.in_thread(free.wait)
    try:
        yield
    finally:
        free.set()


async def write_together(saver: SqliteThreads, works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return how writes ended that waited for the database's thread at the same time."""
    with busy(saver):
        writes = [asyncio.ensure_future(saver.database.write(work)) for work in works]
        await asyncio.sleep(0)  # each has been asked for
    return await asyncio.gather(*writes, return_exceptions=True)


async def test_writes_that_wait_share_one_commit() -> None:
    async with open_checkpointer("sqlite:///x.db") as saver:
        assert isinstance(saver, SqliteThreads)
        statements: list[str] = []
        await saver.database.read(lambda: saver.conn.set_trace_callback(statements.append))
        probe = 'INSERT INTO probes VALUES (1, :at) ON CONFLICT ("only") DO UPDATE SET at = excluded.at'
        ended = await write_together(saver, [partial(saver.database.execute, probe, at=at) for at in range(8)])
        assert ended == [None] * 8
        assert statements.count("COMMIT") == 1
        assert [row["at"] for row in await saver.database.rows("SELECT at FROM probes")] == [7]


@given(fail_at=st.lists(st.sampled_from(["nowhere", "before", "behind", "in SQL"]), min_size=1, max_size=8))
def test_a_write_that_fails_takes_only_its_own_rows_back(fail_at: list[str]) -> None:
    async def run() -> None:
        async with open_sqlite(None) as saver:
            db = saver.database
            await db.write(partial(db.execute, "CREATE TABLE kept (number INTEGER PRIMARY KEY)"))

            def insert(number: int, fails: str) -> int:
                if fails == "before":
                    raise ZeroDivisionError
                db.execute("INSERT INTO kept VALUES (:number)", number=number)
                if fails == "in SQL":
                    db.execute("INSERT INTO kept VALUES (:number)", number=number)
                if fails == "behind":
                    raise ZeroDivisionError
                return number

            ended = await write_together(saver, [partial(insert, *each) for each in enumerate(fail_at)])
            kinds = {"before": ZeroDivisionError, "behind": ZeroDivisionError, "in SQL": sqlite3.IntegrityError}
            for number, (fails, end) in enumerate(zip(fail_at, ended, strict=True)):
                assert end == number if fails == "nowhere" else isinstance(end, kinds[fails])
            kept = [row["number"] for row in await db.rows("SELECT number FROM kept ORDER BY number")]
            assert kept == [number for number, fails in enumerate(fail_at) if fails == "nowhere"]
            assert not await db.read(lambda: saver.conn.in_transaction)

    asyncio.run(run())


async def test_of_writes_on_a_full_disk_those_are_there_that_were_acknowledged() -> None:
    async with open_checkpointer("sqlite:///x.db") as saver:
        assert isinstance(saver, SqliteThreads)
        db = saver.database
        await db.write(partial(db.execute, "CREATE TABLE kept (number INTEGER, bytes BLOB)"))
        [pages] = await db.rows("PRAGMA page_count")
        await db.rows(f"PRAGMA max_page_count = {pages['page_count'] + 20}")
        insert = "INSERT INTO kept VALUES (:number, zeroblob(:size))"
        sizes = [10, 10_000, 1_000_000, 10, 20_000, 40_000, 10]
        works = [partial(db.execute, insert, number=number, size=size) for number, size in enumerate(sizes)]
        ended = await write_together(saver, works)
        kept = [row["number"] for row in await db.rows("SELECT number FROM kept ORDER BY number")]
        assert kept == [number for number, end in enumerate(ended) if end is None]
        full = [end.sqlite_errorname for end in ended if isinstance(end, sqlite3.OperationalError)]
        assert full == ["SQLITE_FULL"] * (len(sizes) - len(kept))
        assert full


async def test_writes_behind_another_program_s_lock_fail_and_are_not_done_later() -> None:
    async with open_checkpointer("sqlite:///x.db") as saver:
        assert isinstance(saver, SqliteThreads)
        db = saver.database
        await db.rows("PRAGMA busy_timeout = 50")
        probe = 'INSERT INTO probes VALUES (1, :at) ON CONFLICT ("only") DO UPDATE SET at = excluded.at'
        with closing(sqlite3.connect("x.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ended = await write_together(saver, [partial(db.execute, probe, at=at) for at in range(3)])
            assert [end.sqlite_errorname for end in ended] == ["SQLITE_BUSY"] * 3
            other.execute("ROLLBACK")
        assert await db.write(lambda: db.select("SELECT at FROM probes")) == []
