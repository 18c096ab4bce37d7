"""Messages of a run to OpenAI's chunks, and chunks to one completion: not streamed is streamed, collected. Pure."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage

from graph.events import RunEvent, ToolProgress
from graph.history import all_calls, client_calls
from graph.model import REASONING, REFUSAL
from server.answers import (
    AgentEvent,
    Answer,
    CallDelta,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    CompletionTokens,
    Delta,
    FinishReason,
    FunctionDelta,
    PromptTokens,
    ToolEvent,
    Usage,
)
from server.messages import dump_arguments
from server.wire import CalledFunction, ToolCall

# Not an upstream's `tool_calls`: our tools run inside the turn.
FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}

# Characters, of which JSON makes six bytes at the most: some clients read no more than 64 KB at once.
MAX_PIECE = 10_000

# Between the texts of two model messages of one turn, such as one before a tool call and one after it.
MESSAGE_SEPARATOR = "\n\n"


class Speech:
    """What the client is told of a turn, message by message, with a blank line between two."""

    def __init__(self) -> None:
        self._pieces: dict[str | None, list[str]] = {}

    def hear(self, message_id: str | None, said: str) -> str:
        """Take in the next piece of a message, and return what it adds to the whole."""
        if not said:
            return ""
        is_new = message_id not in self._pieces
        delta = MESSAGE_SEPARATOR + said if is_new and self._pieces else said
        self._pieces.setdefault(message_id, []).append(said)
        return delta

    @property
    def text(self) -> str:
        """All that the client was told."""
        return MESSAGE_SEPARATOR.join(self.texts.values())

    @property
    def texts(self) -> dict[str | None, str]:
        """What was said of each model message, by its id."""
        return {message_id: "".join(pieces) for message_id, pieces in self._pieces.items()}


async def dump_chunks(
    choices: Sequence[AsyncIterator[RunEvent]], *, model: str, include_usage: bool, include_tool_events: bool = False
) -> AsyncIterator[Chunk | AgentEvent]:
    """Turn the messages of runs into the chunks of one answer, a choice for each run.

    The grammar of a choice: a role chunk, deltas of text and reasoning, one chunk for each call of the client's tools,
    one chunk with the finish reason. One choice follows the other, as clients that add up all text need it. With
    `include_usage` a last chunk without choices has the usage of all model calls together. With `include_tool_events`,
    chunks without choices in between tell of the server's tools.
    """
    head: dict[str, Any] = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}
    if include_usage:
        head["usage"] = None
    usage: UsageMetadata | None = None
    for index, messages in enumerate(choices):
        deltas = Deltas()
        yield _chunk(head, index, Delta(role="assistant", content="", refusal=None))
        async for message in messages:
            for delta in deltas.of(message):
                yield _chunk(head, index, delta)
            for event in deltas.activity.of(message) if include_tool_events else ():
                # A chunk without choices, which every client that was tried takes.
                yield AgentEvent(**head, object="agent.event", choices=[], event=event)
        for call in dump_client_calls(deltas.last):
            yield _chunk(head, index, Delta(tool_calls=[call]))
        yield _chunk(head, index, Delta(), finish_reason(deltas.last))
        usage = add_usage(usage, deltas.usage)
    if include_usage:
        yield Chunk(**{**head, "usage": _dump_usage(usage)}, object="chat.completion.chunk", choices=[])


class Deltas:
    """What the messages of one run add to its choice, until then and one by one."""

    def __init__(self) -> None:
        self.activity = ToolActivity()
        self.last = AIMessage("")
        """The newest model message that is whole."""
        self.usage: UsageMetadata | None = None
        self._speech, self._thought = Speech(), Speech()

    def of(self, message: RunEvent) -> Iterator[Delta]:
        """Take in the next message, or a chunk of one, and yield what it adds."""
        match message:
            case AIMessageChunk():
                thought = self._thought.hear(message.id, message.additional_kwargs.get(REASONING, ""))
                for piece in pieces(thought, MAX_PIECE // 2):
                    # Under both names, since some clients read the one, some the other.
                    yield Delta(reasoning_content=piece, reasoning=piece)
                is_refusal = REFUSAL in message.additional_kwargs
                for piece in pieces(self._speech.hear(message.id, str(message.text))):
                    yield Delta(refusal=piece) if is_refusal else Delta(content=piece)
            case AIMessage():  # whole, when its step is done
                self.last, self.usage = message, add_usage(self.usage, message.usage_metadata)


def finish_reason(last: AIMessage) -> FinishReason:
    """Return why a turn ended, of which this is the last model message."""
    if client_calls(last):
        return "tool_calls"
    return FINISH_REASONS.get(last.response_metadata.get("finish_reason", ""), "stop")


def dump_client_calls(message: AIMessage) -> Iterator[CallDelta]:
    """Yield the calls of the client's tools that a model message ends with, one after the other."""
    clients = client_calls(message)
    calls = (call for call in all_calls(message) if call["id"] in clients)
    for index, call in enumerate(calls):
        arguments = dump_arguments(call)
        name = FunctionDelta(name=call["name"] or "", arguments=arguments[:MAX_PIECE])
        yield CallDelta(index=index, id=call["id"] or "", type="function", function=name)
        for piece in pieces(arguments[MAX_PIECE:]):
            yield CallDelta(index=index, function=FunctionDelta(arguments=piece))


