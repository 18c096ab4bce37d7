"""Decide which stored turn a request continues, and which of its messages are new. Pure.

Every answered request left a turn, and turns make a tree: a session may have several roots, and several answers to one
question. A request goes on after the longest part of the tree that its messages begin with, so that continuing,
regenerating, editing and switching branches are one look-up. Some messages may be the whole conversation or only its
newest part; the rules for them are below, in the order in which they are applied.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Literal

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from graph.approval import Decisions
from graph.history import call_ids, is_our_result
from graph.state import OUR_AGENT, TurnContext
from server.messages.tool_results import check_paired, results_at_end
from server.sessions.approval import AskedCall
from server.sessions.transcript import Transcript, digest_of

Mode = Literal["append", "full", "auto"]
Habit = Literal["append", "full"]
CANCELLED = "This tool call was cancelled by the user."


@dataclass(frozen=True)
class After:
    """The request says itself which turn it follows: that of a response, or without one the session's newest."""

    response: str | None = None
    known: Collection[str] = ()
    """The ids of messages that are there already, by the ids of their items."""


@dataclass(frozen=True)
class Addition:
    """Nobody answers the messages: all are new at the end of the session, or they are the whole conversation."""

    is_whole: bool = False


@dataclass(frozen=True)
class Approving:
    """Somebody decides about the calls that the session's newest turn waits with; its client sends and sees nothing."""

    decide: Callable[[Sequence[AskedCall]], Decisions]
    """Makes the decisions."""


Place = Mode | After | Addition | Approving
"""What a request says of where it goes on."""


@dataclass(frozen=True, kw_only=True)
class KnownTurn:
    """An answered turn, with what later requests need to know about it."""

    id: int
    number: int
    """Its place on its branch; a root is 1."""
    asked: bytes
    """The digest of the transcript up to its request."""
    digest: bytes
    """The digest of the transcript up to its answer."""
    checkpoint_id: str
    agent: str = OUR_AGENT
    """The agent that answered it."""
    waiting: tuple[str, ...] = ()
    """The client's tool calls that its answer ended with."""
    standing: tuple[str, ...] = ()
    """What system messages said that stand for all that follows, in the Responses API."""
    awaits: tuple[AskedCall, ...] = ()
    """The calls that it ended with, since a person must approve them."""
    context: TurnContext = field(default_factory=TurnContext)
    """What goes on to count if they are approved from beside."""
    is_followed: bool = False
    """Whether another turn that its client knows follows it, so that its calls no longer wait; of paused turns only."""


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What a session knows of a request's messages."""

    newest: KnownTurn | None = None
    """The newest turn, or the one that the request says it follows."""
    turns: Mapping[bytes, KnownTurn] = field(default_factory=dict)
    """Turns by digest, at least those that the messages begin with."""
    paused: Mapping[str, KnownTurn] = field(default_factory=dict)
    """Turns by the tool calls that they wait for, at least those whose calls are in the messages."""
    habit: Habit | None = None
    """What the session's client was seen to send: the whole conversation, or only what is new."""
    stored: int = 0
    """Bytes that its turns have stored."""
    may_wait: bool = False
    """Whether calls at the end of the messages may be open, since nobody answers them."""


@dataclass(frozen=True)
class Step:
    """Where a request goes on: after a stored turn, or nowhere, as a new root of its session's tree."""

    after: KnownTurn | None
    messages: Sequence[AnyMessage]
    """The new messages of the request."""
    asked: Transcript | None = None
    """The conversation up to and with the request, where that is not the request's own transcript."""


def reconcile(known: Knowledge, transcript: Transcript, mode: Place = "auto") -> Step:
    """Decide where a request's messages, without system ones, go on in the tree, and which of them are new.

    Raises:
        UnpairedMessage: tool results without their calls, or calls without all of their results.
    """
    messages = transcript.messages
    if isinstance(mode, After):
        if not mode.response and (paused := _paused(known, messages)):
            known = replace(known, newest=paused)
        return _follow(known, _not_repeated(known.newest, transcript, mode.known) if known.newest else messages)
    if isinstance(mode, Approving):
        return Step(known.newest, (), Transcript.of((), known.newest.digest) if known.newest else None)
    if isinstance(mode, Addition):
        waiting = replace(known, may_wait=True)
        return _found(waiting, transcript, "full") if mode.is_whole else _follow(waiting, messages)
    return _found(known, transcript, mode)


def _found(known: Knowledge, transcript: Transcript, mode: Mode) -> Step:
    """Find where messages go on that do not say so themselves."""
    messages = transcript.messages
    if not messages and mode != "append":  # the empty beginning, before the first turn
        return Step(None, ())
    if paused := _paused(known, messages):
        return Step(paused, _closed(known, results_at_end(messages), paused.waiting))
    if mode == "append":
        return _append(known, messages)
    continued = isinstance(messages[-1], AIMessage)
    for beginning in reversed(transcript.beginnings):
        turn = known.turns.get(beginning.digest)
        # All are known if an answer is to be continued, such as one that was stopped.
        if turn and (beginning.length < len(messages) or (continued and not turn.waiting)):
            return Step(turn, _closed(known, messages[beginning.length :], turn.waiting))
    if mode == "full" or known.newest is None or carries_answers(messages):
        return _new_root(known, messages)
    # Either only what is new, or all of it from a client that went back to its first question.
    if known.habit == "full" or (known.habit is None and _asks_again(known.newest, transcript)):
        return _new_root(known, messages)
    return _append(known, messages)


