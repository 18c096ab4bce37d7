"""What the handlers work with, made by the lifespan and handed to them by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from graph.factory import Assembly
from server.models import Models
from server.runs import RunOwner
from server.sessions import thread_id


@dataclass(frozen=True)
class Services:
    """The agent, the runs in progress and the names of models."""

    assembly: Assembly
    runs: RunOwner
    models: Models


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]


def thread_of(request: Request, session_id: str) -> str:
    """Return the thread of the caller's session, and let the answer carry the session's id."""
    request.state.session_id = session_id
    return thread_id(request.state.principal, session_id)
