"""The arguments of a tool call, as JSON text. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import InvalidToolCall, ToolCall

from graph.model.text import AnswerText, paired_surrogates

# Levels of nesting in arguments; checkpoints take no more than about 250.
MAX_DEPTH = 100
# What an object with a member begins with, and what may still become that.
MEMBER, UNDECIDED = re.compile(r"\{\s*[^\s}]"), re.compile(r"(\{\s*)?")


def load_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a call; empty ones, `null` and JSON inside a JSON string are read as meant.

    Raises:
        ValueError: they are not a JSON object, or have a value that cannot be stored.
    """
    arguments = _only_value(text)
    if isinstance(arguments, str):
        arguments = _only_value(arguments)
    if not isinstance(arguments, dict):
        raise ValueError("not a JSON object")
    return storable_arguments(arguments)


def storable_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call in a form that checkpoints can store.

    Raises:
        ValueError: they have a value that cannot be stored.
    """
    stored: dict[str, Any] = storable(dict(arguments))
    json.dumps(stored, allow_nan=False)  # a huge number is read as Infinity, which JSON cannot express
    return stored


def _only_value(text: str) -> Any:
    """Return the JSON value of a text; some endpoints say it twice, or `{}` before it.

    Raises:
        ValueError: there is no value, or two different ones.
    """
    values, rest = [], text.strip()
    while rest:
        value, end = DECODER.raw_decode(rest)
        values.append(value)
        rest = rest[end:].lstrip()
    said = [value for value in values if value not in (None, {}, "")]
    if any(value != said[0] for value in said):
        raise ValueError("more than one JSON value")
    return said[0] if said else {}


def storable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a JSON value in a form that checkpoints can store.

    A number of more than 64 bits is read as JavaScript reads it, half a surrogate pair as U+FFFD.

    Raises:
        ValueError: JavaScript reads a number as Infinity, or the value is nested too deep.
    """
    match value:
        case str():
            return value if value.isascii() else paired_surrogates(value)
        case dict() if depth:
            return {storable(name): storable(item, depth - 1) for name, item in value.items()}
        case list() if depth:
            return [storable(item, depth - 1) for item in value]
        case dict() | list():
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        case int() if not -(2**63) <= value < 2**64:
            try:
                return float(value)
            except OverflowError as error:
                raise ValueError("a number is too large") from error
        case _:
            return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_number)


def dump_arguments(call: ToolCall | InvalidToolCall) -> str:
    """Return a call's arguments as JSON text, or as the model wrote them if they are not JSON."""
    return json.dumps(call["args"], ensure_ascii=False) if call["type"] == "tool_call" else call["args"] or ""


class LiveArguments:
    """The text of a call's arguments while it comes, as far as it is certain.

    Some endpoints send `{}` or "" before the arguments, or JSON inside a JSON string, or the same arguments twice. So
    only an object with a member is certain, and nothing that comes after its end.
    """

    def __init__(self) -> None:
        self._text = AnswerText()
        self._beginning = ""
        self._has_begun = self._is_over = False
        self._depth, self._is_quoted, self._is_escaped = 0, False, False
        self._ready: list[str] = []
        self._taken = 0

    def feed(self, piece: str) -> None:
        """Take in the next piece of the arguments."""
        text = self._text.next(piece)
        if not self._has_begun and not self._is_over:
            text = self._beginning = (self._beginning + text).lstrip()
            self._has_begun = bool(MEMBER.match(text))
            self._is_over = not self._has_begun and not UNDECIDED.fullmatch(text)
        if self._has_begun and not self._is_over:
            self._ready.append(text[: self._end(text)])

    def take(self) -> str:
        """Return what is certain and was not taken before."""
        taken = "".join(self._ready)
        self._ready.clear()
        self._taken += len(taken)
        return taken

    def rest(self, text: str, *, is_valid: bool) -> str:
        """Return what was not taken of the whole text; of a valid one, nothing behind the first object."""
        whole = paired_surrogates(text).lstrip()
        end = DECODER.raw_decode(whole)[1] if is_valid else None
        return whole[self._taken : end]

    def _end(self, text: str) -> int | None:
        """Return where the object ends in its next piece, or None."""
        for at, char in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_quoted:
                self._is_escaped, self._is_quoted = char == "\\", char != '"'
            elif char == '"':
                self._is_quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if not self._depth:
                    self._is_over = True
                    return at + 1
        return None
