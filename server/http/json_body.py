"""The JSON of a request's body, parsed once.

Clients cut texts at any place and may send half a character, as half a surrogate pair. Refused, it would be a 400 for
as long as it is in their history; so it is read as U+FFFD, as in the model's own text. Values that are not JSON, such
as NaN, are refused. So are very many values, before they are parsed: making objects of them would hold everybody up.
"""

import asyncio
import json
import re
from codecs import BOM_UTF8
from typing import Any

import orjson
from fastapi import Request
from pydantic_core import from_json

from graph.model.text import paired_surrogates
from server.errors import InvalidRequest
from server.http.complaints import NOT_JSON
from server.http.stats import STATS
from tools.json_size import has_more_values

# What begins an escape by number; both halves of a character, or half of one.
NUMBERED = r"\u"
HALVES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
# Stands for an escaped backslash, which begins no escape. It cannot be in JSON text.
BACKSLASH = "\0"
# Bytes from which a body is parsed in a thread, since it may take long.
LARGE = 2**20


class JsonRequest(Request):
    """A request whose body must be JSON in UTF-8, nested no deeper than 200 levels, of no more values than allowed."""

    async def json(self) -> Any:
        """Return the body's value.

        Raises:
            InvalidRequest: it is not JSON, or has too many values or messages.
        """
        if not hasattr(self, "_json"):
            body, settings = await self.body(), self.app.state.settings
            if stats := STATS.get():
                stats.body_size = len(body)
            self._json = await parsed(body, settings.max_values)
            _check_messages(self._json, settings.max_messages)
        return self._json


def is_json(kind: str) -> bool:
    """Say whether a Content-Type is that of JSON; its parameters, such as the charset, are ignored."""
    media_type = kind.partition(";")[0].strip().lower()
    main, _, sub = media_type.partition("/")
    return main == "application" and (sub == "json" or sub.endswith("+json"))


def _check_messages(body: Any, most: int) -> None:
    """Refuse a conversation that is too long, before each of its messages is looked at."""
    given = body.get("input") if isinstance(body, dict) else None
    for param, within in (("messages", body), ("input", given)):
        messages = within.get("messages") if isinstance(within, dict) else within
        if isinstance(messages, list) and len(messages) > most:
            raise InvalidRequest(
                f"Invalid '{param}': array too long. Expected an array with maximum length {most}, but got an array "
                f"with length {len(messages)} instead.",
                param=param,
                code="array_above_max_length",
            )


async def parsed(body: bytes, max_values: int) -> Any:
    """Return the value of a request's JSON.

    Raises:
        InvalidRequest: it is not JSON, or has too many values.
    """
    if has_more_values(body, max_values):
        raise InvalidRequest(f"The request has more than {max_values} JSON values.", code="too_many_values")
    try:
        return decoded(body) if len(body) < LARGE else await asyncio.to_thread(decoded, body)
    except ValueError as error:
        raise InvalidRequest(NOT_JSON) from error


def decoded(body: bytes) -> Any:
    """Return the value of JSON text, with U+FFFD for half a character.

    Raises:
        ValueError: it is not JSON in UTF-8, or nested deeper than 200 levels.
    """
    body = body.removeprefix(BOM_UTF8)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return from_json(_with_whole_characters(body), allow_inf_nan=False)


def encoded(value: object) -> bytes:
    """Return a value as JSON in UTF-8; what clients send may have integers of any size."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False).encode()


def _with_whole_characters(body: bytes) -> str:
    text = paired_surrogates(body.decode(errors="surrogatepass"))
    if BACKSLASH in text:
        raise ValueError("a character that JSON text cannot have")
    text = text.replace(r"\\", BACKSLASH)
    pieces, done = [], 0
    at = text.find(NUMBERED)
    while at >= 0:  # one regular expression over all of it would keep other threads from running
        end = at + len(NUMBERED)
        if escape := HALVES.match(text, at):
            end = escape.end()
            if escape["half"]:
                pieces += [text[done:at], r"\ufffd"]
                done = end
        at = text.find(NUMBERED, end)
    return "".join([*pieces, text[done:]]).replace(BACKSLASH, r"\\")
