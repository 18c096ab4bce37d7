"""GET, POST and DELETE under /v1/sessions."""

from collections.abc import Collection
from typing import Annotated, Literal

from fastapi import Path, Query, Request
from pydantic import BaseModel, JsonValue

from server.errors import NotFound, may_fail
from server.http.identity import ID, checked_id, state_of
from server.http.routing import Router
from server.messages.convert import dump_messages
from server.messages.shapes import Message
from server.sessions.dependencies import Sessions, SessionsDep, claim_session
from server.sessions.naming import Session
from server.sessions.records import SessionRecord, unknown_session
from server.sessions.stored_messages import turn_messages

router = Router(prefix="/v1/sessions", tags=["sessions"])

MAX_BRANCH = 2**31 - 1
MAX_MESSAGES = 1_000
SessionId = Annotated[str, Path(description="The session's id.", json_schema_extra={"pattern": ID})]


class AwaitedApproval(BaseModel):
    """A call of one of the server's tools that waits for a person; `server` is the tool's MCP server."""

    id: str
    name: str
    arguments: dict[str, JsonValue]
    server: str


class SessionObject(BaseModel):
    """A session; times are Unix times in seconds, `turns` those of the newest branch, `bytes` what all have stored.

    `approvals` are the tool calls that its newest turn waits with.
    """

    id: str
    object: Literal["session"] = "session"
    created_at: int
    updated_at: int
    turns: int
    branches: int
    bytes: int
    status: Literal["running", "waiting", "idle"]
    approvals: list[AwaitedApproval]


class SessionPage(BaseModel):
    """Some of the caller's sessions, the one last used first."""

    object: Literal["list"] = "list"
    data: list[SessionObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MessageList(BaseModel):
    """The messages of one branch, the server's tool calls and their results included, in OpenAI's form."""

    object: Literal["list"] = "list"
    data: list[Message]
    has_more: bool = False


class SessionDeleted(BaseModel):
    """A session that is gone."""

    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: bool = True


@router.get("", responses=may_fail(400, 401, 404))
async def list_sessions(
    request: Request,
    sessions: SessionsDep,
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
    after: Annotated[
        str | None,
        Query(description="The last id of the page before.", json_schema_extra={"pattern": ID}),
    ] = None,
) -> SessionPage:
    """List the caller's sessions, the one last used first; `after` is the last id of the page before."""
    principal = state_of(request.scope).principal
    cursor = Session(principal, checked_id(after, "after")) if after is not None else None
    records = await sessions.page(principal, limit=limit + 1, after=cursor)
    running = await sessions.running([record.session for record in records])
    page = [dump_session(record, running) for record in records[:limit]]
    first_id, last_id = (page[0].id, page[-1].id) if page else (None, None)
    return SessionPage(data=page, first_id=first_id, last_id=last_id, has_more=len(records) > limit)


@router.get("/{session_id}", responses=may_fail(400, 401, 404))
async def retrieve_session(session_id: SessionId, request: Request, sessions: SessionsDep) -> SessionObject:
    """Describe a session."""
    return await _described(_session(session_id, request), sessions)


@router.get("/{session_id}/messages", responses=may_fail(400, 401, 404), response_model_exclude_unset=True)
async def list_messages(
    session_id: SessionId,
    request: Request,
    sessions: SessionsDep,
    branch: Annotated[
        int | None, Query(ge=1, le=MAX_BRANCH, description="A branch, from 1; the newest without it.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_MESSAGES, description="How many at most.")] = MAX_MESSAGES,
    after: Annotated[int, Query(ge=0, le=MAX_BRANCH, description="How many to leave out at the beginning.")] = 0,
) -> MessageList:
    """List the messages of the newest branch, or of another; branches are counted from 1 as they began."""
    session = _session(session_id, request)
    await _record(session, sessions)
    end = await sessions.index.end_of_branch(session, branch)
    if end is None and branch is not None:
        raise NotFound(f"The session has no branch {branch}.", param="branch", code="branch_not_found")
    messages = await turn_messages(sessions.assembly, session, end) if end else []
    page = messages[after : after + limit]
    return MessageList(object="list", data=dump_messages(page), has_more=len(messages) > after + limit)


@router.post("/{session_id}/reset", responses=may_fail(400, 401, 404, 409))
async def reset_session(session_id: SessionId, request: Request, sessions: SessionsDep) -> SessionObject:
    """Forget the conversation, after its run in progress; the session keeps its id."""
    session = _session(session_id, request)
    async with sessions.leases.held(session):
        await _record(session, sessions)
        await sessions.index.reset(session)
    return await _described(session, sessions)


@router.post("/{session_id}/cancel", responses=may_fail(400, 401, 404))
async def cancel_run(session_id: SessionId, request: Request, sessions: SessionsDep) -> SessionObject:
    """Stop the session's run in progress, if there is one, and wait for its end; what was said until then is kept."""
    session = _session(session_id, request)
    await sessions.stop_run(session)
    return await _described(session, sessions)


@router.delete("/{session_id}", responses=may_fail(400, 401, 404, 409))
async def delete_session(session_id: SessionId, request: Request, sessions: SessionsDep) -> SessionDeleted:
    """Stop the session's runs and delete all that was kept of the session."""
    await sessions.delete(_session(session_id, request))
    return SessionDeleted(id=session_id)


def dump_session(record: SessionRecord, running: Collection[Session]) -> SessionObject:
    """Return a session as its owner is shown it; `running` are those with a run in progress."""
    status: Literal["waiting", "idle"] = "waiting" if record.waiting else "idle"
    return SessionObject(
        id=record.session.id,
        created_at=int(record.created_at),
        updated_at=int(record.updated_at),
        turns=record.turns,
        branches=record.branches,
        bytes=record.bytes,
        status="running" if record.session in running else status,
        approvals=[
            AwaitedApproval(id=call.call_id, name=call.name, arguments=dict(call.arguments), server=call.server)
            for call in record.awaits
        ],
    )


def _session(session_id: str, request: Request) -> Session:
    return claim_session(request, checked_id(session_id, "session_id"))


async def _described(session: Session, sessions: Sessions) -> SessionObject:
    return dump_session(await _record(session, sessions), await sessions.running([session]))


async def _record(session: Session, sessions: Sessions) -> SessionRecord:
    if record := await sessions.get(session):
        return record
    raise unknown_session(session)
