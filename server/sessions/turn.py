"""One turn of a session: find where it goes on, run the graph there, store the result."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage, ToolCall

from graph.assembly import Assembly
from graph.events import ClientCall, Refusal, RunEvent, Text
from graph.history import unanswered
from graph.run import NOWHERE, Position
from graph.state import OUR_AGENT, TurnContext
from graph.storage.saver import noting
from server.errors import ApiError, NotFound
from server.messages.tool_results import UnpairedMessage, unanswered_calls
from server.sessions.index import AnsweredTurn, SessionIndex
from server.sessions.naming import Session
from server.sessions.reconcile import Habit, KnownTurn, Mode, Step, habit_after, reconcile, whole_transcript
from server.sessions.speech import Speech
from server.sessions.transcript import Transcript
from tools.tasks import to_the_end

CUT_SHORT = "cut_short"


@dataclass(frozen=True, kw_only=True)
class TurnRequest:
    """A request in native terms: its session, its messages without system ones, and the context of the turn."""

    agent: str = OUR_AGENT
    """The agent that is asked."""
    session: Session
    is_named: bool
    """Whether the client named the session; one that it did not is deleted if its first turn fails."""
    mode: Mode
    messages: Sequence[AnyMessage]
    context: TurnContext
    refuse: Callable[[UnpairedMessage], ApiError]
    """Makes the protocol's error for calls and results that do not fit."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in its session's tree a turn goes on, found under the session's lock."""

    step: Step
    given: Sequence[AnyMessage]
    """The messages that the run begins with: the new ones, or all if another agent takes over."""
    transcript: Transcript
    """The conversation up to and with the request."""
    habit: Habit | None
    is_first: bool
    """Whether no turn of the session was answered before."""
    checkpoint_id: str
    """The checkpoint that the turn follows."""
    position: Position
    """The same checkpoint, as the run takes it."""
    written_last: str | None
    """The thread's checkpoint that was written last before the turn."""


