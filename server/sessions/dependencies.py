"""The sessions as handlers get them: opened by the lifespan, injected by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from opentelemetry import trace

from graph.assembly import Assembly
from server.http.identity import state_of
from server.sessions.index import SessionIndex
from server.sessions.limits import SessionLimits
from server.sessions.naming import Session
from server.sessions.records import SessionRecord
from server.sessions.runs import Run, RunOwner
from server.sessions.turn import Turn, TurnRequest
from tools.trace import CONVERSATION


@dataclass(frozen=True)
class Sessions:
    """The agent, the index of its sessions, and the runs in progress."""

    assembly: Assembly
    index: SessionIndex
    runs: RunOwner
    limits: SessionLimits

    def start(self, request: TurnRequest) -> Run:
        """Start a turn of a session."""
        return self.runs.start(request.session, Turn(request, self.assembly, self.index, self.limits).run)

    async def get(self, session: Session) -> SessionRecord | None:
        """Return a session's record, also while its first turn runs, or None if there is no such session."""
        stored = await self.index.get(session)
        return stored or next(map(_begun_by, self.runs.of(session.thread_id)), None)

    async def page(self, principal: str, *, limit: int, after: Session | None) -> list[SessionRecord]:
        """Return a principal's sessions, the one last used first; `after` is the last one of the page before.

        Raises:
            NotFound: there is no session `after`.
        """
        begun = {}
        for run in self.runs.in_sessions_of(principal):
            if run.session and await self.index.get(run.session) is None:
                begun[run.session] = _begun_by(run)
        if after is not None and after not in begun:
            return await self.index.page(principal, limit=limit, after=after)
        names = list(begun)
        first = [begun[name] for name in names[names.index(after) + 1 if after else 0 :]]
        stored = await self.index.page(principal, limit=limit, after=None)
        return [*first, *(record for record in stored if record.session not in begun)][:limit]


def _begun_by(run: Run) -> SessionRecord:
    """Return the record of a session that only its first run knows."""
    assert run.session is not None
    return SessionRecord(
        session=run.session,
        created_at=run.began,
        updated_at=run.began,
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
