"""Tool calls from the fragments in which a model endpoint sends them. Pure."""

import json
import re
import secrets
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from langchain_core.messages import InvalidToolCall, ToolCall

from graph.model.arguments import load_arguments
from graph.model.bounds import DEFAULT_BOUNDS, Bounds, too_large
from graph.model.failures import Failure, ModelFailure
from graph.model.text import paired_surrogates

ALPHANUMERIC = string.ascii_letters + string.digits
# The function names that strict endpoints accept when a call is sent back to them.
NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
MAX_NAME = 64


def new_call_id() -> str:
    """Return an id in OpenAI's form, `call_` and 24 letters or digits."""
    return "call_" + "".join(secrets.choice(ALPHANUMERIC) for _ in range(24))


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one chunk says of a call: `index`, `id` and `name` where it has them, and more of the arguments' JSON."""

    index: object = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True, eq=False)
class BegunCall:
    """A call of which fragments have come."""

    index: object
    id: str | None
    """In the endpoint's words; some use the same ids in every answer, and ids must be unique in a thread."""
    call_id: str = field(default_factory=new_call_id)
    """Ours."""
    name: str = ""
    arguments: dict[int, str] = field(default_factory=dict)
    """The pieces of the arguments, by when they came."""

    @property
    def text(self) -> str:
        """The arguments as far as they have come."""
        return "".join(self.arguments.values())


class CallAssembly:
    """The calls of one answer, put together from fragments however the endpoint numbers, names and repeats them.

    A fragment whose id is known continues the call of that id. A name begins a call, unless the call that the fragment
    continues has none yet, has this one, or goes on with it. Everything else continues the call of its index; without
    a known index, the newest call.

    Args:
        names: the names of the tools that the model may call; they tell the second half of a name from another name.
        bounds: how many calls there may be, and how large.
    """

    def __init__(self, names: Collection[str] = (), bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._names, self._bounds = frozenset(names), bounds
        self._length = 0
        self._begun: list[BegunCall] = []
        self._pieces = 0

    def add(self, fragment: Fragment) -> BegunCall:
        """Take in the next fragment, and return its call.

        Raises:
            ModelFailure: these are more calls, or larger ones, than an answer may have.
        """
        call = self._nearest(fragment)
        if call is None or not self._continues(call, fragment):
            call = BegunCall(fragment.index, fragment.id)
            self._begun.append(call)
            if len(self._begun) > self._bounds.calls:
                words = f"The model called more than {self._bounds.calls} tools at once."
                raise ModelFailure(Failure("failed", words=words))
        call.id = call.id or fragment.id
        if fragment.name and not self._repeats(call.name, fragment.name):
            call.name += fragment.name
        if fragment.arguments:
            self._pieces += 1
            call.arguments[self._pieces] = fragment.arguments
            self._length += len(fragment.arguments)
            if self._length > self._bounds.arguments:
                raise too_large("arguments of tool calls", self._bounds.arguments)
        return call

    def __bool__(self) -> bool:
        """Whether a call has begun."""
        return bool(self._begun)

    @cached_property
    def loaded(self) -> Sequence[tuple[BegunCall, ToolCall | InvalidToolCall]]:
        """The calls at the end of the answer, as they were begun and as they are read."""
        return [(call, load_call(call.name, call.text, call.call_id)) for call in self._named()]

    def calls(self) -> tuple[list[ToolCall], list[InvalidToolCall]]:
        """Return the valid calls, and those whose arguments are not a JSON object."""
        return (
            [call for _, call in self.loaded if call["type"] == "tool_call"],
            [call for _, call in self.loaded if call["type"] == "invalid_tool_call"],
        )

    def is_certain(self, call: BegunCall) -> bool:
        """Whether a call with arguments keeps its name, and gets the next pieces of its own alone."""
        return call is self._begun[-1] and all(begun.name.strip() for begun in self._begun)

    @property
    def is_nameless(self) -> bool:
        """Whether the model made a call without ever naming the tool."""
        return bool(self._begun) and not self._named()

    def _named(self) -> list[BegunCall]:
        """Return the calls that have a name; where there is just one, all arguments are its own.

        A call that never got a name is left out: it cannot be run, and endpoints refuse it in the history.
        """
        named = [call for call in self._begun if call.name.strip()]
        if len(named) == 1 < len(self._begun):
            pieces = {when: piece for call in self._begun for when, piece in call.arguments.items()}
            named[0].arguments = dict(sorted(pieces.items()))
        return named

    def _nearest(self, fragment: Fragment) -> BegunCall | None:
        """Return the newest call that the fragment may belong to: by its id, else by its index, else the newest."""
        same_id = [call for call in self._begun if fragment.id and call.id == fragment.id]
        among = same_id or self._begun
        same_index = [call for call in among if fragment.index is None or call.index == fragment.index]
        if same_index or same_id:
            return (same_index or same_id)[-1]
        is_a_tail = self._begun and not fragment.name and not fragment.id and not _is_whole(self._begun[-1])
        return self._begun[-1] if is_a_tail else None

    def _continues(self, call: BegunCall, fragment: Fragment) -> bool:
        if not fragment.name or not call.name:
            return True
        if fragment.id and call.id and fragment.id != call.id:
            if not call.arguments:
                return call.name + fragment.name in self._names
            is_under_its_index = fragment.index is not None and fragment.index == call.index
            return is_under_its_index and self._repeats(call.name, fragment.name) and not _is_whole(call)
        if self._repeats(call.name, fragment.name):
            return not _is_whole(call) or fragment.arguments in ("", call.text)
        return not call.arguments and self._goes_on_with(call.name, fragment.name)

    def _repeats(self, name: str, piece: str) -> bool:
        return name == piece and name + piece not in self._names

    def _goes_on_with(self, name: str, piece: str) -> bool:
        """Whether the piece is the next part of a name, not a name itself."""
        return name + piece in self._names or not self._names & {name, piece}


def _is_whole(call: BegunCall) -> bool:
    """Whether a call's arguments are complete; `{}` are not: some endpoints send them before the real ones."""
    if not next(reversed(call.arguments.values()), "").rstrip().endswith("}"):
        return False
    try:
        return bool(json.loads(call.text))
    except (ValueError, RecursionError):
        return False


def load_call(name: str, text: str, call_id: str | None) -> ToolCall | InvalidToolCall:
    """Return a call with its arguments read, or as an invalid one where they are no JSON object.

    langchain-core completes JSON that was cut, which would run a tool with arguments that the model never finished.
    """
    name, text = NOT_IN_A_NAME.sub("_", name.strip())[:MAX_NAME], paired_surrogates(text)
    try:
        return ToolCall(name=name, args=load_arguments(text), id=call_id, type="tool_call")
    except (ValueError, RecursionError) as error:
        return InvalidToolCall(name=name, args=text, id=call_id, error=str(error), type="invalid_tool_call")
