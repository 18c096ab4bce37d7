"""One turn of a session: where it goes on is found, the graph runs, and what came of it is entered."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage, ToolCall
from langchain_core.runnables import RunnableConfig

from graph.agent import Agent
from graph.events import RunEvent
from graph.factory import Assembly
from graph.flow import Flow, flow_of_run
from graph.history import client_calls, unanswered
from graph.state import TurnContext
from server.errors import InvalidRequest
from server.index import AnsweredTurn, SessionIndex
from server.pairing import UnpairedMessage, check_paired, unanswered_calls
from server.reconcile import Habit, Knowledge, Mode, NewRoot, Step, habit_after, reconcile, whole_transcript
from server.sessions import Session
from server.stream import Speech
from server.transcript import Transcript
from tools.tasks import to_the_end

# Steps of LangGraph; the graph's own bound on tool rounds ends a turn long before.
RECURSION_LIMIT = 1000
CUT_SHORT = "cut_short"
# An id that no checkpoint has; LangGraph then starts from an empty state.
NOWHERE = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request in native terms: its session, its messages without system ones, and what it asks for itself."""

    session: Session
    is_named: bool = True
    """Whether its client named the session; one that it did not name goes when its first turn fails."""
    mode: Mode
    stored: bool
    messages: Sequence[AnyMessage]
    context: TurnContext
    positions: Mapping[str | None, int] = field(default_factory=dict)
    """Where in the request each message stood, by its id."""

    def check_paired(self) -> None:
        """See that the request's tool results follow their calls.

        Raises:
            InvalidRequest: they do not.
        """
        try:
            check_paired(self.messages)
        except UnpairedMessage as error:
            raise self.refusal(error) from error

    def step(self, known: Knowledge, transcript: Transcript) -> Step:
        """Return where the turn goes on, given what its session knows.

        Raises:
            InvalidRequest: tool results without their calls, or only some of those that are waited for.
        """
        try:
            return reconcile(known, transcript, self.mode)
        except UnpairedMessage as error:
            raise self.refusal(error) from error

    def refusal(self, error: UnpairedMessage) -> InvalidRequest:
        """Return what the client is told of calls and results that do not fit."""
        position = self.positions.get(error.at.id) if error.at else None
        param = "messages" if position is None else f"messages.[{position}].role"
        return InvalidRequest(str(error), param=param)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in its session's tree a turn goes on, found under the session's lock."""

    step: Step
    transcript: Transcript
    """All that was said up to and with the request."""
    habit: Habit | None
    is_first: bool
    """Whether no turn of the session was answered before."""
    checkpoint_id: str
    """The checkpoint that the turn follows."""
    config: RunnableConfig
    """LangGraph's config for a run from there."""
    written_last: str | None
    """The checkpoint of the thread that was written before."""


async def run_turn(assembly: Assembly, index: SessionIndex, turn: Turn) -> AsyncGenerator[RunEvent]:
    """Yield the turn's message chunks and tool results; when it ends, the turn is on disk.

    A turn that is stopped keeps the user's message and the text that was sent. A turn that fails leaves nothing, nor a
    session that nobody named: it was not acknowledged, and clients send a failed request again.
    """
    place = await find_place(assembly, index, turn)
    written = assembly.checkpointer.noting()
    speech = Speech()
    waiting: tuple[str, ...] = ()
    begun = False
    options = {"config": place.config, "durability": "exit"}
    try:
        begun = place.is_first and await to_the_end(index.begin(turn.session))
        await assembly.toolbox.settled()
        async with aclosing(run_graph(assembly.agent, place.step.messages, turn.context, **options)) as messages:
            async for message in messages:
                yield message
                if isinstance(message, AIMessageChunk):
                    speech.hear(message.id, str(message.text))  # what nobody took was not said
                elif isinstance(message, AIMessage):
                    waiting = tuple(client_calls(message))
    except (asyncio.CancelledError, GeneratorExit):
        await to_the_end(enter_cut_short(assembly, index, turn.session, place, speech))
        raise
    except Exception:
        await to_the_end(assembly.checkpointer.forget(turn.session.thread_id, written))
        if begun and not turn.is_named:
            await to_the_end(index.withdraw(turn.session))
        raise
    await to_the_end(enter(assembly, index, turn.session, place, speech, waiting))


async def run_unstored(
    assembly: Assembly, messages: Sequence[AnyMessage], context: TurnContext
) -> AsyncGenerator[RunEvent]:
    """Yield what a run of the messages yields, and leave nothing behind."""
    await assembly.toolbox.settled()
    config: RunnableConfig = {"recursion_limit": RECURSION_LIMIT}
    async with aclosing(run_graph(assembly.unstored_agent, messages, context, config=config)) as run:
        async for message in run:
            yield message


async def run_graph(
    agent: Agent, messages: Sequence[AnyMessage], context: TurnContext, **options: Any
) -> AsyncGenerator[RunEvent]:
    """Yield the chunks of the model's messages as they come, each message whole when its step is done, and progress."""
    flow = Flow()
    flow_of_run.set(flow)
    run: Any = agent.astream(
        {"messages": list(messages)}, context=context, stream_mode=["messages", "updates", "custom"], **options
    )
    async with aclosing(run) as events:
        async for mode, event in events:
            match mode:
                case "custom":
                    yield event  # the progress of a tool
                case "messages" if isinstance(event[0], AIMessageChunk):
                    yield event[0]
                    flow.take()
                case "updates":
                    for message in whole_messages(event):
                        yield message


