"""Messages of a run to OpenAI's chunks, and chunks to one completion: not streamed is streamed, collected. Pure."""

import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk
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

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

# Not an upstream's `tool_calls`: our tools run inside the turn.
FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}

# Between the texts of two model messages of one turn, such as one before a tool call and one after it.
MESSAGE_SEPARATOR = "\n\n"


class Speech:
    """What the client is told of a turn: the texts of its model messages, with a blank line between two."""

    def __init__(self) -> None:
        self.text = ""
        self.texts: dict[str | None, str] = {}
        """What was said of each model message, by its id."""
        self._calls: list[ToolCallChunk] = []
        self._caller: str | None = None

    def hear(self, message: BaseMessage) -> str:
        """Take the next message or chunk in, and return the text that it adds."""
        if not isinstance(message, AIMessage):
            return ""
        if message.id != self._caller:
            self._caller, self._calls = message.id, []
        if isinstance(message, AIMessageChunk):
            self._calls += message.tool_call_chunks
        said, before = str(message.text), self.texts.get(message.id, "")
        delta = MESSAGE_SEPARATOR + said if said and self.text and not before else said
        self.texts[message.id] = before + said
        self.text += delta
        return delta

    def calls(self, names: Collection[str]) -> list[ChoiceDeltaToolCall]:
        """Return the last message's calls of tools with these names, whole and in their order."""
        whole: dict[object, tuple[str | None, str | None, str]] = {}
        for part in self._calls:
            call_id, name, arguments = whole.get(part["index"], (part["id"], part["name"], ""))
            whole[part["index"]] = call_id, name, arguments + (part["args"] or "")
        clients = [call for call in whole.values() if call[1] in names]
        return [_call(index, *call) for index, call in enumerate(clients)]


def _call(index: int, call_id: str | None, name: str | None, arguments: str) -> ChoiceDeltaToolCall:
    function = ChoiceDeltaToolCallFunction(name=name, arguments=arguments or "{}")
    return ChoiceDeltaToolCall(index=index, id=call_id, type="function", function=function)


async def dump_chunks(
    messages: AsyncIterator[BaseMessage], *, model: str, include_usage: bool, client_tools: Collection[str] = ()
) -> AsyncIterator[ChatCompletionChunk]:
    """Turn a run's messages into the chunks of one answer.

    The grammar: a role chunk, text deltas, one chunk for each call of the client's tools, one chunk with the finish
    reason, and with `include_usage` a last one without choices that has the usage of all the turn's model calls
    together.
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
    finish_reason, speech = "stop", Speech()

    yield _chunk(head, ChoiceDelta(role="assistant", content="", refusal=None))
    async for message in messages:
        if not isinstance(message, AIMessage):
            continue
        usage = add_usage(usage, message.usage_metadata) if message.usage_metadata else usage
        finish_reason = message.response_metadata.get("finish_reason", finish_reason)
        if text := speech.hear(message):
            yield _chunk(head, ChoiceDelta(content=text))
    calls = speech.calls(client_tools)
    for call in calls:
        yield _chunk(head, ChoiceDelta(tool_calls=[call]))
    yield _chunk(head, ChoiceDelta(), "tool_calls" if calls else FINISH_REASONS.get(finish_reason, "stop"))
    if include_usage:
        yield ChatCompletionChunk(**{**head, "choices": [], "usage": _dump_usage(usage)})


async def collect(chunks: AsyncIterator[ChatCompletionChunk]) -> ChatCompletion:
    """Fold the chunks of one answer, usage included, into one completion."""
    text = ""
    calls: list[ChoiceDeltaToolCall] = []
    finish_reason: FinishReason = "stop"
    async for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            calls += choice.delta.tool_calls or []
            finish_reason = choice.finish_reason or finish_reason  # type: ignore[assignment]
    message = ChatCompletionMessage(role="assistant", content=text, refusal=None, annotations=[])
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