class Turn:
    """A turn of a stored session."""

    def __init__(self, request: TurnRequest, assembly: Assembly, index: SessionIndex) -> None:
        self._request, self._session = request, request.session
        self._assembly, self._checkpointer, self._index = assembly, assembly.checkpointer, index
        self._agent = assembly.agents[request.agent]
        self._speech = Speech()
        self._waiting: list[str] = []
        """The calls of the client's tools that the turn ends with."""

    async def run(self) -> AsyncGenerator[RunEvent]:
        """Yield the events of the turn; when it ends, the turn is on disk.

        A turn that is stopped keeps the user's message and the text that was sent. A turn that fails leaves nothing,
        not even a session that the client did not name: it was not acknowledged, and clients send a failed request
        again.

        Raises:
            ApiError: tool results without their calls, or only some of those that are waited for.
            NotFound: the session's thread is another principal's.
        """
        place = await self._find()
        written = noting()
        begun = False
        try:
            begun = place.is_first and await to_the_end(self._index.begin(self._session))
            run = self._agent.run(place.given, self._request.context, after=place.position)
            async with aclosing(run) as events:
                async for event in events:
                    yield event
                    self._note(event)  # text that was not taken counts as not said
        except (asyncio.CancelledError, GeneratorExit):
            await to_the_end(self._keep_cut(place))
            raise
        except Exception:
            await to_the_end(self._checkpointer.forget(self._session.thread_id, written))
            if begun and not self._request.is_named:
                await to_the_end(self._index.withdraw(self._session))
            raise
        await to_the_end(self._keep(place))

    async def _find(self) -> Place:
        """Reconcile the request with what its session knows."""
        transcript = Transcript.of(self._request.messages)
        thread = self._session.thread_id
        known = await self._index.recall(self._session, transcript)
        try:
            step = reconcile(known, transcript, self._request.mode)
            latest, is_there = await self._checkpointer.latest(thread, checkpoint_before(step))
            if not is_there and step.after:  # deleted by others, such as Studio
                await self._index.forget_lost_turns(self._session)
                known = await self._index.recall(self._session, transcript)
                step = reconcile(known, transcript, self._request.mode)
        except UnpairedMessage as error:
            raise self._request.refuse(error) from error
        checkpoint_id, given = checkpoint_before(step), list(step.messages)
        if step.after and step.after.agent != self._request.agent:
            # A graph cannot read another graph's checkpoints: it begins anew, with the conversation so far.
            given = [*await turn_messages(self._assembly, self._session, step.after), *given]
            checkpoint_id = NOWHERE
        # The id is given only if necessary: LangGraph copies the whole state into a checkpoint that follows a named
        # one.
        is_latest = latest is None or checkpoint_id == latest
        seen = habit_after(known, self._request.messages, step) if self._request.mode == "auto" else known.habit
        return Place(
            step=step,
            given=given,
            is_first=known.newest is None,
            checkpoint_id=checkpoint_id,
            written_last=await self._checkpointer.written_last(thread),
            transcript=whole_transcript(step, transcript),
            habit=seen,
            position=Position(thread, None if is_latest else checkpoint_id),
        )

    def _note(self, event: RunEvent) -> None:
        match event:
            case Text() | Refusal():
                self._speech.hear(event.message_id, event.text)
            case ClientCall():
                self._waiting.append(event.call_id)

    async def _keep(self, place: Place) -> None:
        """Make the newest checkpoint of the thread a turn of its session."""
        checkpoint_id = await self._checkpointer.written_last(self._session.thread_id)
        assert checkpoint_id is not None
        calls = [ToolCall(name="", args={}, id=call, type="tool_call") for call in self._waiting]
        turn = AnsweredTurn(
            step=place.step,
            asked=place.transcript.digest,
            digest=place.transcript.with_answer(AIMessage(self._speech.text, tool_calls=calls)),
            waiting=self._waiting,
            checkpoint_id=checkpoint_id,
            agent=self._request.agent,
            habit=place.habit,
        )
        await self._index.enter(self._session, turn)

    async def _keep_cut(self, place: Place) -> None:
        """Store a turn that was stopped: the request, the text that was sent, a result for every call.

        LangGraph's state of a stopped run contains messages that only its next step would have stored, so the whole
        turn is written again; messages with the same ids are replaced.
        """
        await self._checkpointer.idle()  # the run's last write may still be going on
        thread = self._session.thread_id
        written = await self._checkpointer.written_last(thread)
        if written == place.written_last:  # stopped before the graph had stored the request
            position, turn = place.position, list(place.given)
        else:
            position = Position(thread)
            before = {message.id for message in await self._agent.read(Position(thread, place.checkpoint_id))}
            stored = await self._agent.read(Position(thread, written))
            turn = [message for message in stored if message.id not in before]
        await self._agent.amend(position, self._closed([self._as_said(message, place) for message in turn]))
        self._waiting.clear()
        await self._keep(place)

    def _as_said(self, message: AnyMessage, place: Place) -> AnyMessage:
        """Return a message of the turn with no more text than the client was sent."""
        if not isinstance(message, AIMessage) or any(message.id == asked.id for asked in place.given):
            return message
        said = self._speech.texts.get(message.id, "")
        if said == str(message.text):
            return message
        return message.model_copy(update={"content": said, "response_metadata": {"finish_reason": CUT_SHORT}})

    def _closed(self, turn: Sequence[AnyMessage]) -> list[AnyMessage]:
        """Return the turn with a result for every call, and the unfinished answer at its end."""
        known = {message.id for message in turn}
        saying = [
            AIMessage(text, id=message_id, response_metadata={"finish_reason": CUT_SHORT})
            for message_id, text in self._speech.texts.items()
            if text and message_id not in known
        ]
        return [*turn, *map(unanswered, unanswered_calls(turn)), *saying]


async def turn_messages(assembly: Assembly, session: Session, turn: KnownTurn) -> list[AnyMessage]:
    """Return all messages up to and with a turn.

    Raises:
        NotFound: the agent that answered it no longer exists.
    """
    agent = assembly.agents.get(turn.agent)
    if agent is None:
        message = f"The agent {turn.agent!r}, which answered in this session, is not there any more; see AGENTS."
        raise NotFound(message, code="agent_not_found")
    return await agent.read(Position(session.thread_id, turn.checkpoint_id))


def checkpoint_before(step: Step) -> str:
    """Return the checkpoint that a step follows."""
    return step.after.checkpoint_id if step.after else NOWHERE
