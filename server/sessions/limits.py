"""How much a session may have to go on, and how much all sessions of a principal may store."""

from dataclasses import dataclass

from server.errors import InvalidRequest, QuotaUsedUp
from server.sessions.index import SessionIndex
from server.sessions.naming import Session

FRESH = "Start a new one, for example with a summary of this one; it can still be read."


@dataclass(frozen=True)
class SessionLimits:
    """The messages of a session, and the bytes that its turns have stored, regenerated ones included."""

    messages: int
    bytes: int

    def check(self, length: int, stored: int) -> None:
        """Check that a session with so many messages, whose turns have stored so many bytes, may go on.

        Raises:
            InvalidRequest: it has more than it may have.
        """
        if length > self.messages:
            message = f"The session has {length} messages, which is more than SESSION_MAX_MESSAGES. {FRESH}"
            raise InvalidRequest(message, param="messages", code="session_too_long")
        if stored > self.bytes:
            message = f"The session has stored {stored} bytes, which is more than SESSION_MAX_BYTES. {FRESH}"
            raise InvalidRequest(message, param="messages", code="session_too_large")


async def check_quota(index: SessionIndex, session: Session, quota: int) -> None:
    """Check that a principal may store another turn. Turns that run at the same time may store more than is left.

    Raises:
        QuotaUsedUp: the sessions of the principal have stored all that they may.
    """
    stored = await index.stored_by(session.principal)
    if stored >= quota:
        raise QuotaUsedUp(
            f"Your sessions have stored {stored} bytes, of {quota} that they may store. Delete some that are not "
            "needed any more: DELETE /v1/sessions/{id}."
        )
