"""Read one chunk of a model endpoint, in each of the forms that endpoints use. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata

from graph.model.calls import Fragment
from graph.model.failures import Failure, ModelFailure, reported_failure

Finish = Literal["stop", "length", "content_filter"]

# Fields in which endpoints send reasoning; the first with text is taken, since some endpoints fill two.
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
# Fields of a delta beside its content. Most deltas have none of them.
BESIDE_CONTENT = frozenset((*REASONING_FIELDS, "reasoning_details", "refusal", "tool_calls", "function_call"))
REASONING_PARTS = ("thinking", "reasoning", "summary_text", "reasoning.text", "reasoning.summary")

# Finish reasons by their meaning, in lower case. A reason that contains none of these is a normal end.
LENGTH = ("length", "max_tokens", "max_token", "max_output_tokens", "max_new_tokens", "token_limit", "context_window")
FILTERED = ("content_filter", "filter", "safety", "recitation", "blocklist", "prohibited", "spii", "sensitive",
            "guardrail", "moderation", "policy", "refusal", "language")  # fmt: skip
FAILED = ("error", "fail", "abort", "cancel", "malformed", "unexpected", "insufficient", "overloaded", "timeout",
          "timed_out", "interrupted", "exception")  # fmt: skip
SEVERITY: Sequence[Finish] = ("stop", "length", "content_filter")


class Delta(NamedTuple):
    """What one chunk adds to an answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: Sequence[Fragment] = ()
    finish: Finish | None = None
    usage: UsageMetadata | None = None
    is_whole: bool = False
    """Whether it is a whole message; some endpoints end a stream with one, or send one instead of a stream."""


NOTHING = Delta()


def load_chunk(chunk: Any, *, name: str = "") -> Delta:
    """Return what a chunk says; a whole completion is a chunk that says everything.

    Args:
        chunk: the JSON of an event, or of a response's whole body.
        name: the event's name, where it has one.

    Raises:
        ModelFailure: it tells of an error.
    """
    if isinstance(chunk, list) and chunk:  # as some send an error
        chunk = chunk[0]
    if not isinstance(chunk, dict):
        return NOTHING
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    if failure := reported_failure(chunk, is_error=name == "error" and choice is None):
        raise ModelFailure(failure)
    if choice is None:
        return Delta(usage=load_usage(chunk.get("usage")))
    if failure := reported_failure(choice):
        raise ModelFailure(failure)
    said, is_whole = choice.get("delta"), False
    if not isinstance(said, dict):
        is_whole = "delta" not in choice and isinstance(choice.get("message"), dict)
        said = choice["message"] if is_whole else {"content": choice.get("text")}
    text, reasoning, refusal = _content(said.get("content"))
    calls: Sequence[Fragment] = ()
    if not BESIDE_CONTENT.isdisjoint(said):
        reasoning, refusal = _reasoning(said) or reasoning, refusal or _string(said.get("refusal"))
        calls = tuple(_fragments(said))
    finish = load_finish(choice.get("finish_reason"))
    usage = load_usage(chunk.get("usage")) or load_usage(choice.get("usage"))
    return Delta(text, reasoning, refusal, calls, finish, usage, is_whole)


def load_finish(reason: object) -> Finish | None:
    """Return what a finish reason means; None where there is none yet.

    Raises:
        ModelFailure: it says that the model failed.
    """
    if not isinstance(reason, str) or reason.strip().lower() in ("", "null", "none"):
        return None
    said = reason.strip().lower().replace("-", "_").replace(" ", "_")
    if any(part in said for part in LENGTH):
        return "length"
    if any(part in said for part in FILTERED):
        return "content_filter"
    if any(part in said for part in FAILED):
        raise ModelFailure(Failure("failed", words=f"It ended with finish_reason {reason[:100]!r}."))
    return "stop"


def more_severe(known: Finish | None, new: Finish | None) -> Finish | None:
    """Return the more severe of two finish reasons: some endpoints end an answer more than once."""
    return max(known, new, key=SEVERITY.index) if known and new else known or new


def load_usage(usage: object) -> UsageMetadata | None:
    """Return token counts; None where there are none, or all are zero."""
    if not isinstance(usage, dict):
        return None
    read = _count(usage, "prompt_tokens", "input_tokens")
    written = _count(usage, "completion_tokens", "output_tokens")
    if read is None or written is None or not read + written:
        return None
    loaded = UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
    prompt = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    answer = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    if (cached := _count({**usage, **_mapping(prompt)}, "cached_tokens", "prompt_cache_hit_tokens")) is not None:
        loaded["input_token_details"] = InputTokenDetails(cache_read=cached)
    if (thought := _count(_mapping(answer), "reasoning_tokens")) is not None:
        loaded["output_token_details"] = OutputTokenDetails(reasoning=thought)
    return loaded


def _count(counts: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        match counts.get(name):
            case bool():
                continue
            case int(count) if count >= 0:
                return count
            case float(count) if count >= 0 and count.is_integer():
                return int(count)
    return None


def _content(content: object) -> tuple[str, str, str]:
    """Return the text, the reasoning and the refusal of a content, which is a string, a part or a list of parts."""
    match content:
        case str():
            return content, "", ""
        case list():
            said = [_content(part) for part in content]
            return "".join(s[0] for s in said), "".join(s[1] for s in said), "".join(s[2] for s in said)
        case {"type": str(kind), **part} if kind in REASONING_PARTS:
            thought = next((part[key] for key in ("thinking", "reasoning", "text", "summary") if part.get(key)), "")
            return "", "".join(_content(thought)), ""
        case {"refusal": str(refusal)}:
            return "", "", refusal
        case {"text": str(text)}:
            return text, "", ""
        case {"text": {"value": str(text)}} | {"content": str(text)}:
            return text, "", ""
    return "", "", ""


def _reasoning(said: Mapping[str, Any]) -> str:
    for name in REASONING_FIELDS:
        if (thought := said.get(name)) and (text := "".join(_content(thought))):
            return text
    details = said.get("reasoning_details")
    return "".join(_content(details)) if isinstance(details, list) else ""


def _fragments(said: Mapping[str, Any]) -> Iterator[Fragment]:
    calls = said.get("tool_calls") or []
    for call in [calls] if isinstance(calls, dict) else calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            yield _fragment(call, call.get("function"))
    if isinstance(legacy := said.get("function_call"), dict):
        yield _fragment({"index": "function_call"}, legacy)


def _fragment(call: Mapping[str, Any], function: object) -> Fragment:
    called = function if isinstance(function, dict) else call
    return Fragment(
        index=call.get("index"),
        id=_string(call.get("id")) or None,
        name=_string(called.get("name")) or None,
        arguments=_arguments(called.get("arguments", called.get("parameters"))),
    )


def _arguments(given: object) -> str:
    match given:
        case None:
            return ""
        case str():
            return given
        case _:
            return json.dumps(given, ensure_ascii=False)


def _string(value: object) -> str:
    match value:
        case str():
            return value
        case bool() | None:
            return ""
        case int():
            return str(value)
    return ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
