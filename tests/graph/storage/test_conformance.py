"""LangGraph's own tests of a saver, those of what its platform asks for included."""

from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate

from graph.storage.sqlite import SqliteThreads
from tests.support.threads import sqlite_threads


@checkpointer_test(name="ours")
async def saver() -> AsyncIterator[SqliteThreads]:
    async with sqlite_threads() as saver:
        yield saver


async def test_m23_the_saver_does_all_that_langgraph_asks_of_one() -> None:
    report = await validate(saver)
    assert [failure for result in report.results.values() for failure in result.failures] == []
    assert report.passed_all()
