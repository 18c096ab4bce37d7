"""One turn of a session: find where it goes on, run the graph there, store the result."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from langchain_core.messages import AIMessage, AnyMessage

from graph.approval import REFUSED, Decisions
from graph.assembly import Assembly
from graph.event_queue import EventQueue
from graph.history import unanswered
from graph.run import NOWHERE, Position
from graph.state import MESSAGES, TurnContext
from graph.storage.run_saver import RunSaver
from server.errors import ApiError, InvalidRequest, RunCancelled, SessionBusy
from server.http.foreign_errors import as_api_error
from server.messages.tool_results import UnpairedMessage, unanswered_calls
from server.sessions.approval import AskedCall, decisions_in, without_answers
from server.sessions.index import SessionIndex
from server.sessions.limits import SessionLimits, check_quota
from server.sessions.place import Place, calling
from server.sessions.reconcile import Approving, Step, habit_after, whole_transcript
from server.sessions.records import AnsweredTurn
from server.sessions.speech import Speech, open_calls
from server.sessions.stored_messages import agent_of, turn_messages
from server.sessions.transcript import Transcript
from server.sessions.turn_request import TurnRequest, inheriting, standing_after
from tools.tasks import to_the_end

CUT_SHORT = "cut_short"


class Turn:
    """A turn of a stored session.

    Args:
        request: what is asked.
        assembly: the agents.
        index: the sessions.
        limits: how much the session may have to go on.
    """

    def __init__(self, request: TurnRequest, assembly: Assembly, index: SessionIndex, limits: SessionLimits) -> None:
        self._request, self._session, self._limits = request, request.session, limits
        self._assembly, self._index = assembly, index
        self._agent = agent_of(assembly, request.agent)

    async def run(self, queue: EventQueue) -> None:
        """Run the turn; when it ends, the reader of the queue has taken all events, and the turn is on disk.

        A turn that is stopped keeps the user's message and the text that was sent. A turn that fails leaves nothing: it
        was not acknowledged, and clients send a failed request again.

        Raises:
            ApiError: tool results without their calls, or only some of those that are waited for; or the session is too
                large to go on, or the key has stored as much as it may.
            NotFound: the session's thread is another principal's.
        """
        place = await self._find()
        saver = self._saver_at(place)
        try:
            context = replace(inheriting(self._request, place.step.after), decisions=place.decisions)
            awaited = await self._agent.run(place.given, context, queue, after=place.position, saver=saver)
            awaits, told = self._request.ask(awaited) if awaited else ((), ())
            queue.tell_all(told)
            await queue.all_taken()
        except asyncio.CancelledError as cancelled:
            await to_the_end(self._store_cut(place, saver, queue, left_over(cancelled)))
            raise
        waiting = [*place.still_open, *open_calls(queue.events)]
        digest = place.digest_with(Speech.of(queue.events), waiting)
        queue.complete()
        await to_the_end(self._store(place, saver, queue, digest, waiting, awaits, context))

    async def add(self) -> None:
        """Add the messages to the session as a turn that is not answered.

        Raises:
            ApiError: as when it is run.
        """
        place = await self._find()
        saver = self._saver_at(place)
        if place.decisions and any(decision.approved for decision in place.decisions.calls.values()):
            raise InvalidRequest("An approval begins a run: send it with a request for an answer.", param="messages")
        after = place.step.after
        given = without_answers(after.awaits, place.step.messages, REFUSED) if after else place.given
        await self._agent.amend(place.position, given, saver)
        before = set(after.waiting) - {call.asked_as for call in after.awaits} if after else ()
        waiting = unanswered_calls([calling([*before]), *given])
        await to_the_end(self._store(place, saver, EventQueue(), place.transcript.digest, waiting))

    async def _find(self) -> Place:
        """Reconcile the request with what its session knows."""
        if self._request.quota:
            await check_quota(self._index, self._session, self._request.quota)
        transcript = Transcript.of(self._request.messages)
        try:
            found = await self._index.find(
                self._session, transcript, self._request.mode, self._request.agent, self._agent.saver
            )
        except UnpairedMessage as error:
            raise self._request.refuse(error) from error
        step = found.step
        self._limits.check(found.start.length(MESSAGES), found.known.stored)
        checkpoint_id: str | None = NOWHERE
        decisions, given = self._decided(step)
        if step.after and step.after.agent != self._request.agent:
            # A graph cannot read another graph's checkpoints: it begins anew, with the conversation so far.
            given = without_answers(step.after.awaits, step.messages, REFUSED)
            given = [*await turn_messages(self._assembly, self._session, step.after), *given]
            decisions = None
        elif found.is_latest:
            checkpoint_id = None  # LangGraph copies the whole state into a checkpoint that follows a named one
        elif step.after:
            checkpoint_id = step.after.checkpoint_id
        is_auto = self._request.mode == "auto"
        return Place(
            step=step,
            given=given,
            transcript=whole_transcript(step, transcript),
            habit=habit_after(found.known, self._request.messages, step) if is_auto else found.known.habit,
            position=Position(self._session.thread_id, checkpoint_id),
            start=found.start,
            decisions=decisions,
            is_seen=not isinstance(self._request.mode, Approving),
        )

    def _decided(self, step: Step) -> tuple[Decisions | None, list[AnyMessage]]:
        """Return what the request decides about the calls that the turn before waits with, and its other messages."""
        awaits = step.after.awaits if step.after else ()
        if not isinstance(self._request.mode, Approving):
            return decisions_in(awaits, step.messages)
        if not awaits:
            raise SessionBusy("Nothing in this session waits for approval.", code="nothing_to_approve")
        return self._request.mode.decide(awaits), []

    def _saver_at(self, place: Place) -> RunSaver:
        return RunSaver(self._agent.saver, place.start, place.position.checkpoint_id)

    async def _store(
        self,
        place: Place,
        saver: RunSaver,
        queue: EventQueue,
        digest: bytes,
        waiting: Sequence[str] = (),
        awaits: Sequence[AskedCall] = (),
        context: TurnContext | None = None,
        stopped: ApiError | None = None,
    ) -> None:
        """Store what was written and told, as a turn of the session; it waits for the results of these calls."""
        assert saver.last_checkpoint_id is not None
        record = self._request.record
        turn = AnsweredTurn(
            step=place.step,
            asked=place.transcript.digest,
            digest=digest,
            waiting=waiting,
            checkpoint_id=saver.last_checkpoint_id,
            agent=self._request.agent,
            habit=place.habit,
            response=record(queue.events, place.step.messages, stopped) if record else None,
            standing=standing_after(self._request, place.step.after),
            awaits=awaits,
            context=context,
            summaries=queue.summaries,
        )
        await self._index.store(self._session, turn, saver.puts)

    async def _store_cut(
        self, place: Place, saver: RunSaver, queue: EventQueue, still_ending: Sequence[asyncio.Task[object]]
    ) -> None:
        """Store a turn that was stopped: the request, the text that was sent, a result for every call.

        LangGraph's state of a stopped run contains messages that only its next step would have stored, so the whole
        turn is written again; messages with the same ids are replaced.
        """
        speech = Speech.of(queue.events)
        if still_ending:
            await asyncio.wait(still_ending)
        if saver.last_checkpoint_id is None:  # stopped before the graph had taken the request in
            position, turn = place.position, list(place.given)
        else:
            position = Position(self._session.thread_id)
            before = {message.id for message in await self._agent.read(place.position, self._saver_at(place))}
            turn = [message for message in await self._agent.read(position, saver) if message.id not in before]
        as_said = [self._as_said(message, place, speech) for message in turn]
        await self._agent.amend(position, self._closed(as_said, place.undecided, speech), saver)
        stopped = as_api_error(queue.stopped or RunCancelled())
        await self._store(place, saver, queue, place.digest_with(speech), stopped=stopped)

    def _as_said(self, message: AnyMessage, place: Place, speech: Speech) -> AnyMessage:
        """Return a message of the turn with no more text than the client was sent."""
        if not isinstance(message, AIMessage) or any(message.id == asked.id for asked in place.given):
            return message
        said = speech.texts.get(message.id, "")
        if said == str(message.text):
            return message
        return message.model_copy(update={"content": said, "response_metadata": {"finish_reason": CUT_SHORT}})

    def _closed(self, turn: Sequence[AnyMessage], undecided: Sequence[str], speech: Speech) -> list[AnyMessage]:
        """Return the turn with a result for every call, those from before it included, and the unfinished answer."""
        known = {message.id for message in turn}
        saying = [
            AIMessage(text, id=message_id, response_metadata={"finish_reason": CUT_SHORT})
            for message_id, text in speech.texts.items()
            if text and message_id not in known
        ]
        return [*turn, *map(unanswered, unanswered_calls([calling(undecided), *turn])), *saying]


def left_over(cancelled: asyncio.CancelledError) -> list[asyncio.Task[object]]:
    """Return LangGraph's tasks that still end a run whose end was cancelled too: it hands them on in the exception."""
    return [left for left in cancelled.args if isinstance(left, asyncio.Task)]
