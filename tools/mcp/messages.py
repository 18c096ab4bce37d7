"""Repair JSON-RPC messages of servers so that the SDK's session can read them. Pure.

The session ignores what it cannot read, and the request waits for its timeout. So half a surrogate pair becomes U+FFFD,
and an answer of the wrong form becomes an error that says so.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from mcp.types import INTERNAL_ERROR, JSONRPCMessage, JSONRPCNotification, ServerNotification
from pydantic import ValidationError
from pydantic_core import from_json

from tools.json_size import has_more_values

TOO_DEEP = "Its answer is nested too deep to be read."
NOT_JSON = "Its answer is not valid JSON."
# Bytes of an answer that are read: results are cut far shorter, but may have several images.
MAX_ANSWER, MAX_VALUES = 24 * 2**20, 200_000
TOO_LARGE = f"Its answer is larger than {MAX_ANSWER} bytes, or has more than {MAX_VALUES} JSON values."
WRONG_FORM = "Its answer does not have the form that MCP asks for."
# Python refuses numbers of thousands of digits; ids are never that long.
DIGITS = re.compile(r"\d{1,18}")
ID = re.compile(rf'"id"\s*:\s*"?({DIGITS.pattern})(?!\d)')


def readable(text: str | bytes) -> list[JSONRPCMessage]:
    """Return the messages in a text: one, several if it is an array, none if it is not JSON-RPC."""
    given = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if has_more_values(given, MAX_VALUES):
        return list(_broken(given.decode(errors="replace"), TOO_LARGE))
    try:
        parsed = json.loads(text)
        items = parsed if isinstance(parsed, list) else [parsed]
        return [message for item in items if isinstance(item, dict) for message in _read(item)]
    except (ValueError, RecursionError):
        return list(_broken(text if isinstance(text, str) else text.decode(errors="replace")))


def encoded(message: JSONRPCMessage) -> bytes:
    """Return a message as JSON that the SDK can read; what is nested too deep for it becomes an error or nothing."""
    try:
        text = message.model_dump_json(by_alias=True, exclude_none=True).encode()
        from_json(text)  # the SDK parses with it
    except ValueError:
        request_id = answered_id(message)
        return b"" if request_id is None else encoded(error_answer(request_id, TOO_DEEP))
    return text


def without_half_characters(value: Any) -> Any:
    """Return a JSON value in which half a surrogate pair is U+FFFD, since no UTF-8 can hold it."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isascii() or _is_whole(text):
        return value
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def answered_id(message: JSONRPCMessage) -> int | str | None:
    """Return the id of the request that a message answers; None if it is not an answer."""
    root = message.root
    found = None if isinstance(root, JSONRPCNotification) or hasattr(root, "method") else root.id
    return int(found) if isinstance(found, str) and DIGITS.fullmatch(found) else found


def _read(item: dict[str, Any]) -> Iterator[JSONRPCMessage]:
    try:
        message = JSONRPCMessage.model_validate({"jsonrpc": "2.0", **without_half_characters(item)})
    except ValidationError:
        if "method" not in item and isinstance(item.get("id"), int | str):
            yield error_answer(item["id"], _words(item.get("error")))
        return
    if isinstance(message.root, JSONRPCNotification) and not _is_known(message.root):
        return  # the SDK would log it as an error
    yield message


def _broken(text: str, words: str = NOT_JSON) -> Iterator[JSONRPCMessage]:
    found = ID.search(text) if text.lstrip().startswith("{") else None
    if found and '"method"' not in text:
        yield error_answer(int(found[1]), words if len(text) < MAX_ANSWER else TOO_LARGE)


def error_answer(request_id: int | str, words: str) -> JSONRPCMessage:
    """Return the answer that a request failed, and why."""
    error = {"code": INTERNAL_ERROR, "message": words}
    return JSONRPCMessage.model_validate({"jsonrpc": "2.0", "id": request_id, "error": error})


def _words(error: object) -> str:
    match error:
        case str(words) | {"message": str(words)} if words:
            return words
        case _:
            return WRONG_FORM


def complaint(body: bytes) -> tuple[str | None, int | None]:
    """Return what a JSON-RPC error in a body says, whichever request it names, and its code."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    match found:
        case {"error": {"message": str(words), "code": int(code)}}:
            return words, code
        case {"error": {"message": str(words)}} | {"error": str(words)} | {"message": str(words)}:
            return words, None
        case _:
            return None, None


def _is_known(notification: JSONRPCNotification) -> bool:
    try:
        ServerNotification.model_validate(notification.model_dump(by_alias=True, exclude_none=True))
    except ValidationError:
        return False
    return True


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
