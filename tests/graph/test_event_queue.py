"""The queue between a run and its reader."""

import asyncio

import pytest

from graph.event_queue import EventQueue
from graph.events import Reasoning, Refusal, RunEvent, Text, ToolStarted, joined
from graph.model.answer import Said

A, B = Text("m", "a"), Text("m", "b")


async def test_a_reader_takes_all_that_is_new_at_once() -> None:
    queue = EventQueue()
    queue.tell_all([A, B])
    assert await queue.take() == [A, B]
    queue.tell(A)
    queue.close()
    assert await queue.take() == [A]
    assert await queue.take() == []
    assert queue.events == [A, B, A]


async def test_a_reader_waits_for_the_next_event() -> None:
    queue = EventQueue()
    taking = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not taking.done()
    await queue.hear("m", Said("a", "why", "no"))
    assert await taking == [Reasoning("m", "why"), A, Refusal("m", "no")]


async def test_the_model_waits_for_a_reader_that_is_behind() -> None:
    queue = EventQueue(ahead=1)
    await queue.hear("m", Said("a"))
    saying = asyncio.create_task(queue.hear("m", Said("b")))
    ending = asyncio.create_task(queue.all_taken())
    await asyncio.sleep(0.01)
    assert not saying.done()
    assert not ending.done()
    assert await queue.take() == [A, B]
    async with asyncio.timeout(1):
        await asyncio.gather(saying, ending)


async def test_what_was_not_taken_of_a_stopped_run_counts_as_not_said() -> None:
    queue = EventQueue()
    queue.tell(A)
    await queue.take()
    queue.tell(B)
    queue.stop(Exception("stopped"))
    queue.tell(B)  # as a tool may, from a task that is not the run's
    with pytest.raises(asyncio.CancelledError):
        await queue.hear("m", Said("b"))
    queue.close()
    assert (queue.events, await queue.take()) == ([A], [])


def test_texts_that_follow_each_other_are_one() -> None:
    started = ToolStarted("c", "f", {}, "s")
    events: list[RunEvent] = [Reasoning("m", "x"), A, B, Text("n", "c"), started, started, A]
    assert [*joined(events)] == [Reasoning("m", "x"), Text("m", "ab"), Text("n", "c"), started, started, A]
    assert [*joined([A])] == [A]
