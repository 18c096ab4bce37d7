"""Tell what the failure of a model endpoint means; the only module that reads its errors. Pure.

Endpoints report one problem in many words and under many statuses: as an HTTP error, as an event of a stream, or in a
body with the status 200. The words count more than the code, and the code more than the status.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graph.model.error_body import MAX_SHOWN, is_page, kind_of, status_of, words

Meaning = Literal[
    "context too long",
    "no tools",
    "no images",
    "no temperature",
    "no stream options",
    "filtered",
    "no model",
    "wrong address",
    "wrong key",
    "no credit",
    "no memory",
    "rate limited",
    "too large",
    "timed out",
    "refused",
    "failed",
    "unreachable",
    "broke off",
    "stalled",
    "incomplete",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong at the endpoint, in its own `words` where it has some."""

    meaning: Meaning
    words: str = ""
    status: int | None = None
    retry_after: str | None = None
    detail: str = ""
    """What we can add to it, in one sentence."""


class ModelFailure(Exception):
    """The model endpoint failed, or refused the request."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.meaning}: {failure.words}" if failure.words else failure.meaning)
        self.failure = failure
        self.error_type = failure.meaning.replace(" ", "_")
        """What traces and metrics call it."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


RATE = r"rate[ _-]?limit|too many requests|resource[ _]exhausted|per-?minute|tokens per|wait before"
NO_CREDIT = re.compile(r"insufficient[_ ](quota|credit|balance|fund)|plan and billing", re.IGNORECASE)
# "does not support", "isn't enabled", "unsupported", …
NOT = r"(\b(no|not|un)|n't)[ -]?(yet |currently |be |been )?"
CAN = r"(support|enabl|allow|accept|implement|recogni[sz]|permit)\w*"
TOOLS = r"['\"`]?\b(tools?|functions?|(tool|function)[_ -]?(use|usage|call(s|ing)?))\b['\"`]?"
# Words around them that make it a complaint about one tool, or about tools combined with something else.
NOT_BESIDE = r"(?! (with|when|while|for|in|by|alongside|together|multiple|streaming|parallel)\b)"
OF_ONE_TOOL = r"(?! (schema|message|name|description|parameter)s?\b)"
IMAGES = r"\b(image|vision|multi-?modal)\w*"
UNKNOWN = r"(unrecognized|unknown|unexpected|extra|unsupported|additional)( \w+){0,3}:? ['\"`]?"

# In the order in which they are looked for, in an error's codes and words together.
BY_WORDS: list[tuple[Meaning, re.Pattern[str]]] = [
    (
        "wrong key",
        _any(r"(incorrect|invalid|missing|expired)[ _]api[ _-]?key|api[ _-]?key (is )?(not valid|invalid|expired)"),
    ),
    ("context too long", _any(r"maximum context length|exceed_context|context_length_exceeded")),
    (
        "refused",
        _any(
            r"max(_completion|_output)?_tokens['\"`]? .{0,80}(exceed|must be|less than|too large)|output token limit",
            r"\bmetadata\b|(tool|function) description|['\"`]user['\"`]",
        ),
    ),
    (
        "context too long",
        _any(
            r"context[ _-]?(length|window|size|limit|overflow)|max_model_len|\bn_ctx\b|prompt_too_long",
            r"maximum (model |prompt |input |sequence )?(length|tokens) (of|is) \d",
            r"(prompt|input|request|message|conversation)s?( \S+)? (is|are|was) too long",
            r"(prompt|input) too long|too many (input |prompt )?tokens\b(?! per)|request too large for model",
            r"exceed\w*( \S+){0,4} (max(imum)? (\w+ )?length|maximum number of (\w+ )?tokens|token limit)",
            r"(input|prompt|total|number of)( \w+)?[ _]tokens?\b.{0,40}(exceed|must be <|is (greater|larger|longer))",
            r"\binputs?`? (must have less|tokens \+)|longer than the (maximum )?(\w+ )?(length|context)",
            r"(reduce|shorten) the length of|reduce your (prompt|input)|token limit (was |is )?(exceeded|reached)",
        ),
    ),
    (
        "no tools",
        _any(
            r"enable-auto-tool-choice|tool-call-parser|no endpoints .* tool use",
            r"tools? param\w* requires? .{0,3}--?jinja",
        ),
    ),
    ("refused", _any(r"parallel[ _]tool|(tool|function)[ _]choice|function_call\b|tools?[\[.]\d|functions?[\[.]\d")),
    (
        "no tools",
        _any(
            rf"{NOT}{CAN}{NOT_BESIDE}( \S+){{0,3}} {TOOLS}{OF_ONE_TOOL}",
            rf"{TOOLS}(?! \S*['\"`]:){OF_ONE_TOOL}( \S+){{0,4}} {NOT}{CAN}",
            rf"{TOOLS}: ?extra inputs are {NOT}{CAN}",
            rf"{UNKNOWN}(tools|functions)\b(?! ?\[)",
        ),
    ),
    (
        "no images",
        _any(
            rf"(do(es)? not|n't|cannot) (support|accept|take|handle)\w*( \S+){{0,3}} {IMAGES}",
            rf"{IMAGES}( \S+){{0,3}} (is|are) not (currently |yet )?(supported|enabled|accepted|allowed)( |\.|,|$)",
            r"image_url.{0,3} is only supported by|unknown variant .?image_url|mmproj|at most 0 image",
            r"not a (multi-?modal|vision) model|no endpoints .* image",
        ),
    ),
    ("no temperature", _any(r"['\"`]temperature['\"`]( \S+){0,2} " + NOT + CAN, UNKNOWN + "temperature")),
    (
        "no stream options",
        _any(
            UNKNOWN + "stream_options",
            rf"not permitted: stream_options|stream_options['\"`:]{{0,2}}( \S+){{0,3}} {NOT}{CAN}",
        ),
    ),
    ("filtered", _any(r"content[_ ]filter|content (management )?policy|content_policy|\bflagged\b|moderation")),
    (
        "no credit",
        _any(
            r"insufficient[_ ](quota|credit|balance|fund)|exceeded your current quota|billing[ _](hard|not)",
            r"payment required|out of credit|credit balance",
        ),
    ),
    (
        "no model",
        _any(
            r"model_not_found|try pulling it|models?/\S+ is not found|not a valid model|decommissioned",
            r"\bmodel\b( \S+){0,4} (not found|(does not|doesn't) exist|is not (found|available|loaded))",
            r"\bno models? (found|loaded|named|is loaded)|(no such|unknown) model\b|invalid model( name|:)",
        ),
    ),
    ("no memory", _any(r"more (system |gpu |v)?memory|out of memory|insufficient (\w+ )?memory|unable to allocate")),
    (
        "wrong address",
        _any(r"unexpected endpoint|cannot (get|post) /|(invalid|unknown) (url|path|endpoint|route)\b(?!:)"),
    ),
    ("rate limited", _any(RATE)),
]