def pieces(text: str, length: int = MAX_PIECE) -> Iterator[str]:
    """Yield the text in pieces that fit into a frame."""
    for start in range(0, len(text), length):
        yield text[start : start + length]


class ToolActivity:
    """What the server's tools are doing, for clients that ask to see it."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, ToolEvent]] = {}

    def of(self, message: RunEvent) -> Iterator[ToolEvent]:
        """Yield the events that a message tells of: calls that begin, go on or end; durations are in seconds."""
        match message:
            case ToolProgress(call_id=call_id, progress=said) if call_id in self._begun:
                began, event = self._begun[call_id]
                so_far: dict[str, Any] = {"status": "running", "duration": round(time.monotonic() - began, 3)}
                yield event.model_copy(update={**so_far, **asdict(said)})
            case ToolMessage():
                began, event = self._begun.pop(message.tool_call_id)
                told = {
                    "status": "failed" if message.status == "error" else "succeeded",
                    "duration": round(time.monotonic() - began, 3),
                    "size": len(str(message.text).encode()),
                }
                yield event.model_copy(update=told)
            case AIMessage() if not isinstance(message, AIMessageChunk):
                clients = client_calls(message)
                for ours in (call for call in all_calls(message) if call["id"] not in clients):
                    event = ToolEvent(
                        type="tool_call", id=ours["id"], name=ours["name"], arguments=ours["args"], status="started"
                    )
                    self._begun[ours["id"] or ""] = time.monotonic(), event
                    yield event


async def collect(chunks: AsyncIterator[Chunk | AgentEvent]) -> Completion:
    """Fold the chunks of one answer, usage included, into one completion."""
    choices: dict[int, _Whole] = defaultdict(_Whole)
    async for chunk in chunks:
        for choice in chunk.choices:
            choices[choice.index].add(choice)
    assert chunk.usage is not None
    return Completion(
        id=chunk.id,
        object="chat.completion",
        created=chunk.created,
        model=chunk.model,
        choices=[whole.choice(index) for index, whole in choices.items()],
        usage=chunk.usage,
    )


class _Whole:
    """One choice, of which the chunks come in."""

    def __init__(self) -> None:
        self._text, self._reasoning, self._refusal = "", "", ""
        self._calls: list[ToolCall] = []
        self._finish_reason: FinishReason = "stop"

    def add(self, part: ChunkChoice) -> None:
        self._text += part.delta.content or ""
        self._refusal += part.delta.refusal or ""
        self._reasoning += part.delta.reasoning_content or ""
        for call in part.delta.tool_calls or ():
            if call.id is not None:
                called = CalledFunction(name=call.function.name or "", arguments="")
                self._calls.append(ToolCall(id=call.id, type="function", function=called))
            self._calls[-1].function.arguments += call.function.arguments
        self._finish_reason = part.finish_reason or self._finish_reason

    def choice(self, index: int) -> Choice:
        content = None if (self._calls or self._refusal) and not self._text else self._text
        message = Answer(role="assistant", content=content, refusal=self._refusal or None, annotations=[])
        if self._reasoning:
            message.reasoning_content = message.reasoning = self._reasoning
        if self._calls:
            message.tool_calls = self._calls
        return Choice(index=index, message=message, finish_reason=self._finish_reason, logprobs=None)


def _chunk(head: Mapping[str, Any], index: int, delta: Delta, finish_reason: FinishReason | None = None) -> Chunk:
    choice = ChunkChoice(index=index, delta=delta, finish_reason=finish_reason, logprobs=None)
    return Chunk(**head, object="chat.completion.chunk", choices=[choice])


def _dump_usage(usage: UsageMetadata | None) -> Usage:
    usage = usage or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    dumped = Usage(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        total_tokens=usage["input_tokens"] + usage["output_tokens"],
    )
    if (cached := usage.get("input_token_details", {}).get("cache_read")) is not None:
        dumped.prompt_tokens_details = PromptTokens(cached_tokens=cached)
    if (reasoning := usage.get("output_token_details", {}).get("reasoning")) is not None:
        dumped.completion_tokens_details = CompletionTokens(reasoning_tokens=reasoning)
    return dumped
