"""What every session index does, whatever database it is in."""

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from graph.storage.database import DatabaseFailed
from graph.storage.run_saver import PutCheckpoint, PutWrites
from graph.storage.saver import ThreadSaver
from server.errors import InvalidRequest, NotFound
from server.sessions.index import SessionIndex
from server.sessions.naming import Session
from server.sessions.reconcile import Addition, After, Habit, Knowledge, KnownTurn, Step
from server.sessions.records import AnsweredTurn, Found
from server.sessions.transcript import Transcript, digest_of
from tests.support.databases import opened

MINA, OTHER = Session("", "mina"), Session("", "other")
ONE: list[AnyMessage] = [HumanMessage("one"), AIMessage("1")]
TWO: list[AnyMessage] = [*ONE, HumanMessage("two"), AIMessage("2")]
CALLING: list[AnyMessage] = [HumanMessage("ask"), AIMessage("", tool_calls=[ToolCall(name="f", args={}, id="c")])]


@dataclass(frozen=True)
class Index:
    """An index, and the saver beside it."""

    sessions: SessionIndex
    saver: ThreadSaver

    async def find(self, session: Session, messages: Sequence[AnyMessage]) -> Found:
        """Find where messages go on, sent by a client that sends all."""
        return await self.sessions.find(session, Transcript.of(messages), "auto", "chat-agent", self.saver)

    async def known(self, session: Session, messages: Sequence[AnyMessage]) -> Knowledge:
        """Return what a session knows of messages."""
        return (await self.find(session, messages)).known


@pytest.fixture
async def index(database_url: str) -> AsyncIterator[Index]:
    async with opened(database_url) as (saver, sessions):
        yield Index(sessions, saver)


async def enter(
    index: Index,
    session: Session,
    said: Sequence[AnyMessage],
    after: KnownTurn | None = None,
    *,
    agent: str = "chat-agent",
    waiting: Sequence[str] = (),
    habit: Habit | None = None,
) -> KnownTurn:
    """Store a turn that ends what was said, with one checkpoint, and return it as it is known afterwards."""
    checkpoint = empty_checkpoint()
    config: RunnableConfig = {"configurable": {"thread_id": session.thread_id, "checkpoint_ns": ""}}
    turn = AnsweredTurn(
        step=Step(after, said),
        asked=digest_of(said[:-1]),
        digest=digest_of(said),
        waiting=waiting,
        checkpoint_id=checkpoint["id"],
        agent=agent,
        habit=habit,
        response=None,
        standing=(),
    )
    await index.sessions.store(session, turn, [PutCheckpoint(config, checkpoint, {"source": "loop", "step": 0}, {})])
    newest = await index.sessions.end_of_branch(session, None)
    assert newest is not None
    return newest


async def test_a_session_begins_with_its_first_turn(index: Index) -> None:
    assert await index.sessions.get(MINA) is None
    assert (await index.known(MINA, ONE[:1])).newest is None
    await enter(index, MINA, ONE)
    record = await index.sessions.get(MINA)
    assert record is not None
    assert (record.turns, record.branches, record.waiting, record.is_single) == (1, 1, False, True)
    assert record.agent == "chat-agent"


async def test_a_turn_is_stored_with_what_its_run_put_or_not_at_all(index: Index) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": MINA.thread_id, "checkpoint_ns": ""}}
    put = PutCheckpoint(config, empty_checkpoint(), {"source": "loop", "step": 0}, {})
    said = PutWrites(put.own_config, [("messages", "said")], "task", "")
    turn = AnsweredTurn(
        step=Step(None, ONE),
        asked=b"",
        digest=b"",
        waiting=(),
        checkpoint_id=put.checkpoint["id"],
        agent="a",
        habit=None,
        response=None,
        standing=(),
    )
    broken = replace(turn, asked=object())  # type: ignore[arg-type]
    with pytest.raises((sqlite3.Error, DatabaseFailed)):
        await index.sessions.store(MINA, broken, [put, said])
    assert await index.saver.aget_tuple(config) is None
    assert await index.sessions.get(MINA) is None
    await index.sessions.store(MINA, turn, [put, said])
    stored = await index.saver.aget_tuple(config)
    assert stored is not None
    assert (stored.checkpoint["id"], stored.pending_writes) == (put.checkpoint["id"], [("task", "messages", "said")])


async def test_the_checkpoint_of_a_step_is_loaded_and_known_as_the_latest_or_not(index: Index) -> None:
    one = await enter(index, MINA, ONE)
    two = await enter(index, MINA, TWO, one)
    latest = await index.find(MINA, [*TWO, HumanMessage("three")])
    earlier = await index.find(MINA, [*ONE, HumanMessage("x")])
    root = await index.find(MINA, [HumanMessage("a"), AIMessage("b"), HumanMessage("c")])
    new = await index.find(OTHER, ONE[:1])
    for found, turn, is_latest in ((latest, two, True), (earlier, one, False), (root, None, False), (new, None, True)):
        loaded = found.start.checkpoint
        assert (found.step.after, found.is_latest) == (turn, is_latest)
        assert (loaded.checkpoint["id"] if loaded else None) == (turn.checkpoint_id if turn else None)


