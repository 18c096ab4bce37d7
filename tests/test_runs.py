"""Runs: whatever happens to their task, their readers get to an end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall

from graph.history import with_client_calls
from server.errors import AgentError, ApiError, RunCancelled, RunTimedOut
from server.runs import RunOwner

HELLO = AIMessage("Hello.")
CALL = AIMessage("", tool_calls=[ToolCall(name="get_weather", args={}, id="call-1")])


async def saying(*messages: BaseMessage) -> AsyncGenerator[BaseMessage]:
    for message in messages:
        yield message


async def hanging_after(*messages: BaseMessage) -> AsyncGenerator[BaseMessage]:
    for message in messages:
        yield message
    await asyncio.Event().wait()


def owner() -> RunOwner:
    return RunOwner(session_wait=1, run_timeout=5)


async def test_a_run_that_is_stopped_before_its_first_step_tells_its_reader() -> None:
    async with aclosing(owner().start("thread", saying(HELLO))) as run:
        run.stop(RunCancelled())
        async with asyncio.timeout(1):
            with pytest.raises(RunCancelled):
                await anext(run.messages())


async def test_a11_a_stream_does_not_wait_for_ever_for_a_run_that_is_slow_to_begin() -> None:
    async def slow() -> AsyncGenerator[BaseMessage]:
        await begin.wait()
        yield HELLO

    begin = asyncio.Event()
    async with aclosing(owner().start("thread", slow())) as run:
        await run.begun(within=0.01)
        begin.set()
        await run.begun(within=60)
        assert [message async for message in run.messages()] == [HELLO]


async def test_d5_what_fails_before_its_first_event_is_an_error_and_no_stream() -> None:
    async def broken() -> AsyncGenerator[BaseMessage]:
        raise ZeroDivisionError
        yield HELLO

    async with aclosing(owner().start("thread", broken())) as run:
        with pytest.raises(AgentError):
            await run.begun(within=60)


async def test_the_runs_of_a_thread_are_known_in_their_order() -> None:
    runs = owner()
    first, other, second = (runs.start(thread, saying(HELLO)) for thread in ("a", "b", "a"))
    assert runs.of("a") == [first, second]
    for run in (first, other, second):
        async with aclosing(run):
            assert [message async for message in run.messages()] == [HELLO]
    assert runs.of("a") == []


@pytest.mark.parametrize(
    ("heard", "repeated"),
    [
        ([AIMessageChunk(content="Hel")], True),
        ([AIMessageChunk(content="", tool_calls=CALL.tool_calls)], True),
        ([with_client_calls(CALL, {"get_weather"})], True),
        ([CALL], False),
        ([CALL, AIMessageChunk(content="It ")], False),
    ],
    ids=["text", "half a call", "a call of the client's", "a call", "text after a call"],
)
async def test_a9_a_run_that_is_stopped_is_repeated_only_if_no_tool_had_run(
    heard: list[BaseMessage], repeated: bool
) -> None:
    async with aclosing(owner().start("thread", hanging_after(*heard))) as run:
        messages = run.messages()
        assert [await anext(messages) for _ in heard] == heard
        run.stop()
        with pytest.raises(ApiError) as stopped:
            await anext(messages)
    assert (stopped.value.status_code, "x-should-retry" in stopped.value.headers) == (503, not repeated)


async def test_a10_a_run_that_loses_a_cancellation_stops_at_its_next_event() -> None:
    async def losing() -> AsyncGenerator[BaseMessage]:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            yield HELLO

    async with aclosing(owner().start("thread", losing())) as run, asyncio.timeout(1):
        messages = run.messages()
        await anext(messages)
        run.stop()
        with pytest.raises(ApiError):
            async for _ in messages:
                pass


async def test_a10_a_run_that_loses_a_cancellation_and_says_nothing_is_cancelled_again() -> None:
    async def losing() -> AsyncGenerator[BaseMessage]:
        yield HELLO
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with aclosing(owner().start("thread", losing())) as run, asyncio.timeout(1):
        await anext(run.messages())
        run.stop()
        await run.ended()


async def test_the_deadline_of_a_run_holds_though_its_cancellation_is_lost() -> None:
    async def losing() -> AsyncGenerator[BaseMessage]:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            yield HELLO

    quick = RunOwner(session_wait=1, run_timeout=0.1)
    async with aclosing(quick.start("thread", losing())) as run, asyncio.timeout(2):
        with pytest.raises(RunTimedOut):
            async for _ in run.messages():
                pass
