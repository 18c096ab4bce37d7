"""Read the body of an error response, in each of the forms that endpoints use. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from graph.model.text import paired_surrogates

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # control characters, on which a terminal or a log would act
MAX_SHOWN = 20_000

# Types and codes that errors in a stream name in place of a status.
STATUS_OF_KIND: Mapping[str, int] = {
    "badrequest": 400,
    "invalidrequest": 400,
    "invalid_request": 400,
    "validation": 422,
    "authentication": 401,
    "unauthorized": 401,
    "invalid_api_key": 401,
    "permission": 403,
    "forbidden": 403,
    "not_found": 404,
    "notfound": 404,
    "timeout": 504,
    "ratelimit": 429,
    "rate_limit": 429,
}


def words(body: object) -> str:
    """Return what an error's body says, as one line; empty if it is a web page."""
    return paired_surrogates(" ".join(CONTROLS.sub(" ", _words(body)).split())[:MAX_SHOWN])


def is_page(body: object) -> bool:
    """Whether a body is a web page, which some other server answered with."""
    return isinstance(body, str) and body.lstrip()[:1] == "<"


def _words(body: object) -> str:
    match body:
        case str():
            return "" if is_page(body) else body[:MAX_SHOWN]
        case list():
            return "; ".join(filter(None, map(_words, body[:10])))
        case dict():
            said = next((_words(body[key]) for key in WORDED if body.get(key)), "")
            return ": ".join(filter(None, [_place(body), said, _raw(body)]))
    return ""


# Where an error's words may stand, in the order in which they are looked for.
WORDED = ("error", "message", "detail", "msg", "error_message", "error_msg", "errors", "reason", "description", "title")


def _place(body: Mapping[str, Any]) -> str:
    """Return the field that a complaint of FastAPI's is about."""
    location = body.get("loc")
    return ".".join(map(str, location)) if isinstance(location, list) else ""


def _raw(body: Mapping[str, Any]) -> str:
    """Return the words of the provider behind OpenRouter."""
    metadata = body.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return raw if isinstance(raw, str) else ""


def kind_of(body: object) -> str:
    """Return the types and codes that an error names."""
    error = _innermost(body)
    return " ".join(str(error[key]) for key in ("type", "code", "status") if isinstance(error.get(key), str | int))


def status_of(body: object, kind: str) -> int | None:
    """Return the HTTP status that an error names, or that its kind stands for."""
    error = _innermost(body)
    for key in ("code", "status", "status_code", "http_status"):
        match error.get(key):
            case int(number) if 400 <= number < 600:
                return number
            case str(text) if re.fullmatch(r"[45]\d\d", text):
                return int(text)
    known = (status for name, status in STATUS_OF_KIND.items() if name in kind.lower())
    return next(known, None)


def _innermost(body: object) -> Mapping[str, Any]:
    """Return the object that describes the error."""
    first = body[0] if isinstance(body, list) and body else body
    error: Mapping[str, Any] = first if isinstance(first, dict) else {}
    while isinstance(inner := error.get("error") or error.get("detail"), dict):
        error = inner
    return error
