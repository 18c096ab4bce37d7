"""How a person is asked to approve calls of the server's tools, and how the answer is read. Pure.

A client that can show a question gets a call of the tool `approve_tool_call`, or an item of the Responses API. Others
get the question as text. Whoever may read the session can also answer with POST /v1/sessions/{session_id}/approve.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, cast
from uuid import uuid4

from langchain_core.messages import AnyMessage, HumanMessage, ToolCall, ToolMessage

from graph.approval import AwaitedCall, Decision, Decisions, not_run
from graph.events import ApprovalRequested, ClientCall, ClientCallDelta, MessageEnded, RunEvent, Text
from graph.state import TurnContext
from server.errors import InvalidRequest

# The client's tool that stands for the question.
APPROVE_TOOL = "approve_tool_call"
HEADER = "X-Tool-Approval"
Form = Literal["item", "call", "text"]
FORMS: Sequence[Form] = ("item", "call", "text")
# The fields of a turn's context that are kept while it waits.
KEPT = ("instructions", "max_tool_calls", "truncation", "compact_threshold", "parameters")
YES = {"y", "yes", "ok", "okay", "approve", "approved", "네", "넵", "예", "응", "승인", "허용"}
NO = {"n", "no", "deny", "denied", "reject", "refuse", "아니", "아니요", "아니오", "거절", "거부"}


@dataclass(frozen=True, kw_only=True)
class AskedCall(AwaitedCall):
    """A call that a turn ended with, since a person must approve it."""

    asked_as: str | None
    """The id under which its client was asked; None where it was asked in words, or not at all."""
    by_text: bool = False
    """Whether the next message of the user may decide."""


Ask = Callable[[Sequence[AwaitedCall]], tuple[Sequence[AskedCall], Sequence[RunEvent]]]
"""Returns the calls as they are asked about, and what the client is told."""


def form_of(headers: Mapping[str, str], *, has_tool: bool, otherwise: Form) -> Form:
    """Return how the client of a request is asked: as its header says, or by the tool if the request brings it.

    Raises:
        InvalidRequest: the header says something else.
    """
    said = headers.get(HEADER, "").strip().lower()
    if said and said not in FORMS:
        message = f"Invalid value: {said!r}. {HEADER} may be 'item', 'call' or 'text'."
        raise InvalidRequest(message, param=HEADER, code="invalid_value")
    return cast(Form, said) or ("call" if has_tool else otherwise)


def asking(form: Form, *, session_id: str, by_text: bool, new_id: Callable[[int], str] | None = None) -> Ask:
    """Return the way to ask.

    Args:
        form: what the client can show.
        session_id: the session, which a question in words names.
        by_text: whether the user's next message may decide, where the question is asked in words.
        new_id: makes the ids of items, where there are some.
    """
    if form == "item" and new_id:
        return partial(_as_items, new_id)
    return _as_calls if form == "call" else partial(_in_words, session_id, by_text)


def unasked(calls: Sequence[AwaitedCall]) -> tuple[Sequence[AskedCall], Sequence[RunEvent]]:
    """Ask nobody: the calls wait for whoever looks at the session."""
    return [AskedCall(**asdict(call), asked_as=None) for call in calls], ()


def dump_asked(calls: Sequence[AskedCall], context: TurnContext) -> str:
    """Return the calls as they are stored, with what goes on to count if they are approved from beside.

    The client's tools do not: it is not told of that turn.
    """
    kept = {name: getattr(context, name) for name in KEPT}
    return json.dumps({"calls": [asdict(call) for call in calls], "context": kept})


def load_asked(stored: str | None) -> tuple[tuple[AskedCall, ...], TurnContext]:
    """Return calls that are stored, and the context that goes on to count."""
    loaded = json.loads(stored) if stored else {"calls": [], "context": {}}
    return tuple(AskedCall(**call) for call in loaded["calls"]), TurnContext(**loaded["context"])


def decisions_in(
    asked: Sequence[AskedCall], messages: Sequence[AnyMessage]
) -> tuple[Decisions | None, list[AnyMessage]]:
    """Return what the messages after a turn decide about its waiting calls, and the messages that decide nothing.

    A call that they do not decide about is refused. So is one whose question in words is not clearly answered; but
    results of the client's tools alone leave it waiting, since its user has said nothing.

    Raises:
        InvalidRequest: an answer cannot be read.
    """
    if not asked:
        return None, list(messages)
    ids = {call.asked_as: call for call in asked if call.asked_as}
    made: dict[str, Decision] = {}
    left: list[AnyMessage] = []
    for message in messages:
        if not isinstance(message, ToolMessage) or message.tool_call_id not in ids:
            left.append(message)
        elif (call := ids[message.tool_call_id]).call_id not in made:
            made[call.call_id] = load_decision(message, call)
    if all(call.asked_as is None for call in asked) and left and all(isinstance(one, ToolMessage) for one in left):
        return None, left
    first = next((message for message in left if not isinstance(message, ToolMessage)), None)
    said = _said(first) if isinstance(first, HumanMessage) else ""
    if said in YES | NO and any(call.by_text for call in asked):
        made |= {call.call_id: Decision(approved=said in YES) for call in asked if call.by_text}
        left = [message for message in left if message is not first]
    return Decisions(message_id=asked[0].message_id, calls=made), left


def without_answers(asked: Sequence[AskedCall], messages: Sequence[AnyMessage], why: str) -> list[AnyMessage]:
    """Return the messages after a turn that waits, where the calls cannot be run: with results that say why."""
    ids = {call.asked_as for call in asked}
    results = [not_run(ToolCall(name=call.name, args={}, id=call.call_id), why) for call in asked]
    left = (message for message in messages if not (isinstance(message, ToolMessage) and message.tool_call_id in ids))
    return [*results, *left]


def load_decision(message: ToolMessage, call: AskedCall) -> Decision:
    """Return what the result of `approve_tool_call` decides; a call that its user abandoned is refused.

    Raises:
        InvalidRequest: it is not what the tool returns.
    """
    if message.status == "error":
        return Decision(approved=False, reason=str(message.text))
    match message.artifact or _json(str(message.text)):
        case bool(approved):
            return Decision(approved=approved, asked_as=call.asked_as)
        case {"approved": bool(approved), **rest}:
            arguments, reason = rest.get("arguments"), rest.get("reason")
            if isinstance(arguments, dict | None) and isinstance(reason, str | None):
                try:
                    return Decision.checked(
                        approved=approved, arguments=arguments, reason=reason, asked_as=call.asked_as
                    )
                except ValueError as error:
                    raise unusable_arguments(error, "messages") from error
    raise InvalidRequest(
        f'The answer to {call.asked_as} must be JSON: {{"approved": true}} or {{"approved": false}}, with '
        "'arguments' (an object) to change them or a 'reason' (text).",
        param="messages",
        code="invalid_value",
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def unusable_arguments(error: ValueError, param: str) -> InvalidRequest:
    """Return the error for arguments in place of the model's that cannot be stored."""
    return InvalidRequest(f"Invalid 'arguments': {error}.", param=param, code="invalid_value")


