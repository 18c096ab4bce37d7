"""Reads of a response that come late, on a real event loop."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from graph.model.failures import ModelFailure
from graph.model.read_timeout import ReadTimeout

SHORT, LONG = 0.05, 30.0


async def pieces(*pauses: float) -> AsyncIterator[bytes]:
    for pause in pauses:
        await asyncio.sleep(pause)
        yield b"x"


async def test_reads_in_time_are_returned_and_then_the_end() -> None:
    timeout, reads = ReadTimeout(), pieces(0, 0.01)
    assert [await timeout.read(reads, LONG) for _ in range(3)] == [b"x", b"x", b""]
    timeout.close()


@pytest.mark.parametrize("first", [SHORT, LONG], ids=["the first", "a later one, with less time than the first"])
async def test_a_late_read_fails(first: float) -> None:
    timeout, reads = ReadTimeout(), pieces(0, LONG)
    assert await timeout.read(reads, first) == b"x"
    with pytest.raises(ModelFailure) as failed:
        async with asyncio.timeout(LONG / 2):
            await timeout.read(reads, SHORT)
    assert failed.value.failure.meaning == "stalled"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_each_read_has_all_of_its_time() -> None:
    seconds = 0.4
    timeout, reads = ReadTimeout(), pieces(*[seconds / 4] * 3)
    for _ in range(3):
        assert await timeout.read(reads, seconds) == b"x"
        await asyncio.sleep(seconds * 1.5)  # the reader does something else
    timeout.close()


async def test_each_read_may_be_in_a_task_of_its_own() -> None:
    timeout, reads = ReadTimeout(), pieces(0, 0, LONG)
    for _ in range(2):
        assert await asyncio.create_task(timeout.read(reads, SHORT)) == b"x"
    with pytest.raises(ModelFailure):
        await asyncio.create_task(timeout.read(reads, SHORT))


async def test_a_reader_that_is_cancelled_is_not_told_of_a_late_read() -> None:
    timeout = ReadTimeout()
    reading = asyncio.create_task(timeout.read(pieces(LONG), SHORT))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    timeout.close()
