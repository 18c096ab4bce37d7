"""Where threads are kept: private, strict about what it reads, and whole though runs are cancelled."""

import asyncio
import random
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from graph.storage.database_file import make_private
from graph.storage.opening import open_checkpointer, sqlite_path
from graph.storage.saver import CheckpointUrlError
from graph.storage.sqlite import SqliteThreads


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