def _as_calls(calls: Sequence[AwaitedCall]) -> tuple[Sequence[AskedCall], Sequence[RunEvent]]:
    asked = [AskedCall(**asdict(call), asked_as=call.call_id) for call in calls]
    deltas = [ClientCallDelta(call.call_id, APPROVE_TOOL, _about(call)) for call in calls]
    return asked, [*deltas, *(ClientCall(call.call_id) for call in calls)]


def _as_items(
    new_id: Callable[[int], str], calls: Sequence[AwaitedCall]
) -> tuple[Sequence[AskedCall], Sequence[RunEvent]]:
    asked = [AskedCall(**asdict(call), asked_as=new_id(place)) for place, call in enumerate(calls)]
    return asked, [ApprovalRequested(str(call.asked_as), call.name, call.arguments, call.server) for call in asked]


def _in_words(
    session_id: str, by_text: bool, calls: Sequence[AwaitedCall]
) -> tuple[Sequence[AskedCall], Sequence[RunEvent]]:
    asked = [AskedCall(**asdict(call), asked_as=None, by_text=by_text) for call in calls]
    message_id = str(uuid4())
    return asked, [
        Text(message_id, "\n".join(_words(session_id, by_text, calls))),
        MessageEnded(message_id, None, None),
    ]


def _words(session_id: str, by_text: bool, calls: Sequence[AwaitedCall]) -> Iterator[str]:
    yield "This needs your approval. · 승인이 필요합니다."
    for call in calls:
        yield f"- `{call.name}` {_dump(call.arguments)}"
    if by_text:
        yield "Run it? Answer yes or no. · 실행할까요? 예 또는 아니요로 답해 주세요."
    else:
        path = f"POST /v1/sessions/{session_id}/approve"
        yield f"Approve it with `{path}`. · `{path}` 요청으로 승인할 수 있습니다."


def _about(call: AwaitedCall) -> str:
    return _dump({"tool": call.name, "server": call.server, "arguments": call.arguments})


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _said(message: HumanMessage) -> str:
    return re.sub(r"[\s.!?,。]+", "", str(message.text)).casefold()
