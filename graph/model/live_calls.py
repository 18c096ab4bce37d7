"""The calls of one answer, told while they come. Pure."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from graph.model.arguments import LiveArguments
from graph.model.calls import BegunCall, CallAssembly


class CallPiece(NamedTuple):
    """The next piece of a call's arguments."""

    call_id: str
    name: str
    arguments: str


class LiveCalls:
    """The calls of one answer, as far as it is certain what they are: one after the other, in the order of their begin.

    Args:
        assembly: the calls.
        names: the names of the tools whose calls are told.
        at_most: how many are told; None for any number.
    """

    def __init__(self, assembly: CallAssembly, names: Collection[str], at_most: int | None = None) -> None:
        self._assembly, self._names, self._at_most = assembly, frozenset(names), at_most
        self._arguments: dict[str, LiveArguments] = {}  # of all calls, by their ids
        self._told: dict[str, LiveArguments] = {}  # of those that were told

    def next(self, call: BegunCall, piece: str) -> Iterator[CallPiece]:
        """Yield what can be told after the next piece of a call's arguments."""
        if not piece or not self._names:
            return
        arguments = self._arguments.setdefault(call.call_id, LiveArguments())
        arguments.feed(piece)
        if self._is_told(call) and (said := arguments.take()):
            self._told[call.call_id] = arguments
            yield CallPiece(call.call_id, call.name, said)

    def rest(self) -> Iterator[CallPiece]:
        """Yield what is left of the calls that were told, at the end of the answer."""
        for begun, call in self._assembly.loaded:
            if arguments := self._told.get(begun.call_id):
                rest = arguments.rest(begun.text, is_valid=call["type"] == "tool_call")
                if rest:
                    yield CallPiece(begun.call_id, begun.name, rest)

    def _is_told(self, call: BegunCall) -> bool:
        has_room = call.call_id in self._told or self._at_most is None or len(self._told) < self._at_most
        return has_room and call.name in self._names and self._assembly.is_certain(call)