def whole_transcript(step: Step, transcript: Transcript) -> Transcript:
    """Return a request's transcript, with what came before it if the request does not repeat that."""
    if step.asked or step.after is None or not _alone(step, transcript.messages):
        return step.asked or transcript
    return Transcript.of(transcript.messages, step.after.digest)


def _follow(known: Knowledge, new: Sequence[AnyMessage]) -> Step:
    """Return new messages after the newest turn, first the results that it waits for, wherever they come."""
    if known.newest is None:
        return _new_root(known, new)
    waiting = known.newest.waiting
    results = [message for message in new if isinstance(message, ToolMessage) and message.tool_call_id in waiting]
    new = [*results, *(message for message in new if message not in results)]
    return replace(_append(known, new), asked=Transcript.of(new, known.newest.digest))


def _not_repeated(turn: KnownTurn, transcript: Transcript, known: Collection[str]) -> Sequence[AnyMessage]:
    """Return the messages without what they repeat of the conversation up to a turn.

    That may be all of it, messages that are known by their ids, or the turn's answer, which clients repeat before their
    results of the calls in it.
    """
    messages = transcript.messages
    for beginning in reversed(transcript.beginnings):
        if beginning.digest == turn.digest:
            return messages[beginning.length :]
    messages = [message for message in messages if message.id not in known]
    answer = list(takewhile(lambda message: isinstance(message, AIMessage) or is_our_result(message), messages))
    called = {call for message in answer if isinstance(message, AIMessage) for call in call_ids(message)}
    is_repeated = called & set(turn.waiting) or (answer and digest_of(answer, turn.asked) == turn.digest)
    return messages[len(answer) :] if is_repeated else messages


def habit_after(known: Knowledge, messages: Sequence[AnyMessage], step: Step) -> Habit | None:
    """Return what the session's client is seen to send, now that it sent this."""
    if carries_answers(messages):
        return "full"
    return "append" if known.habit is None and _alone(step, messages) else known.habit


def carries_answers(messages: Sequence[AnyMessage]) -> bool:
    """Say whether the messages contain earlier answers, not just calls with results or a text to continue."""
    spoken = [isinstance(message, AIMessage) for message in messages]
    while spoken and spoken[-1]:
        spoken.pop()
    return any(spoken[1:])


def _alone(step: Step, messages: Sequence[AnyMessage]) -> bool:
    """Say whether the messages came without what they follow: all are new, but they do not begin a root."""
    return step.after is not None and (not messages or any(message is messages[0] for message in step.messages))


def _append(known: Knowledge, messages: Sequence[AnyMessage]) -> Step:
    if known.newest is None:
        return _new_root(known, messages)
    return Step(known.newest, _closed(known, messages, known.newest.waiting))


def _new_root(known: Knowledge, messages: Sequence[AnyMessage]) -> Step:
    return Step(None, _closed(known, messages))


def _asks_again(newest: KnownTurn, transcript: Transcript) -> bool:
    """Say whether the messages are the first question again, perhaps with the beginning of an answer to it."""
    return newest.number == 1 and newest.asked in (end.digest for end in transcript.beginnings[-2:])


def _paused(known: Knowledge, messages: Sequence[AnyMessage]) -> KnownTurn | None:
    """Return the turn that waits for the results at the end, by the call ids alone: for all of them, if one does.

    What was decided from beside can be answered late: that forks.
    """
    calls = [message.tool_call_id for message in results_at_end(messages)]
    turns = [turn for call in calls if (turn := known.paused.get(call)) and not turn.is_followed]
    return next((turn for turn in turns if set(calls) <= set(turn.waiting)), turns[0] if turns else None)


def _closed(known: Knowledge, new: Sequence[AnyMessage], waiting: Sequence[str] = ()) -> list[AnyMessage]:
    """Return new messages with a result added for each of the session's calls that the user abandoned.

    Such a call stays in the client's history without a result, so it may come again anywhere in it.
    """
    ours = {*known.paused, *waiting}
    closed: list[AnyMessage] = []
    open_calls = Counter(waiting)
    for message in new:
        if isinstance(message, ToolMessage):
            open_calls[message.tool_call_id] -= 1
        else:
            left = [call for call in open_calls.elements() if call in ours]
            closed += [ToolMessage(CANCELLED, tool_call_id=call, status="error") for call in left]
            open_calls = Counter(call_ids(message)) if isinstance(message, AIMessage) else Counter()
        closed.append(message)
    check_paired(closed, waiting, may_wait=known.may_wait)
    return closed