BY_STATUS: Mapping[int, Meaning] = {
    401: "wrong key",
    402: "no credit",
    403: "wrong key",
    404: "wrong address",
    405: "wrong address",
    408: "timed out",
    410: "wrong address",
    413: "too large",
    429: "rate limited",
    504: "timed out",
    524: "timed out",
}

# Meanings that a status rules out, whatever the words say: they may quote the request, or a model may still be loading.
UNFIT: Mapping[int, Collection[Meaning]] = {400: ["wrong address"], 500: ["refused"], 503: ["refused", "no model"]}

# An event or a body that reports a failure has one of these, or is an `object` called `error`.
REPORTING = frozenset(("error", "type", "detail"))


def read_failure(status: int | None, body: object, *, retry_after: str | None = None) -> Failure:
    """Return what an error response means; without a status, what an error in a stream or in a 200 means."""
    said, kind = words(body), kind_of(body)
    status = status if status is not None and status >= 400 else status_of(body, kind)
    meaning = _meaning(f"{kind} {said}", status) or (BY_STATUS.get(status) if status else None)
    if meaning is None and status is None and is_page(body):
        meaning = "wrong address"
    if meaning is None and status is not None:
        meaning = "refused" if status < 500 else "failed"
    if meaning == "failed" and status is not None:
        said = ""  # a 5xx; its words may show the endpoint's internals
    return Failure(meaning or "failed", said, status, retry_after)


def _meaning(said: str, status: int | None) -> Meaning | None:
    """Return what an error's words mean; None where they mean nothing that is known, or that fits the status."""
    if status == 401:
        return "wrong key"  # whatever its words say
    if status == 429:
        return "no credit" if NO_CREDIT.search(said) else "rate limited"
    unfit = UNFIT.get(status or 0, ())
    found = (meaning for meaning, pattern in BY_WORDS if meaning not in unfit and pattern.search(said[:MAX_SHOWN]))
    meaning = next(found, None)
    return None if status == 403 and meaning not in ("no credit", "filtered") else meaning


def reported_failure(said: Mapping[str, Any], *, is_error: bool = False) -> Failure | None:
    """Return the failure that an event or a body reports, or None.

    `is_error` where something else says that it is one, such as the event's name.
    """
    is_error = is_error or said.get("object") == "error"
    if not is_error and REPORTING.isdisjoint(said):
        return None
    is_error = is_error or said.get("type") == "error" or bool(said.get("error"))
    if is_error or (said.get("detail") and not said.get("choices") and "id" not in said):
        return read_failure(None, said)
    return None
