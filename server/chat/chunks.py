"""Events of a run to OpenAI's chunks, and chunks to one completion: not streamed is streamed, collected. Pure."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from langchain_core.messages.ai import UsageMetadata, add_usage

from graph.events import (
    ClientCall,
    ClientCallDelta,
    MessageEnded,
    Reasoning,
    Refusal,
    RunEvent,
    Text,
    ToolEnded,
    ToolProgress,
    ToolStarted,
    joined,
)
from server.chat.response import FinishReason
from server.sessions.speech import MAX_PIECE, Speech, pieces

Json = dict[str, Any]

CHUNK = "chat.completion.chunk"

# Only these are passed on: the endpoint's `tool_calls` may mean our own tools, which run inside the turn.
FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}


async def dump_chunks(
    choices: Sequence[AsyncIterator[Sequence[RunEvent]]],
    *,
    model: str,
    include_usage: bool,
    include_tool_events: bool = False,
) -> AsyncIterator[Json]:
    """Turn the events of runs into the chunks of one answer, a choice for each run.

    The grammar of a choice: a role chunk, deltas of text and reasoning, then those of the client's tool calls, one
    chunk with the finish reason. One choice follows the other, as clients that add up all text need it. With
    `include_usage` a last chunk without choices has the usage of all model calls together. With `include_tool_events`,
    chunks without choices in between tell of the server's tools. Chunks have the shape of `Chunk` or `AgentEvent`.
    """
    head: Json = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}
    if include_usage:
        head["usage"] = None
    usage: UsageMetadata | None = None
    for index, batches in enumerate(choices):
        deltas, activity = Deltas(), ToolActivity()
        yield _chunk(head, index, {"role": "assistant", "content": "", "refusal": None})
        async for events in batches:
            for event in joined(events):
                for delta in deltas.of(event):
                    yield _chunk(head, index, delta)
                if include_tool_events and (told := activity.of(event)):
                    # A chunk without choices, which every client that was tried accepts.
                    yield {**head, "object": "agent.event", "choices": [], "event": told}
        yield _chunk(head, index, {}, deltas.finish_reason)
        usage = add_usage(usage, deltas.usage)
    if include_usage:
        yield {**head, "object": CHUNK, "choices": [], "usage": _dump_usage(usage)}


class Deltas:
    """The deltas of one choice, from the events of its run."""

    def __init__(self) -> None:
        self.finish_reason: FinishReason = "stop"
        self.usage: UsageMetadata | None = None
        self._speech, self._thought = Speech(), Speech()
        self._calls: dict[str, int] = {}  # calls of the client's tools, and their places

    def of(self, event: RunEvent) -> Sequence[Json]:
        """Return what the next event adds."""
        match event:
            case Text(message_id, text):
                return [{"content": piece} for piece in pieces(self._speech.hear(message_id, text))]
            case Refusal(message_id, text):
                return [{"refusal": piece} for piece in pieces(self._speech.hear(message_id, text))]
            case Reasoning(message_id, text):
                thought = pieces(self._thought.hear(message_id, text), MAX_PIECE // 2)
                # Under both names, since clients read one or the other.
                return [{"reasoning_content": piece, "reasoning": piece} for piece in thought]
            case ClientCallDelta():
                return [*self._call(event)]
            case ClientCall():
                self.finish_reason = "tool_calls"
            case MessageEnded():
                reason = FINISH_REASONS.get(event.finish_reason or "", "stop")
                self.finish_reason = self.finish_reason if self._calls else reason  # words may follow the calls
                self.usage = add_usage(self.usage, event.usage)
        return ()

    def _call(self, more: ClientCallDelta) -> Iterator[Json]:
        """Yield more of a call of one of the client's tools; the first delta of a call has its name."""
        rest = more.arguments
        if more.call_id not in self._calls:
            self._calls[more.call_id] = len(self._calls)
            function, rest = {"name": more.name, "arguments": rest[:MAX_PIECE]}, rest[MAX_PIECE:]
            begun = {"id": more.call_id, "type": "function", "function": function}
            yield {"tool_calls": [{"index": self._calls[more.call_id], **begun}]}
        for piece in pieces(rest):
            yield {"tool_calls": [{"index": self._calls[more.call_id], "function": {"arguments": piece}}]}


class ToolActivity:
    """The activity of the server's tools, for clients that ask for it."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, Json]] = {}

    def of(self, event: RunEvent) -> Json | None:
        """Return what an event says about a call that begins, goes on or ends, in the shape of `ToolEvent`."""
        match event:
            case ToolStarted(call_id, name, arguments):
                started = {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
                self._begun[call_id] = time.monotonic(), started
                return {**started, "status": "started"}
            case ToolProgress(call_id, progress):
                return self._told(call_id, status="running", **asdict(progress))
            case ToolEnded(call_id, failed):
                told = self._told(call_id, status="failed" if failed else "succeeded", size=event.size)
                self._begun.pop(call_id, None)
                return told
        return None

    def _told(self, call_id: str, **news: Any) -> Json | None:
        if call_id not in self._begun:
            return None
        began, started = self._begun[call_id]
        return {**started, "duration": round(time.monotonic() - began, 3), **news}


async def collect(chunks: AsyncIterator[Json]) -> Json:
    """Fold the chunks of one answer, usage included, into one completion, in the shape of `Completion`."""
    choices: dict[int, _Whole] = defaultdict(_Whole)
    async for chunk in chunks:
        for choice in chunk["choices"]:
            choices[choice["index"]].add(choice)
    return {
        "id": chunk["id"],
        "object": "chat.completion",
        "created": chunk["created"],
        "model": chunk["model"],
        "choices": [whole.choice(index) for index, whole in choices.items()],
        "usage": chunk["usage"],
    }


class _Whole:
    """One choice, put together from its chunks."""

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = defaultdict(list)
        self._calls: list[Json] = []
        self._arguments: list[list[str]] = []
        self._finish_reason: FinishReason = "stop"

    def add(self, part: Json) -> None:
        delta = part["delta"]
        for name in ("content", "refusal", "reasoning"):
            self._said[name].append(delta.get(name) or "")
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                self._calls.append(
                    {"id": call["id"], "type": "function", "function": {"name": call["function"]["name"]}}
                )
                self._arguments.append([])
            self._arguments[call["index"]].append(call["function"]["arguments"])
        self._finish_reason = part["finish_reason"] or self._finish_reason

    def choice(self, index: int) -> Json:
        content, refusal, reasoning = ("".join(self._said[name]) for name in ("content", "refusal", "reasoning"))
        message: Json = {
            "role": "assistant",
            "content": None if (self._calls or refusal) and not content else content,
            "refusal": refusal or None,
            "annotations": [],
        }
        if reasoning:
            message |= {"reasoning_content": reasoning, "reasoning": reasoning}
        if self._calls:
            for call, arguments in zip(self._calls, self._arguments, strict=True):
                call["function"]["arguments"] = "".join(arguments)
            message["tool_calls"] = self._calls
        return {"index": index, "message": message, "finish_reason": self._finish_reason, "logprobs": None}


def _chunk(head: Json, index: int, delta: Json, finish_reason: FinishReason | None = None) -> Json:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return {**head, "object": CHUNK, "choices": [choice]}


def _dump_usage(usage: UsageMetadata | None) -> Json:
    usage = usage or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    dumped: Json = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
    }
    if (cached := usage.get("input_token_details", {}).get("cache_read")) is not None:
        dumped["prompt_tokens_details"] = {"cached_tokens": cached}
    if (reasoning := usage.get("output_token_details", {}).get("reasoning")) is not None:
        dumped["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return dumped
