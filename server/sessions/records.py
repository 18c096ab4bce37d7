"""What is told of sessions, and what is stored with an answered turn."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graph.state import TurnContext
from graph.storage.database import Row, storable
from graph.storage.run_saver import Loaded
from server.errors import InvalidRequest, NotFound
from server.http.json_body import encoded
from server.sessions.approval import AskedCall, dump_asked, load_asked
from server.sessions.naming import Session
from server.sessions.reconcile import Habit, Knowledge, Step

# The status of what was added to a conversation without an answer.
ADDED = "added"
# The columns of a session and its newest turn.
RECORD = """
principal, id, created_at, updated_at, branches, bytes, coalesce(number, 0) AS turns,
waits_for IS NOT NULL AS waiting, awaits, coalesce(agent, '') AS agent,
response IS NOT NULL OR id LIKE 'conv!_%' ESCAPE '!' AS is_lasting
"""
# Sessions that were not used for as long as they are kept.
IDLE = """
SELECT principal, id FROM sessions LEFT JOIN turns ON turn = newest WHERE updated_at < :latest AND updated_at <
CASE WHEN response IS NOT NULL OR id LIKE 'conv!_%' ESCAPE '!' THEN :more_turns WHEN newest IS NULL THEN :latest
WHEN number = 1 AND branches <= 1 THEN :one_turn ELSE :more_turns END
ORDER BY updated_at LIMIT :limit
"""


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """A session as its owner may see it; times are Unix times in seconds, `turns` those of the newest branch.

    `bytes` is what all its turns have stored.
    """

    session: Session
    created_at: float
    updated_at: float
    turns: int
    branches: int
    bytes: int
    waiting: bool
    agent: str
    """The agent that answered last."""
    awaits: Sequence[AskedCall] = ()
    """The calls that wait for a person's approval."""
    is_lasting: bool = False
    """Whether it is kept for longer than one question and its answer: the Responses API's promise to its clients."""

    @property
    def is_single(self) -> bool:
        """Whether it has only one question and its answer."""
        return self.turns <= 1 and self.branches <= 1


@dataclass(frozen=True, kw_only=True)
class AnsweredResponse:
    """A response as it is stored; `input` and `resource` are JSON, as clients get it."""

    id: str
    status: str
    created_at: float
    input: bytes
    """The items that its request added to the conversation."""
    resource: bytes

    @classmethod
    def of(cls, response_id: str, resource: Mapping[str, Any], added: Sequence[Any]) -> "AnsweredResponse":
        """Make one of a response as its client gets it, and of the items that its request added."""
        return cls(
            id=response_id,
            status=resource["status"],
            created_at=resource["created_at"],
            input=encoded(added),
            resource=encoded(resource),
        )

    @property
    def size(self) -> int:
        """Bytes that count as stored by its session."""
        return len(self.input) + len(self.resource)


@dataclass(frozen=True, kw_only=True)
class AnsweredTurn:
    """An answered turn, as it is entered into the index."""

    step: Step
    asked: bytes
    digest: bytes
    waiting: Sequence[str]
    checkpoint_id: str
    agent: str
    habit: Habit | None
    response: AnsweredResponse | None
    """The response that told its client of it, in the Responses API."""
    standing: Sequence[str]
    awaits: Sequence[AskedCall] = ()
    """The calls that it ended with, since a person must approve them."""
    context: TurnContext | None = None
    """What the turn asked for, where such calls wait."""
    summaries: Mapping[str, str] = field(default_factory=dict)
    """The summaries that its run made, by the ids of the last messages that they cover."""

    def row(self) -> dict[str, Any]:
        """Return its columns, but for the thread's."""
        after, calls = self.step.after, [*self.waiting, *(call.call_id for call in self.awaits)]
        return {
            "parent": after and after.id,
            "number": after.number + 1 if after else 1,
            "asked": self.asked,
            "digest": self.digest,
            "waiting": json.dumps(list(self.waiting)),
            "waits_for": storable(calls[0]) if calls else None,
            "checkpoint": self.checkpoint_id,
            "agent": self.agent,
            "response": self.response and self.response.id,
            "standing": json.dumps(list(self.standing)) if self.standing else None,
            "awaits": dump_asked(self.awaits, self.context) if self.awaits and self.context else None,
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where a request goes on in its session."""

    known: Knowledge
    step: Step
    start: Loaded
    """The checkpoint of the turn that the step follows, if the agent that is asked can read it."""
    is_latest: bool
    """Whether that is the thread's latest checkpoint, as LangGraph finds it, or the thread has none."""


def session_record(row: Row) -> SessionRecord:
    """Return the record of a row with the columns of RECORD."""
    columns = {name: row[name] for name in ("created_at", "updated_at", "turns", "branches", "bytes", "agent")}
    return SessionRecord(
        session=Session(row["principal"], row["id"]),
        waiting=bool(row["waiting"]),
        awaits=load_asked(row["awaits"])[0],
        is_lasting=bool(row["is_lasting"]),
        **columns,
    )


def unknown_session(session: Session) -> NotFound:
    """Return the error for a session that does not exist, or is another principal's."""
    return NotFound(f"There is no session {session.id!r}.", code="session_not_found")


def unknown_parent(response_id: str) -> InvalidRequest:
    """Return the error for a response that cannot be continued: it is not stored, or is another principal's."""
    return InvalidRequest(
        f"Previous response with id '{response_id}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )
