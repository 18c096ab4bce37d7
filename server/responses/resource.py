"""The response as an object: what was asked, what has come of it, and how far it is. Pure.

Source: OpenAI's published OpenAPI document, `Response`; the keys that are always there are those of Open Responses.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.messages.ai import UsageMetadata

from graph.events import RunEvent, joined
from server.errors import ApiError, RunCancelled
from server.responses.messages import Input
from server.responses.output import Output
from server.responses.request import ResponseRequest
from server.responses.tools import FunctionTool
from server.sessions.records import AnsweredResponse

Json = dict[str, Any]

# Our codes in OpenAI's words: those that its SDK's types know, and those that Codex acts on in a stream beside them.
KNOWN_CODES = {"upstream_rate_limited": "rate_limit_exceeded", "invalid_image_url": "invalid_image_url"}
STREAMED_CODES = {
    **KNOWN_CODES,
    "context_length_exceeded": "context_length_exceeded",
    "insufficient_quota": "insufficient_quota",
}
# What a request includes to get reasoning that it can send back.
ENCRYPTED = "reasoning.encrypted_content"
NOT_ASKED: Mapping[str, object] = {
    "previous_response_id": None,
    "instructions": None,
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "truncation": "auto",
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}


class Resource:
    """One response, from its request to its end.

    Args:
        response_id: its id.
        body: the request.
        given: the request's input.
        is_kept: whether it is stored.
    """

    def __init__(self, response_id: str, body: ResponseRequest, given: Input, *, is_kept: bool = True) -> None:
        self.id, self.created_at = response_id, int(time.time())
        self.given, self._shows_reasoning = given, ENCRYPTED in (body.include or ())
        self._asked = _asked(body, is_kept=is_kept)
        self._completed_at: int | None = None

    def output(self) -> Output:
        """Return its output, which is empty."""
        return Output(self.id, encrypts=self._shows_reasoning)

    def begun(self) -> Json:
        """Return the response while it is in progress."""
        return self._dump("in_progress", self.output())

    def ended(self, output: Output) -> Json:
        """Return the response at the end of its run."""
        if output.incomplete_reason:
            return self._dump("incomplete", output)
        self._completed_at = self._completed_at or int(time.time())
        return self._dump("completed", output)

    def failed(self, output: Output, error: ApiError) -> Json:
        """Return the response of a run that failed or was stopped."""
        if isinstance(error, RunCancelled):
            return self._dump("cancelled", output)
        return {**self._dump("failed", output), "error": dump_error(error, KNOWN_CODES)}

    def record(
        self, events: Sequence[RunEvent], new: Sequence[AnyMessage], stopped: ApiError | None
    ) -> AnsweredResponse:
        """Return the response as it is stored with its turn.

        Args:
            events: what the run told.
            new: the messages that the turn adds.
            stopped: why the run was stopped, if it was.
        """
        output = self.output().after(list(joined(events)))
        return self.stored(self.failed(output, stopped) if stopped else self.ended(output), self.given.of(new))

    def stored(self, resource: Json, added: Sequence[Json] = ()) -> AnsweredResponse:
        """Return the response as it is stored, with the items that its request added."""
        return AnsweredResponse.of(self.id, resource, added)

    def _dump(self, status: str, output: Output) -> Json:
        reason = output.incomplete_reason if status == "incomplete" else None
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": self._completed_at if status == "completed" else None,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            **self._asked,
            "output": output.items,
            "usage": dump_usage(output.usage) if output.usage or status in ("completed", "incomplete") else None,
        }


def dump_error(error: ApiError, codes: Mapping[str, str]) -> Json:
    """Return an error as responses have it, with the code that it has among these."""
    other = "server_error" if error.status_code >= 500 else "invalid_prompt"
    return {"code": codes.get(error.code or "", other), "message": error.message}


def _asked(body: ResponseRequest, *, is_kept: bool) -> Json:
    """Return what the request asked for, with what holds where it did not say."""
    said = {"model", "tool_choice", *NOT_ASKED} & ResponseRequest.model_fields.keys()
    given = body.model_dump(include=said, exclude_none=True)
    text = body.text.model_dump(exclude_none=True, by_alias=True) if body.text else {}
    return {
        **NOT_ASKED,
        "tool_choice": "auto",
        **given,
        **({"user": body.user} if body.user else {}),
        "store": is_kept,
        "background": bool(body.background) and is_kept,
        "tools": [_dump_tool(tool) for tool in body.functions()],
        "text": {"format": {"type": "text"}, **text},
        "reasoning": {"effort": None, "summary": None, **(body.reasoning.model_dump() if body.reasoning else {})},
        "conversation": {"id": body.conversation_id} if body.conversation_id else None,
    }


def _dump_tool(tool: FunctionTool) -> Json:
    return {"description": None, "parameters": None, "strict": None, **tool.model_dump()}


def dump_usage(usage: UsageMetadata | None) -> Json:
    """Return the tokens of all model calls of a response; zero for kinds that the endpoint does not tell of."""
    usage = usage or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    read, written = usage.get("input_token_details", {}), usage.get("output_token_details", {})
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": read.get("cache_read") or 0,
            "cache_write_tokens": read.get("cache_creation") or 0,
        },
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": written.get("reasoning") or 0},
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
    }
