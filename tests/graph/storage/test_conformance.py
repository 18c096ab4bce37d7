"""LangGraph's own tests of a saver, those of what its platform asks for included."""

from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate

from graph.storage.saver import ThreadSaver
from tests.support.databases import opened


async def test_m23_the_saver_does_all_that_langgraph_asks_of_one(database_url: str) -> None:
    @checkpointer_test(name="ours")
    async def saver() -> AsyncIterator[ThreadSaver]:
        async with opened(database_url) as (saver, _):
            yield saver

    report = await validate(saver)
    assert [failure for result in report.results.values() for failure in result.failures] == []
    assert report.passed_all()