async def test_what_was_entered_is_recalled(index: Index) -> None:
    assert (await index.known(MINA, ONE)).newest is None
    one = await enter(index, MINA, ONE, habit="full")
    two = await enter(index, MINA, TWO, one, agent="poet")
    known = await index.known(MINA, [*TWO, HumanMessage("three")])
    assert (known.newest, known.turns[two.digest], known.habit) == (two, two, None)
    assert (two.number, two.agent, one.number) == (2, "poet", 1)
    edited = await index.known(MINA, [*ONE, HumanMessage("x")])
    assert (edited.newest, edited.turns) == (two, {one.digest: one})


async def test_a_long_history_finds_its_end_and_a_short_one_too(index: Index) -> None:
    said: list[AnyMessage] = []
    turn = None
    for number in range(40):
        said += [HumanMessage(str(number)), AIMessage(f"{number}.")]
        turn = await enter(index, MINA, said, turn)
    for length in (2, 10, 80):
        known = await index.known(MINA, [*said[:length], HumanMessage("and?")])
        assert max(turn.number for turn in known.turns.values()) == length // 2


async def test_the_first_child_stays_on_its_branch_and_others_begin_one(index: Index) -> None:
    one = await enter(index, MINA, ONE)
    two = await enter(index, MINA, TWO, one)
    edited = await enter(index, MINA, [*ONE, HumanMessage("2nd"), AIMessage("b")], one)
    root = await enter(index, MINA, [HumanMessage("x"), AIMessage("y")])
    ends = [await index.sessions.end_of_branch(MINA, branch) for branch in (1, 2, 3, 4, None)]
    assert ends == [two, edited, root, None, root]


async def test_a_turn_that_waits_is_found_by_its_call(index: Index) -> None:
    paused = await enter(index, MINA, CALLING, waiting=["c"])
    results: list[AnyMessage] = [ToolMessage("found", tool_call_id="c")]
    assert await index.sessions.waiting_for("", results) == MINA
    assert await index.sessions.waiting_for("", [ToolMessage("found", tool_call_id="d")]) is None
    assert await index.sessions.waiting_for("somebody", results) is None
    assert (await index.known(MINA, results)).paused == {"c": paused}
    await enter(index, MINA, [*CALLING, *results, AIMessage("done")], paused)
    assert (await index.known(MINA, [*CALLING, *results])).paused["c"].is_followed


async def test_a_thread_is_one_principal_s(index: Index) -> None:
    await enter(index, MINA, ONE)
    stranger = Session("", MINA.thread_id)  # an id that is the thread's own
    assert stranger.thread_id == MINA.thread_id
    with pytest.raises(NotFound):
        await index.known(stranger, ONE)
    assert await index.sessions.get(stranger) is None


async def test_sessions_are_listed_the_last_used_first(index: Index) -> None:
    sessions = [Session("mina's key", f"s{number}") for number in range(5)]
    for session in sessions:
        await enter(index, session, ONE)
    await enter(index, OTHER, ONE)
    first = await index.sessions.page("mina's key", limit=3, after=None)
    rest = await index.sessions.page("mina's key", limit=3, after=first[-1].session)
    assert [record.session for record in [*first, *rest]] == sessions[::-1]
    with pytest.raises(NotFound):
        await index.sessions.page("mina's key", limit=3, after=Session("mina's key", "nobody"))


async def test_a_reset_session_keeps_its_id_and_a_deleted_one_nothing(index: Index) -> None:
    for session in (MINA, OTHER):
        await enter(index, session, ONE, habit="full")
    await index.sessions.reset(MINA)
    await index.sessions.delete(OTHER)
    record = await index.sessions.get(MINA)
    assert record is not None
    assert (record.turns, record.branches) == (0, 0)
    assert (await index.known(MINA, ONE)).habit is None
    assert await index.sessions.get(OTHER) is None


async def test_turns_without_their_checkpoints_are_lost(index: Index) -> None:
    await enter(index, MINA, ONE)
    await index.saver.adelete_thread(MINA.thread_id)
    assert (await index.find(MINA, [*ONE, HumanMessage("?")])).step.after is None
    record = await index.sessions.get(MINA)
    assert record is not None
    assert (record.turns, record.branches) == (0, 0)


async def test_an_empty_session_is_idle_as_soon_as_any(index: Index) -> None:
    one = await enter(index, MINA, ONE)
    await enter(index, MINA, TWO, one)
    await index.sessions.reset(MINA)
    now = time.time() + 1
    assert await index.sessions.idle_since(now, 0, limit=10) == [MINA]
    assert await index.sessions.idle_since(0, now, limit=10) == [MINA]


async def test_a_session_of_one_turn_is_idle_sooner(index: Index) -> None:
    one = await enter(index, MINA, ONE)
    await enter(index, OTHER, ONE)
    await enter(index, MINA, TWO, one)
    now = time.time() + 1
    assert await index.sessions.idle_since(now, 0, limit=10) == [OTHER]
    assert {*await index.sessions.idle_since(now, now, limit=10)} == {MINA, OTHER}
    assert len(await index.sessions.idle_since(now, now, limit=1)) == 1
    assert await index.sessions.idle_since(0, 0, limit=10) == []


async def test_nothing_follows_a_session_that_is_not_there(index: Index) -> None:
    """Since it was deleted while the request waited for it."""
    transcript = Transcript.of([HumanMessage("go on")])
    with pytest.raises(InvalidRequest) as raised:
        await index.sessions.find(MINA, transcript, After("resp_1"), "chat-agent", index.saver)
    assert raised.value.code == "previous_response_not_found"
    for place in (After(), Addition()):
        with pytest.raises(NotFound):
            await index.sessions.find(MINA, transcript, place, "chat-agent", index.saver)
