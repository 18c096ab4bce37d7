"""Reads of a response that come late, on a real event loop."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from graph.model.read_timeout import ReadTimeout

SHORT, LONG = 0.05, 30.0


async def pieces(*pauses: float) -> AsyncIterator[bytes]:
    for pause in pauses:
        await asyncio.sleep(pause)
        yield b"x"


async def test_reads_in_time_are_returned_and_then_the_end() -> None:
    timeout, reads = ReadTimeout(), pieces(0, 0.01)
    assert [await timeout.within(LONG, anext(reads, b"")) for _ in range(3)] == [b"x", b"x", b""]
    timeout.close()


@pytest.mark.parametrize("first", [SHORT, LONG], ids=["the first", "a later one, with less time than the first"])
async def test_a_late_read_fails(first: float) -> None:
    timeout, reads = ReadTimeout(), pieces(0, LONG)
    assert await timeout.within(first, anext(reads)) == b"x"
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await timeout.within(SHORT, anext(reads))
    assert time.monotonic() - began < LONG / 2
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_each_read_has_all_of_its_time() -> None:
    seconds = 0.4
    timeout, reads = ReadTimeout(), pieces(*[seconds / 4] * 3)
    for _ in range(3):
        assert await timeout.within(seconds, anext(reads)) == b"x"
        await asyncio.sleep(seconds * 1.5)  # the reader does something else
    timeout.close()


async def test_each_read_may_be_in_a_task_of_its_own() -> None:
    timeout, reads = ReadTimeout(), pieces(0, 0, LONG)
    for _ in range(2):
        assert await asyncio.create_task(timeout.within(SHORT, anext(reads))) == b"x"
    with pytest.raises(TimeoutError):
        await asyncio.create_task(timeout.within(SHORT, anext(reads)))


async def test_a_reader_that_is_cancelled_is_not_told_of_a_late_read() -> None:
    timeout = ReadTimeout()
    reading = asyncio.create_task(timeout.within(SHORT, anext(pieces(LONG))))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    timeout.close()
