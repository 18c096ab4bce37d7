"""Runs: whatever happens to their task, their readers get to an end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from server.errors import AgentError, RunCancelled
from server.runs import RunOwner


async def count(to: int) -> AsyncGenerator[int]:
    for number in range(to):
        yield number


def owner() -> RunOwner:
    return RunOwner(session_wait=1, run_timeout=5)


async def test_a_run_that_is_stopped_before_its_first_step_tells_its_reader() -> None:
    async with aclosing(owner().start("thread", count(3))) as run:
        run.stop(RunCancelled())
        async with asyncio.timeout(1):
            with pytest.raises(RunCancelled):
                await anext(run.events())


async def test_a11_a_stream_does_not_wait_for_ever_for_a_run_that_is_slow_to_begin() -> None:
    async def slow() -> AsyncGenerator[int]:
        await begin.wait()
        yield 1

    begin = asyncio.Event()
    async with aclosing(owner().start("thread", slow())) as run:
        await run.begun(within=0.01)
        begin.set()
        await run.begun(within=60)
        assert [event async for event in run.events()] == [1]


async def test_d5_what_fails_before_its_first_event_is_an_error_and_no_stream() -> None:
    async def broken() -> AsyncGenerator[int]:
        raise ZeroDivisionError
        yield 1

    async with aclosing(owner().start("thread", broken())) as run:
        with pytest.raises(AgentError):
            await run.begun(within=60)


async def test_the_runs_of_a_thread_are_known_in_their_order() -> None:
    runs = owner()
    first, other, second = (runs.start(thread, count(1)) for thread in ("a", "b", "a"))
    assert runs.of("a") == [first, second]
    for run in (first, other, second):
        async with aclosing(run):
            assert [event async for event in run.events()] == [0]
    assert runs.of("a") == []
