"""The sessions as handlers get them: opened by the lifespan, injected by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from graph.assembly import Assembly
from server.http.identity import state_of
from server.sessions.index import SessionIndex
from server.sessions.naming import Session
from server.sessions.runs import Run, RunOwner
from server.sessions.turn import Turn, TurnRequest


@dataclass(frozen=True)
class Sessions:
    """The agent, the index of its sessions, and the runs in progress."""

    assembly: Assembly
    index: SessionIndex
    runs: RunOwner

    def start(self, request: TurnRequest) -> Run:
        """Start a turn of a session."""
        return self.runs.start(request.session.thread_id, Turn(request, self.assembly, self.index).run())


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


SessionsDep = Annotated[Sessions, Depends(_sessions)]


def claim_session(request: Request, session_id: str) -> Session:
    """Return the caller's session, and put its id into the answer's headers."""
    state = state_of(request.scope)
    state.session_id = session_id
    return Session(state.principal, session_id)
