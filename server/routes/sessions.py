"""POST /v1/sessions/{id}/reset and DELETE /v1/sessions/{id}."""

from fastapi import APIRouter, Request

from server.errors import NotFound
from server.services import Services, ServicesDep, thread_of
from server.sessions import checked_id

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])


@router.post("/{session_id}/reset")
async def reset_session(session_id: str, request: Request, services: ServicesDep) -> dict[str, object]:
    """Forget the conversation; the session keeps its id."""
    await _forget(session_id, request, services)
    return {"id": session_id, "object": "session"}


@router.delete("/{session_id}")
async def delete_session(session_id: str, request: Request, services: ServicesDep) -> dict[str, object]:
    """Delete the session and all that was kept of it."""
    await _forget(session_id, request, services)
    return {"id": session_id, "object": "session.deleted", "deleted": True}


async def _forget(session_id: str, request: Request, services: Services) -> None:
    """Wait for the session's run in progress, then delete its thread."""
    thread = thread_of(request, checked_id(session_id, "session_id"))
    saver = services.assembly.checkpointer
    async with services.runs.exclusively(thread):
        if await saver.aget_tuple({"configurable": {"thread_id": thread}}) is None:
            raise NotFound(f"There is no session {session_id!r}.", code="session_not_found")
        await saver.adelete_thread(thread)
