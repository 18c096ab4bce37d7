"""Messages of a run to OpenAI's chunks, and chunks to one completion: not streamed is streamed, collected. Pure."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails

FinishReason = Literal["stop", "length", "content_filter"]

# Server tools run inside the turn, so that an upstream's `tool_calls` never is the client's.
FINISH_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}

# Between the texts of two model messages of one turn, such as one before a tool call and one after it.
MESSAGE_SEPARATOR = "\n\n"


async def dump_chunks(
    messages: AsyncIterator[BaseMessage], *, model: str, include_usage: bool
) -> AsyncIterator[ChatCompletionChunk]:
    """Turn a run's messages into the chunks of one answer.

    The grammar: a role chunk, text deltas, one chunk with the finish reason, and with `include_usage` a last one
    without choices that has the usage of all the turn's model calls together.
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
    finish_reason, speaker = "stop", None

    yield _chunk(head, ChoiceDelta(role="assistant", content="", refusal=None))
    async for message in messages:
        if not isinstance(message, AIMessage):
            continue
        usage = add_usage(usage, message.usage_metadata) if message.usage_metadata else usage
        finish_reason = message.response_metadata.get("finish_reason", finish_reason)
        if text := str(message.text):
            continues = speaker in (None, message.id)
            speaker = message.id
            yield _chunk(head, ChoiceDelta(content=text if continues else MESSAGE_SEPARATOR + text))
    yield _chunk(head, ChoiceDelta(), FINISH_REASONS.get(finish_reason, "stop"))
    if include_usage:
        yield ChatCompletionChunk(**{**head, "choices": [], "usage": _dump_usage(usage)})


async def collect(chunks: AsyncIterator[ChatCompletionChunk]) -> ChatCompletion:
    """Fold the chunks of one answer, usage included, into one completion."""
    text = ""
    finish_reason: FinishReason = "stop"
    async for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish_reason = choice.finish_reason or finish_reason  # type: ignore[assignment]
    message = ChatCompletionMessage(role="assistant", content=text, refusal=None, annotations=[])
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
