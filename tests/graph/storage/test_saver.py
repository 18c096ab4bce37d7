"""What every database of threads does beside being LangGraph's checkpointer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from graph.storage.saver import ThreadSaver
from tests.support.databases import opened


@pytest.fixture
async def saver(database_url: str) -> AsyncIterator[ThreadSaver]:
    async with opened(database_url) as (saver, _):
        yield saver


async def put(saver: ThreadSaver, thread: str, *, after: str | None = None) -> str:
    """Store a checkpoint with one write at it, and return its id."""
    at: RunnableConfig = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": after}}
    stored = await saver.aput(at, empty_checkpoint(), {"source": "loop", "step": 0}, {})
    await saver.aput_writes(stored, [("messages", "said")], "task")
    checkpoint_id: str = stored["configurable"]["checkpoint_id"]
    return checkpoint_id


async def ids(saver: ThreadSaver, thread: str) -> set[str]:
    """The checkpoints of a thread."""
    found = saver.alist({"configurable": {"thread_id": thread}})
    return {item.checkpoint["id"] async for item in found}


async def test_a_write_is_whole_though_its_run_is_cancelled(saver: ThreadSaver) -> None:
    task = asyncio.create_task(put(saver, "t"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await saver.check_writable()
    await put(saver, "t")
    assert 1 <= len(await ids(saver, "t")) <= 2
