"""The sessions as handlers get them: opened by the lifespan, injected by FastAPI."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from opentelemetry import trace

from graph.assembly import Assembly
from graph.state import OUR_AGENT
from server.errors import InvalidRequest, RunCancelled
from server.http.identity import state_of
from server.http.stats import STATS
from server.messages.tool_results import UnpairedMessage, check_paired
from server.sessions.approval import Ask, Form, asking
from server.sessions.conversations import Conversations
from server.sessions.index import SessionIndex
from server.sessions.leases import Leases
from server.sessions.limits import SessionLimits
from server.sessions.naming import Session
from server.sessions.records import ADDED, SessionRecord, unknown_session
from server.sessions.responses import Responses, StoredResponse
from server.sessions.runs import Run, RunOwner
from server.sessions.turn import Turn
from server.sessions.turn_request import TurnRequest
from tools.trace import CONVERSATION


@dataclass(frozen=True)
class Sessions:
    """The agent, the index of its sessions, and the runs in progress."""

    assembly: Assembly
    index: SessionIndex
    runs: RunOwner
    leases: Leases
    limits: SessionLimits
    responses: Responses
    conversations: Conversations
    approve_by_text: bool = False
    """Whether a user's next message may approve a tool call, where its client was asked in words."""

    def asking(self, form: Form, session: Session, new_id: Callable[[int], str] | None = None) -> Ask:
        """Return the way to ask the client of a request for approval; `new_id` makes the ids of items."""
        return asking(form, session_id=session.id, by_text=self.approve_by_text, new_id=new_id)

    def start(self, request: TurnRequest) -> Run:
        """Start a turn of a session."""
        _note(request)
        return self.runs.start(request.session, Turn(request, self.assembly, self.index, self.limits).run)

    async def add(self, request: TurnRequest) -> None:
        """Add messages to a session, which is held, without an answer.

        Raises:
            ApiError: they do not fit there, or the session may not go on.
        """
        await Turn(request, self.assembly, self.index, self.limits).add()

    def start_unstored(self, request: TurnRequest, n: int = 1) -> list[Run]:
        """Start `n` runs at once of a turn that is not stored.

        Raises:
            ApiError: tool results without their calls, or calls without all of their results.
        """
        _note(request)
        try:
            check_paired(request.messages)
        except UnpairedMessage as error:
            raise request.refuse(error) from error
        agent = self.assembly.agents[request.agent]
        return self.runs.start_together([partial(agent.run, request.messages, request.context)] * n)

    def check_tools(self, agent: str, tools: Sequence[object]) -> None:
        """Check that an agent takes tools of the client's, if there are some.

        Raises:
            InvalidRequest: it does not.
        """
        if tools and not self.assembly.agents[agent].takes_client_tools:
            message = f"The agent {agent!r} takes no tools of the client's."
            raise InvalidRequest(message, param="tools", code="unsupported_value")

    async def get(self, session: Session) -> SessionRecord | None:
        """Return a session's record, also while its first turn runs, or None if there is no such session."""
        began = next((run.began for run in self.runs.of(session.thread_id)), None)
        if began is None:
            began = dict(await self.leases.begun_elsewhere(session.principal)).get(session)
        # Asked for last: a first turn that ends meanwhile is stored by then.
        stored = await self.index.get(session)
        return stored or (_begun_at(session, began) if began is not None else None)

    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
        """Return a principal's sessions, the one last used first; `after` is the last one of the page before.

        Raises:
            NotFound: there is no session `after`.
        """
        begun = await self._begun(principal)
        if after is not None and after not in begun:
            return await self.index.page(principal, limit=limit, after=after)
        names = list(begun)
        first = [begun[name] for name in names[names.index(after) + 1 if after else 0 :]]
        stored = await self.index.page(principal, limit=limit, after=None)
        return [*first, *(record for record in stored if record.session not in begun)][:limit]

    async def running(self, sessions: Collection[Session]) -> Collection[Session]:
        """Return those of the sessions in which a run is in progress, here or in another process."""
        here = {session for session in sessions if self.runs.of(session.thread_id)}
        return here.union(await self.leases.running_elsewhere(sessions))

    async def response(self, principal: str, response_id: str) -> StoredResponse | None:
        """Return a principal's response, or None if there is no such one."""
        found = (await self.responses_among(principal, [response_id])).get(response_id)
        return found if found and found.answered.status != ADDED else None

    async def responses_among(self, principal: str, ids: Sequence[str]) -> Mapping[str, StoredResponse]:
        """Return what is stored of a principal under these ids; what is stored just now, since it was stopped, too."""
        found = await self.responses.among(principal, ids)
        stopping = [run for run in self.runs.in_sessions_of(principal) if run.is_stopping]
        if len(found) == len(ids) or not stopping:
            return found
        for run in stopping:
            await run.ended()
        return await self.responses.among(principal, ids)

    async def delete(self, session: Session) -> None:
        """Stop a session's runs, and delete all that was kept of it.

        Raises:
            NotFound: there is no such session.
            SessionBusy: its runs did not end in time.
        """
        for run in self.runs.of(session.thread_id):
            run.stop(RunCancelled())
        await self.leases.cancel(session)
        async with self.leases.held(session):
            if await self.get(session) is None:
                raise unknown_session(session)
            await self.index.delete(session)

    async def stop_run(self, session: Session) -> None:
        """Stop the session's run in progress, if there is one, and wait for its end."""
        if not self.leases.has(session) and await self.leases.cancel(session):
            return
        if run := self.runs.stop_first(session.thread_id, RunCancelled()):
            await run.ended()

    async def _begun(self, principal: str) -> Mapping[Session, SessionRecord]:
        """Return the records of a principal's sessions that only their first runs know, the newest first."""
        begun = dict(await self.leases.begun_elsewhere(principal))
        for run in self.runs.in_sessions_of(principal):
            if run.session and await self.index.get(run.session) is None:
                begun[run.session] = run.began
        newest_first = sorted(begun.items(), key=lambda item: item[1], reverse=True)
        return {session: _begun_at(session, began) for session, began in newest_first}


def _note(request: TurnRequest) -> None:
    """Note for the log and the metrics which model answers, or which agent that somebody brought."""
    if stats := STATS.get():
        stats.model = request.context.parameters.get("model", "") if request.agent == OUR_AGENT else request.agent


def _begun_at(session: Session, began: float) -> SessionRecord:
    return SessionRecord(
        session=session,
        created_at=began,
        updated_at=began,
        turns=0,
        branches=0,
        bytes=0,
        waiting=False,
        agent="",
    )


async def _sessions(request: Request) -> Sessions:  # a plain function would cost a hop to a thread
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(_sessions)]


def claim_session(request: Request, session_id: str) -> Session:
    """Return the caller's session, and put its id into the answer's headers and the request's trace."""
    state = state_of(request.scope)
    state.session_id = session_id
    CONVERSATION.set(session_id)
    trace.get_current_span().set_attribute("gen_ai.conversation.id", session_id)
    return Session(state.principal, session_id)
