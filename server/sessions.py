"""Which session a request belongs to, and which thread keeps it. Pure."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4, uuid5

from server.errors import InvalidRequest

# The first that is there decides. The second is Open WebUI's, the third LibreChat's.
SESSION_HEADERS = ("x-session-id", "x-openwebui-chat-id", "x-conversation-id")
SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
THREAD_NAMESPACE = UUID("6f0a3f0e-6a5b-5f6c-9d53-6a1d2a0f6d4e")

NO_PRINCIPAL = ""


def named_session(headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """Return the session id that a request names, in a header, in `session_id` or in `metadata.session_id`.

    Raises:
        InvalidRequest: the id is not 1 to 128 letters, digits, dots, underscores, colons or hyphens.
    """
    metadata = body.get("metadata") or {}
    candidates = [(name, headers.get(name)) for name in SESSION_HEADERS]
    candidates += [
        ("session_id", body.get("session_id")),
        ("metadata.session_id", metadata.get("session_id")),
    ]
    for param, value in candidates:
        if value is not None:
            return checked_id(value, param)
    return None


def checked_id(value: object, param: str) -> str:
    """Return a session id as it is.

    Raises:
        InvalidRequest: it is none.
    """
    if not isinstance(value, str) or not SESSION_ID.fullmatch(value):
        raise InvalidRequest(
            "A session id is 1 to 128 letters, digits, '.', '_', ':' or '-'.",
            param=param,
            code="invalid_value",
        )
    return value


def fresh_session() -> str:
    """Return the id of a session that nobody has named yet."""
    return str(uuid4())


def thread_id(principal: str, session_id: str) -> str:
    """Return the LangGraph thread of a principal's session, always a UUID, so that Studio can open it.

    Without keys a session that is a UUID is its own thread; otherwise two principals never share one.
    """
    if principal == NO_PRINCIPAL and _is_uuid(session_id):
        return session_id
    return str(uuid5(THREAD_NAMESPACE, f"{principal}\n{session_id}"))


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
