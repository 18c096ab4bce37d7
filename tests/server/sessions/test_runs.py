"""Runs: whatever happens to their task, their readers get to an end."""

import asyncio
from contextlib import aclosing, suppress
from contextvars import ContextVar

import pytest
from langchain_core.runnables.config import var_child_runnable_config

from graph.event_queue import EventQueue
from graph.events import ClientCall, ClientCallDelta, MessageEnded, RunEvent, Text, ToolStarted
from graph.model.answer import Said
from server.errors import AgentError, ApiError, RunCancelled, RunTimedOut
from server.sessions.leases import Leases
from server.sessions.naming import Session
from server.sessions.runs import Run, RunOwner, Work

TRACE: ContextVar[str] = ContextVar("trace")
HELLO = Text("m", "Hello.")
CALL = ToolStarted("call-1", "get_weather", {}, "weather")


SESSION = Session("", "s")


def saying(*events: RunEvent) -> Work:
    async def work(queue: EventQueue) -> None:
        queue.tell_all(events)

    return work


def hanging_after(*events: RunEvent) -> Work:
    async def work(queue: EventQueue) -> None:
        queue.tell_all(events)
        await asyncio.Event().wait()

    return work


async def all_of(run: Run) -> list[RunEvent]:
    return [event async for events in run.events() for event in events]


def owner() -> RunOwner:
    return RunOwner(Leases(session_wait=1), run_timeout=5)


async def test_a_run_that_is_stopped_before_its_first_step_tells_its_reader() -> None:
    async with aclosing(owner().start(SESSION, saying(HELLO))) as run:
        run.stop(RunCancelled())
        async with asyncio.timeout(1):
            with pytest.raises(RunCancelled):
                await anext(run.events())


async def test_a_run_that_is_being_stored_cannot_be_stopped() -> None:
    """Its reader would be told that it was, though it is kept as complete."""

    async def storing(queue: EventQueue) -> None:
        queue.tell(HELLO)
        await queue.all_taken()
        queue.complete()
        is_storing.set()
        await may_end.wait()

    is_storing, may_end = asyncio.Event(), asyncio.Event()
    async with aclosing(owner().start(SESSION, storing)) as run:
        reading = asyncio.create_task(all_of(run))
        await is_storing.wait()
        run.stop(RunCancelled())
        may_end.set()
        assert await reading == [HELLO]


async def test_a11_a_stream_does_not_wait_for_ever_for_a_run_that_is_slow_to_begin() -> None:
    async def slow(queue: EventQueue) -> None:
        await begin.wait()
        queue.tell(HELLO)

    begin = asyncio.Event()
    async with aclosing(owner().start(SESSION, slow)) as run:
        await run.begun(within=0.01)
        begin.set()
        await run.begun(within=60)
        assert await all_of(run) == [HELLO]


async def test_d5_what_fails_before_its_first_event_is_an_error_and_no_stream() -> None:
    async def broken(_: EventQueue) -> None:
        raise ZeroDivisionError

    async with aclosing(owner().start(SESSION, broken)) as run:
        with pytest.raises(AgentError):
            await run.begun(within=60)


async def test_the_runs_of_a_thread_are_known_in_their_order() -> None:
    runs = owner()
    a, b = Session("", "a"), Session("", "b")
    first, other, second = (runs.start(session, saying(HELLO)) for session in (a, b, a))
    assert runs.of(a.thread_id) == [first, second]
    assert runs.in_sessions_of("") == [second, other, first]
    assert runs.in_sessions_of("somebody") == []
    for run in (first, other, second):
        async with aclosing(run):
            assert await all_of(run) == [HELLO]
    assert runs.of(a.thread_id) == []


@pytest.mark.parametrize(
    ("heard", "repeated"),
    [
        ([Text("m", "Hel")], True),
        ([Text("m", "Hel"), MessageEnded("m", "stop", None)], True),
        ([ClientCallDelta("c", "ask_user", "{}"), ClientCall("c")], True),
        ([CALL], False),
        ([CALL, Text("m", "It ")], False),
    ],
    ids=["text", "a message", "a call of the client's", "a call", "text after a call"],
)
async def test_a9_a_run_that_is_stopped_is_repeated_only_if_no_tool_had_run(
    heard: list[RunEvent], repeated: bool
) -> None:
    async with aclosing(owner().start(SESSION, hanging_after(*heard))) as run:
        events = run.events()
        assert await anext(events) == heard
        run.stop()
        with pytest.raises(ApiError) as stopped:
            await anext(events)
    assert (stopped.value.status_code, "x-should-retry" in stopped.value.headers) == (503, not repeated)


async def test_a10_a_run_that_loses_a_cancellation_stops_at_its_next_event() -> None:
    async def losing(queue: EventQueue) -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            await queue.hear("m", Said("Hello."))

    async with aclosing(owner().start(SESSION, losing)) as run, asyncio.timeout(1):
        events = run.events()
        await anext(events)
        run.stop()
        with pytest.raises(ApiError):
            async for _ in events:
                pass


async def test_a10_a_run_that_loses_a_cancellation_and_says_nothing_is_cancelled_again() -> None:
    async def losing(queue: EventQueue) -> None:
        queue.tell(HELLO)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with aclosing(owner().start(SESSION, losing)) as run, asyncio.timeout(1):
        await anext(run.events())
        run.stop()
        await run.ended()


async def test_a_run_that_ends_after_it_was_stopped_is_not_told_as_a_whole_answer() -> None:
    async def losing(queue: EventQueue) -> None:
        queue.tell(HELLO)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with aclosing(owner().start(SESSION, losing)) as run:
        events = run.events()
        assert await anext(events) == [HELLO]
        run.stop(RunCancelled())
        with pytest.raises(RunCancelled):
            await anext(events)


async def test_the_deadline_of_a_run_holds_though_its_cancellation_is_lost() -> None:
    async def losing(queue: EventQueue) -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            await queue.hear("m", Said("Hello."))

    quick = RunOwner(Leases(session_wait=1), run_timeout=0.1)
    async with aclosing(quick.start(SESSION, losing)) as run, asyncio.timeout(2):
        with pytest.raises(RunTimedOut):
            async for _ in run.events():
                pass


async def test_a_run_has_its_request_s_trace_and_nobody_s_callbacks() -> None:
    seen: list[object] = []

    async def looking(queue: EventQueue) -> None:
        seen.extend((TRACE.get(), var_child_runnable_config.get()))
        queue.tell(HELLO)

    TRACE.set("of this request")
    var_child_runnable_config.set({"callbacks": []})
    async with aclosing(owner().start(SESSION, looking)) as run:
        assert await all_of(run) == [HELLO]
    assert seen == ["of this request", None]
