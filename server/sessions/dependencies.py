"""What the handlers work with, made by the lifespan and handed to them by FastAPI."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from graph.assembly import Assembly
from server.models import Models
from server.sessions.index import SessionIndex
from server.sessions.naming import Session
from server.sessions.runs import RunOwner


@dataclass(frozen=True)
class Services:
    """The agent, its sessions, the runs in progress and the names of models."""

    assembly: Assembly
    index: SessionIndex
    runs: RunOwner
    models: Models
    session_headers: Sequence[str]


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def session_of(request: Request, session_id: str) -> Session:
    """Return the caller's session, and let the answer carry its id."""
    request.state.session_id = session_id
    return Session(request.state.principal, session_id)
