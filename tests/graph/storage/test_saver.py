"""What every database of threads does beside being LangGraph's checkpointer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from graph.storage.saver import ThreadSaver, noting, written_by_run
from tests.support.databases import URLS, opened


@pytest.fixture(params=URLS)
async def saver(request: pytest.FixtureRequest) -> AsyncIterator[ThreadSaver]:
    async with opened(request.param) as (saver, _):
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


async def test_a_thread_that_is_not_there_has_no_checkpoints(saver: ThreadSaver) -> None:
    assert await saver.latest("t", "any") == (None, False)
    assert await saver.written_last("t") is None


async def test_the_latest_is_the_one_with_the_greatest_id_and_the_last_the_one_written_last(saver: ThreadSaver) -> None:
    early, late = empty_checkpoint(), empty_checkpoint()
    at: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    for checkpoint in (late, early):  # as when a clock is set back in between
        await saver.aput(at, checkpoint, {"source": "loop", "step": 0}, {})
    await put(saver, "another")
    assert await saver.latest("t", early["id"]) == (late["id"], True)
    assert await saver.latest("t", "none") == (late["id"], False)
    assert await saver.written_last("t") == early["id"]


async def test_what_a_run_wrote_is_forgotten_and_nothing_else(saver: ThreadSaver) -> None:
    before = await put(saver, "t")
    written = noting()
    after = await put(saver, "t", after=before)
    written_by_run.set(None)
    studio_s = await put(saver, "t", after=before)
    await put(saver, "another")
    await saver.forget("t", written)
    assert await ids(saver, "t") == {before, studio_s}
    assert len(await ids(saver, "another")) == 1
    assert after not in await ids(saver, "t")
    kept = await saver.aget_tuple({"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": before}})
    assert kept is not None
    assert kept.pending_writes == [("task", "messages", "said")]


async def test_a_write_is_whole_though_its_run_is_cancelled(saver: ThreadSaver) -> None:
    task = asyncio.create_task(put(saver, "t"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await saver.idle()
    await saver.check_writable()
    await put(saver, "t")
    assert 1 <= len(await ids(saver, "t")) <= 2