def whole_messages(update: Mapping[str, Mapping[str, Sequence[BaseMessage]]]) -> list[BaseMessage]:
    """Return the messages of the nodes that are done."""
    return [message for written in update.values() for message in written["messages"]]


async def find_place(assembly: Assembly, index: SessionIndex, turn: Turn) -> Place:
    """Reconcile the request with what its session knows.

    Raises:
        InvalidRequest: tool results without their calls, or only some of those that are waited for.
        NotFound: the session's thread is another principal's.
    """
    transcript = Transcript.of(turn.messages)
    thread = turn.session.thread_id
    known = await index.recall(turn.session, transcript)
    step = turn.step(known, transcript)
    latest, is_there = await assembly.checkpointer.latest(thread, checkpoint_before(step))
    if not is_there and not isinstance(step, NewRoot):  # it was deleted behind the index, as Studio can
        await index.forget_lost_turns(turn.session)
        known = await index.recall(turn.session, transcript)
        step = turn.step(known, transcript)
    at: dict[str, str] = {"thread_id": thread, "checkpoint_ns": ""}
    checkpoint_id = checkpoint_before(step)
    if latest is not None and checkpoint_id != latest:
        # Only then: what follows a checkpoint named by its id is stored with a copy of all before it.
        at["checkpoint_id"] = checkpoint_id
    return Place(
        step=step,
        is_first=known.newest is None,
        checkpoint_id=checkpoint_id,
        written_last=await assembly.checkpointer.written_last(thread),
        transcript=whole_transcript(step, transcript),
        habit=habit_after(known, turn.messages, step) if turn.mode == "auto" else known.habit,
        config={"configurable": at, "recursion_limit": RECURSION_LIMIT},
    )


def checkpoint_before(step: Step) -> str:
    """Return the checkpoint that a step follows."""
    return NOWHERE if isinstance(step, NewRoot) else step.turn.checkpoint_id


async def enter_cut_short(
    assembly: Assembly, index: SessionIndex, session: Session, place: Place, speech: Speech
) -> None:
    """Leave a checkpoint that can be gone on from: the request, the text that was sent, a result for every call.

    What LangGraph shows of a stopped run has messages in it that only the run's next step would have stored, so all of
    the turn is written again; it replaces what is there under the same ids.
    """
    await assembly.checkpointer.idle()  # a write of the run may have outlived it
    written = await assembly.checkpointer.written_last(session.thread_id)
    if written == place.written_last:  # stopped before the graph had taken the request in
        config, turn = place.config, list(place.step.messages)
    else:
        config = {"configurable": {"thread_id": session.thread_id, "checkpoint_ns": ""}}
        before = {message.id for message in await stored_messages(assembly, session, place.checkpoint_id)}
        turn = [message for message in await stored_messages(assembly, session, written) if message.id not in before]
    said = [as_said(message, speech, {message.id for message in place.step.messages}) for message in turn]
    await assembly.agent.aupdate_state(config, {"messages": closed(said, speech)}, as_node="model")
    await enter(assembly, index, session, place, speech, ())


async def stored_messages(assembly: Assembly, session: Session, checkpoint_id: str | None) -> list[AnyMessage]:
    """Return the messages of a session at a checkpoint; none where there is no such checkpoint."""
    at: RunnableConfig = {"configurable": {"thread_id": session.thread_id, "checkpoint_id": checkpoint_id}}
    messages: list[AnyMessage] = (await assembly.agent.aget_state(at)).values.get("messages", [])
    return messages


def as_said(message: AnyMessage, speech: Speech, asked: Collection[str | None]) -> AnyMessage:
    """Return a message of the turn with no more text than the client was sent."""
    if not isinstance(message, AIMessage) or message.id in asked:
        return message
    said = speech.texts.get(message.id, "")
    if said == str(message.text):
        return message
    return message.model_copy(update={"content": said, "response_metadata": {"finish_reason": CUT_SHORT}})


def closed(turn: Sequence[AnyMessage], speech: Speech) -> list[AnyMessage]:
    """Return the turn with what was being said at its end, and a result for every call."""
    known = {message.id for message in turn}
    saying = [
        AIMessage(text, id=message_id, response_metadata={"finish_reason": CUT_SHORT})
        for message_id, text in speech.texts.items()
        if text and message_id not in known
    ]
    return [*turn, *map(unanswered, unanswered_calls(turn)), *saying]


async def enter(
    assembly: Assembly, index: SessionIndex, session: Session, place: Place, speech: Speech, waiting: Sequence[str]
) -> None:
    """Make the newest checkpoint of the thread a turn of its session."""
    checkpoint_id = await assembly.checkpointer.written_last(session.thread_id)
    assert checkpoint_id is not None
    calls = [ToolCall(name="", args={}, id=call, type="tool_call") for call in waiting]
    turn = AnsweredTurn(
        step=place.step,
        asked=place.transcript.digest,
        digest=place.transcript.with_answer(AIMessage(speech.text, tool_calls=calls)),
        waiting=waiting,
        checkpoint_id=checkpoint_id,
        habit=place.habit,
    )
    await index.enter(session, turn)
