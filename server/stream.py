"""Messages of a run to OpenAI's chunks, and chunks to one completion: not streamed is streamed, collected. Pure."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
)
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction
from openai.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails

from graph.history import all_calls, client_calls
from graph.model import REASONING
from server.messages import dump_arguments

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

# Not an upstream's `tool_calls`: our tools run inside the turn.
FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}

# Chunks of this kind, without choices, are taken by all clients that were tried, and read by those that ask for them.
EVENT = "agent.event"

# Between the texts of two model messages of one turn, such as one before a tool call and one after it.
MESSAGE_SEPARATOR = "\n\n"


class AgentEvent(ChatCompletionChunk):
    """What the agent does meanwhile, in the form of a chunk that says nothing."""

    object: Literal["agent.event"]  # type: ignore[assignment]  # a chunk to all clients but strict ones
    event: dict[str, Any]


class Speech:
    """What the client is told of a turn, message by message, with a blank line between two."""

    def __init__(self) -> None:
        self.text = ""
        self.texts: dict[str | None, str] = {}
        """What was said of each model message, by its id."""

    def hear(self, message_id: str | None, said: str) -> str:
        """Take in the next piece of a message, and return what it adds to the whole."""
        if not said:
            return ""
        before = self.texts.get(message_id, "")
        delta = said if before or not self.text else MESSAGE_SEPARATOR + said
        self.texts[message_id] = before + said
        self.text += delta
        return delta


async def dump_chunks(
    messages: AsyncIterator[BaseMessage], *, model: str, include_usage: bool, include_tool_events: bool = False
) -> AsyncIterator[ChatCompletionChunk]:
    """Turn a run's messages into the chunks of one answer.

    The grammar: a role chunk, deltas of text and reasoning, one chunk for each call of the client's tools, one chunk
    with the finish reason, and with `include_usage` a last one without choices that has the usage of all the turn's
    model calls together. With `include_tool_events`, chunks without choices in between tell of the server's tools.
    """
    head: dict[str, Any] = {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
    }
    if include_usage:
        head["usage"] = None
    usage: UsageMetadata | None = None
    finish_reason, speech, thought, activity = "stop", Speech(), Speech(), ToolActivity()
    calls: list[ChoiceDeltaToolCall] = []

    yield _chunk(head, ChoiceDelta(role="assistant", content="", refusal=None))
    async for message in messages:
        match message:
            case AIMessageChunk():
                usage = add_usage(usage, message.usage_metadata) if message.usage_metadata else usage
                finish_reason = message.response_metadata.get("finish_reason", finish_reason)
                if reasoning := thought.hear(message.id, message.additional_kwargs.get(REASONING, "")):
                    yield _chunk(head, ChoiceDelta.model_validate({REASONING: reasoning}))
                if text := speech.hear(message.id, str(message.text)):
                    yield _chunk(head, ChoiceDelta(content=text))
            case AIMessage() | ToolMessage():  # whole, when its step is done
                calls = dump_client_calls(message) if isinstance(message, AIMessage) else calls
                for event in activity.of(message) if include_tool_events else ():
                    yield AgentEvent(**{**head, "object": EVENT, "choices": [], "event": event})
    for call in calls:
        yield _chunk(head, ChoiceDelta(tool_calls=[call]))
    yield _chunk(head, ChoiceDelta(), "tool_calls" if calls else FINISH_REASONS.get(finish_reason, "stop"))
    if include_usage:
        yield ChatCompletionChunk(**{**head, "choices": [], "usage": _dump_usage(usage)})


def dump_client_calls(message: AIMessage) -> list[ChoiceDeltaToolCall]:
    """Return the calls of the client's tools that a model message ends with."""
    clients = client_calls(message)
    calls = [call for call in all_calls(message) if call["id"] in clients]
    return [
        ChoiceDeltaToolCall(
            index=index,
            id=call["id"],
            type="function",
            function=ChoiceDeltaToolCallFunction(name=call["name"], arguments=dump_arguments(call)),
        )
        for index, call in enumerate(calls)
    ]


class ToolActivity:
    """What the server's tools are doing, for clients that ask to see it."""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, dict[str, Any]]] = {}

    def of(self, message: AIMessage | ToolMessage) -> Iterator[dict[str, Any]]:
        """Yield the events that a message tells of: calls that begin, or one that ended; durations are in seconds."""
        if isinstance(message, ToolMessage):
            began, call = self._begun.pop(message.tool_call_id)
            status = "failed" if message.status == "error" else "succeeded"
            size = len(str(message.text).encode())
            yield {**call, "status": status, "duration": round(time.monotonic() - began, 3), "size": size}
            return
        for ours in all_calls(message):
            if ours["id"] in client_calls(message):
                continue
            event = {"type": "tool_call", "id": ours["id"], "name": ours["name"], "arguments": ours["args"]}
            self._begun[ours["id"] or ""] = time.monotonic(), event
            yield {**event, "status": "started"}


async def collect(chunks: AsyncIterator[ChatCompletionChunk]) -> ChatCompletion:
    """Fold the chunks of one answer, usage included, into one completion."""
    text, reasoning = "", ""
    calls: list[ChoiceDeltaToolCall] = []
    finish_reason: FinishReason = "stop"
    async for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasoning += getattr(choice.delta, REASONING, "")
            calls += choice.delta.tool_calls or []
            finish_reason = choice.finish_reason or finish_reason  # type: ignore[assignment]
    message = ChatCompletionMessage(role="assistant", content=text, refusal=None, annotations=[])
    if reasoning:
        setattr(message, REASONING, reasoning)
    if calls:
        message.content = text or None
        message.tool_calls = [
            ChatCompletionMessageFunctionToolCall.model_validate(call.model_dump(exclude={"index"})) for call in calls
        ]
    return ChatCompletion(
        id=chunk.id,
        object="chat.completion",
        created=chunk.created,
        model=chunk.model,
        choices=[Choice(index=0, message=message, finish_reason=finish_reason, logprobs=None)],
        usage=chunk.usage,
    )


def _chunk(
    head: Mapping[str, Any], delta: ChoiceDelta, finish_reason: FinishReason | None = None
) -> ChatCompletionChunk:
    choice = ChunkChoice(index=0, delta=delta, finish_reason=finish_reason, logprobs=None)
    return ChatCompletionChunk(**head, choices=[choice])


def _dump_usage(usage: UsageMetadata | None) -> CompletionUsage:
    usage = usage or UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    cached = usage.get("input_token_details", {}).get("cache_read")
    reasoning = usage.get("output_token_details", {}).get("reasoning")
    return CompletionUsage(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        total_tokens=usage["input_tokens"] + usage["output_tokens"],
        **({} if cached is None else {"prompt_tokens_details": PromptTokensDetails(cached_tokens=cached)}),
        **(
            {}
            if reasoning is None
            else {"completion_tokens_details": CompletionTokensDetails(reasoning_tokens=reasoning)}
        ),
    )
