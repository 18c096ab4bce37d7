"""What every session index does, whatever database it is in."""

import time
from collections.abc import AsyncIterator, Sequence

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage

from server.errors import NotFound
from server.sessions.index import AnsweredTurn, SessionIndex
from server.sessions.naming import Session
from server.sessions.reconcile import Habit, KnownTurn, Step
from server.sessions.transcript import Transcript, digest_of
from tests.support.databases import URLS, opened

MINA, OTHER = Session("", "mina"), Session("", "other")
ONE: list[AnyMessage] = [HumanMessage("one"), AIMessage("1")]
TWO: list[AnyMessage] = [*ONE, HumanMessage("two"), AIMessage("2")]
CALLING: list[AnyMessage] = [HumanMessage("ask"), AIMessage("", tool_calls=[ToolCall(name="f", args={}, id="c")])]


@pytest.fixture(params=URLS)
async def index(request: pytest.FixtureRequest) -> AsyncIterator[SessionIndex]:
    async with opened(request.param) as (_, index):
        yield index


async def enter(
    index: SessionIndex,
    session: Session,
    said: Sequence[AnyMessage],
    after: KnownTurn | None = None,
    *,
    agent: str = "chat-agent",
    waiting: Sequence[str] = (),
    habit: Habit | None = None,
) -> KnownTurn:
    """Enter a turn that ends what was said, and return it as it is known afterwards."""
    await index.begin(session)
    turn = AnsweredTurn(
        step=Step(after, said),
        asked=digest_of(said[:-1]),
        digest=digest_of(said),
        waiting=waiting,
        checkpoint_id=f"after {len(said)}",
        agent=agent,
        habit=habit,
    )
    await index.enter(session, turn)
    newest = (await index.recall(session, Transcript.of(said))).newest
    assert newest is not None
    return newest


async def test_a_session_begins_once_and_is_taken_back_while_nothing_was_answered(index: SessionIndex) -> None:
    assert (await index.begin(MINA), await index.begin(MINA)) == (True, False)
    await index.withdraw(MINA)
    assert await index.get(MINA) is None
    await enter(index, MINA, ONE)
    await index.withdraw(MINA)
    record = await index.get(MINA)
    assert record is not None
    assert (record.turns, record.branches, record.waiting, record.is_single) == (1, 1, False, True)
    assert record.agent == "chat-agent"


async def test_what_was_entered_is_recalled(index: SessionIndex) -> None:
    assert (await index.recall(MINA, Transcript.of(ONE))).newest is None
    one = await enter(index, MINA, ONE, habit="full")
    two = await enter(index, MINA, TWO, one, agent="poet")
    known = await index.recall(MINA, Transcript.of([*TWO, HumanMessage("three")]))
    assert (known.newest, known.turns[two.digest], known.habit) == (two, two, None)
    assert (two.number, two.agent, two.checkpoint_id, one.number) == (2, "poet", "after 4", 1)
    edited = await index.recall(MINA, Transcript.of([*ONE, HumanMessage("x")]))
    assert (edited.newest, edited.turns) == (two, {one.digest: one})


async def test_a_long_history_finds_its_end_and_a_short_one_too(index: SessionIndex) -> None:
    said: list[AnyMessage] = []
    turn = None
    for number in range(40):
        said += [HumanMessage(str(number)), AIMessage(f"{number}.")]
        turn = await enter(index, MINA, said, turn)
    for length in (2, 10, 80):
        known = await index.recall(MINA, Transcript.of([*said[:length], HumanMessage("and?")]))
        assert max(turn.number for turn in known.turns.values()) == length // 2


async def test_the_first_child_stays_on_its_branch_and_others_begin_one(index: SessionIndex) -> None:
    one = await enter(index, MINA, ONE)
    two = await enter(index, MINA, TWO, one)
    edited = await enter(index, MINA, [*ONE, HumanMessage("2nd"), AIMessage("b")], one)
    root = await enter(index, MINA, [HumanMessage("x"), AIMessage("y")])
    ends = [await index.end_of_branch(MINA, branch) for branch in (1, 2, 3, 4, None)]
    assert ends == [two, edited, root, None, root]


async def test_a_turn_that_waits_is_found_by_its_call(index: SessionIndex) -> None:
    paused = await enter(index, MINA, CALLING, waiting=["c"])
    results: list[AnyMessage] = [ToolMessage("found", tool_call_id="c")]
    assert await index.waiting_for("", results) == MINA
    assert await index.waiting_for("", [ToolMessage("found", tool_call_id="d")]) is None
    assert await index.waiting_for("somebody", results) is None
    assert (await index.recall(MINA, Transcript.of(results))).paused == {"c": paused}
    await enter(index, MINA, [*CALLING, *results, AIMessage("done")], paused)
    assert (await index.recall(MINA, Transcript.of(results))).paused["c"].is_followed


async def test_a_thread_is_one_principal_s(index: SessionIndex) -> None:
    await enter(index, MINA, ONE)
    stranger = Session("", MINA.thread_id)  # an id that is the thread's own
    assert stranger.thread_id == MINA.thread_id
    with pytest.raises(NotFound):
        await index.recall(stranger, Transcript.of(ONE))
    assert await index.get(stranger) is None


async def test_sessions_are_listed_the_last_used_first(index: SessionIndex) -> None:
    sessions = [Session("mina's key", f"s{number}") for number in range(5)]
    for session in sessions:
        await enter(index, session, ONE)
    await enter(index, OTHER, ONE)
    first = await index.page("mina's key", limit=3, after=None)
    rest = await index.page("mina's key", limit=3, after=first[-1].session)
    assert [record.session for record in [*first, *rest]] == sessions[::-1]
    with pytest.raises(NotFound):
        await index.page("mina's key", limit=3, after=Session("mina's key", "nobody"))


async def test_a_reset_session_keeps_its_id_and_a_deleted_one_nothing(index: SessionIndex) -> None:
    for session in (MINA, OTHER):
        await enter(index, session, ONE, habit="full")
    await index.reset(MINA)
    await index.delete(OTHER)
    record = await index.get(MINA)
    assert record is not None
    assert (record.turns, record.branches) == (0, 0)
    assert (await index.recall(MINA, Transcript.of(ONE))).habit is None
    assert await index.get(OTHER) is None


async def test_turns_without_their_checkpoints_are_lost(index: SessionIndex) -> None:
    await enter(index, MINA, ONE)
    await index.forget_lost_turns(MINA)
    record = await index.get(MINA)
    assert record is not None
    assert (record.turns, record.branches) == (0, 0)


async def test_a_session_of_one_turn_is_idle_sooner(index: SessionIndex) -> None:
    one = await enter(index, MINA, ONE)
    await enter(index, OTHER, ONE)
    await enter(index, MINA, TWO, one)
    now = time.time() + 1
    assert await index.idle_since(now, 0, limit=10) == [OTHER]
    assert {*await index.idle_since(now, now, limit=10)} == {MINA, OTHER}
    assert len(await index.idle_since(now, now, limit=1)) == 1
    assert await index.idle_since(0, 0, limit=10) == []
