"""Find the session that a request belongs to, and the thread that stores it. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from langchain_core.messages import AnyMessage, HumanMessage

from server.errors import InvalidRequest
from server.http.identity import NO_PRINCIPAL, SessionName, checked_id
from server.sessions.reconcile import Mode

MODE_HEADER = "X-Session-Mode"
THREAD_NAMESPACE = UUID("6f0a3f0e-6a5b-5f6c-9d53-6a1d2a0f6d4e")

# How Open WebUI's own prompts begin.
SIDE_TASK = "### Task:"
# Open WebUI's ids of temporary chats. Its first versions with such chats had one id for all of them.
TEMPORARY = re.compile(r"(local|temporary)(:.*)?")


@dataclass(frozen=True)
class Session:
    """A conversation of a principal, by its id."""

    principal: str
    id: str

    @cached_property
    def thread_id(self) -> str:
        """LangGraph's thread, always a UUID, so that Studio can open it.

        Without keys a session that is a UUID is its own thread; otherwise two principals never share one.
        """
        if self.principal == NO_PRINCIPAL and _is_uuid(self.id):
            return self.id
        return str(uuid5(THREAD_NAMESPACE, f"{self.principal}\n{self.id}"))


def named_in_body(body: Mapping[str, Any]) -> SessionName | None:
    """Return the session id that a request's body names.

    Raises:
        InvalidRequest: no session can have that name.
    """
    metadata = body.get("metadata") or {}
    for param, value in (("session_id", body.get("session_id")), ("metadata.session_id", metadata.get("session_id"))):
        if value is not None:
            return SessionName(checked_id(value, param))
    return None


def session_mode(headers: Mapping[str, str], name: SessionName | None) -> Mode:
    """Return the session mode of a request: its header's, else `full` if another program's header named the session.

    Raises:
        InvalidRequest: the header says something else.
    """
    match headers.get(MODE_HEADER, "").strip().lower():
        case "append":
            return "append"
        case "full":
            return "full"
        case "auto" | "":
            return "full" if name and name.third_party else "auto"
        case other:
            raise InvalidRequest(
                f"Invalid value: {other!r}. {MODE_HEADER} may be 'append', 'full' or 'auto'.",
                param=MODE_HEADER,
                code="invalid_value",
            )


def is_side_task(messages: Sequence[AnyMessage], name: SessionName | None) -> bool:
    """Say whether Open WebUI asks for a title, tags or follow-ups; it sends them under the id of their chat."""
    if not name or not name.third_party or not messages or not isinstance(messages[-1], HumanMessage):
        return False
    return str(messages[-1].text).startswith(SIDE_TASK)


def is_temporary(name: SessionName | None) -> bool:
    """Say whether the id is that of another program's temporary chat."""
    return bool(name and name.third_party and TEMPORARY.fullmatch(name.id))


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
