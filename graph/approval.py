"""Tool calls that wait for a person: which ones, how LangGraph's interrupt asks for them, and what was decided.

The interrupt and its answer have the shapes of LangChain's human-in-the-loop middleware, which Studio and agent UIs
know: `action_requests` in their order, and `decisions` in the same order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, InvalidToolCall, ToolCall, ToolMessage
from langchain_core.tools import BaseTool

from graph.model.arguments import storable_arguments
from graph.storage.approved_calls import ApprovedCall, ApprovedCalls

# Where a model message notes the ids of its calls that wait.
APPROVALS = "approvals"
NOT_STORED = (
    "This tool call was not run: a person must approve it, and nobody can be asked in a conversation that is not kept."
)
NOT_AWAITED = "This tool call was not run: it was approved where it does not wait for that."
REFUSED = "This tool call was not run: a person has refused it."
REFUSED_LATE = "A person has refused this tool call, but it had been approved and begun before. What came of it:"
RESULT_LOST = (
    "This tool call was approved and begun, but its result was lost. It may have been run; it is not run again."
)


@dataclass(frozen=True)
class Approval:
    """The rule which tools wait for a person, and the calls that were approved.

    Args:
        patterns: names of tools, with `*` and `?`; one that begins with `!` names tools that do not wait.
        calls: the calls that were approved; each is run at most once.
    """

    patterns: Sequence[str]
    calls: ApprovedCalls

    def is_needed(self, tool: BaseTool) -> bool:
        """Whether a call of the tool waits: the last pattern with its name says so, else its MCP server's own hint."""
        names = {tool.name, getattr(tool, "own_name", tool.name)}
        needed = (tool.metadata or {}).get("destructiveHint") is True
        for pattern in self.patterns:
            if any(fnmatchcase(name, pattern.removeprefix("!")) for name in names):
                needed = not pattern.startswith("!")
        return needed

    def noted(self, message: AIMessage, tools: Sequence[BaseTool]) -> AIMessage:
        """Return a message with a note of which of its calls wait."""
        waiting = {tool.name for tool in tools if self.is_needed(tool)}
        ids = [call["id"] for call in message.tool_calls if call["name"] in waiting]
        noted = {**message.additional_kwargs, APPROVALS: ids}
        return message.model_copy(update={"additional_kwargs": noted}) if ids else message


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person decided about a call."""

    approved: bool
    arguments: Mapping[str, Any] | None = None
    """Arguments in place of the model's; None where they stay."""
    reason: str | None = None
    """Why the call was refused."""
    asked_as: str | None = None
    """The id under which the person was asked, where that is not the call's."""

    @classmethod
    def checked(cls, *, arguments: Mapping[str, Any] | None, **rest: Any) -> "Decision":
        """Return a decision, with its arguments in the form in which checkpoints can store them.

        Raises:
            ValueError: they have a value that cannot be stored.
        """
        return cls(arguments=None if arguments is None else storable_arguments(arguments), **rest)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a person decided about the calls of one message of the model."""

    message_id: str
    calls: Mapping[str, Decision]
    """By the ids of the calls; others are refused."""


@dataclass(frozen=True, kw_only=True)
class AwaitedCall:
    """A call that a person must approve."""

    message_id: str
    """The message of the model that it is in."""
    call_id: str
    name: str
    arguments: Mapping[str, Any]
    server: str
    """The MCP server whose tool it is; of another tool, the agent."""


def waiting(messages: Sequence[AnyMessage]) -> AIMessage | None:
    """Return the newest message of the model with calls that a person was, or is to be, asked about."""
    return next(
        (message for message in reversed(messages) if isinstance(message, AIMessage) and waiting_calls(message)), None
    )


def waiting_calls(message: AIMessage) -> Sequence[ToolCall]:
    """Return the calls of a message that wait, or waited, for a person."""
    ids = message.additional_kwargs.get(APPROVALS, ())
    return [call for call in message.tool_calls if call["id"] in ids]


def question(message: AIMessage) -> dict[str, Any]:
    """Return what the interrupt asks."""
    calls = waiting_calls(message)
    return {
        "action_requests": [
            {
                "id": call["id"],
                "message_id": message.id,
                "name": call["name"],
                "args": call["args"],
                "description": f"The agent wants to run {call['name']}.",
            }
            for call in calls
        ],
        "review_configs": [
            {"action_name": call["name"], "allowed_decisions": ["approve", "edit", "reject"]} for call in calls
        ],
    }


def load_decisions(answer: object, calls: Sequence[ToolCall]) -> dict[str, Decision]:
    """Return the decisions in the answer to an interrupt, by call ids; what is not clearly approved is refused."""
    match answer:
        case True | {"approved": True}:
            given: list[object] = [{"type": "approve"}] * len(calls)
        case {"decisions": [*given]}:
            pass
        case _:
            given = []
    return {call["id"] or "": _decision(one) for call, one in zip(calls, given, strict=False)}


def decided(
    message: AIMessage, decisions: Mapping[str, Decision], begun: Mapping[str, ApprovedCall]
) -> Iterator[AIMessage | ToolMessage]:
    """Yield the message with the arguments that persons have changed, and a result for each call they refused.

    A call that was begun before, on another branch or by a turn that failed, stays what it was.
    """
    edited = {call: decision.arguments for call, decision in decisions.items() if decision.arguments is not None}
    edited |= {call: known.arguments for call, known in begun.items()}
    calls: list[ToolCall] = [
        {**call, "args": dict(edited.get(call["id"] or "", call["args"]))} for call in message.tool_calls
    ]
    yield message.model_copy(update={"tool_calls": calls})
    for call in waiting_calls(message):
        decision = decisions.get(call["id"] or "", Decision(approved=False))
        if not decision.approved:
            known = begun.get(call["id"] or "")
            why = REFUSED_LATE if known else REFUSED
            why = f"{why} The reason: {decision.reason}" if decision.reason else why
            yield known_result(call, known, why) if known else not_run(call, why)


def not_run(call: ToolCall | InvalidToolCall, why: str) -> ToolMessage:
    """Return the result of a call that was not run, with a name, as the agent's own results have."""
    return ToolMessage(why, tool_call_id=call["id"] or "", name=call["name"] or "", status="error", id=str(uuid4()))


def known_result(call: ToolCall | InvalidToolCall, known: ApprovedCall, but: str = "") -> ToolMessage:
    """Return the result of a call that was begun before, with what must be said before it."""
    result = not_run(call, RESULT_LOST).model_copy(update=dict(known.result))
    if not but:
        return result
    found: str | list[str | dict[Any, Any]] = result.content
    whole = f"{but}\n{found}" if isinstance(found, str) else [{"type": "text", "text": but}, *found]
    return result.model_copy(update={"content": whole})


def _decision(given: object) -> Decision:
    match given:
        case {"type": "approve"}:
            return Decision(approved=True)
        case {"type": "edit", "edited_action": {"args": dict(arguments)}}:
            try:
                return Decision.checked(approved=True, arguments=arguments)
            except ValueError as error:
                return Decision(approved=False, reason=f"The changed arguments cannot be used: {error}.")
        case {"type": "reject", "message": str(reason)}:
            return Decision(approved=False, reason=reason)
    return Decision(approved=False)
