"""Messages of a run to OpenAI's chunks, and chunks to one completion: not streamed is streamed, collected. Pure."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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
    choices: Sequence[AsyncIterator[BaseMessage]], *, model: str, include_usage: bool, include_tool_events: bool = False
) -> AsyncIterator[ChatCompletionChunk]:
    """Turn the messages of runs into the chunks of one answer, a choice for each run.

    The grammar of a choice: a role chunk, deltas of text and reasoning, one chunk for each call of the client's tools,
    one chunk with the finish reason. One choice follows the other, as clients that add up all text need it. With
    `include_usage` a last chunk without choices has the usage of all model calls together. With `include_tool_events`,
    chunks without choices in between tell of the server's tools.
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
    for index, messages in enumerate(choices):
        deltas = Deltas()
        yield _chunk(head, index, ChoiceDelta(role="assistant", content="", refusal=None))
        async for message in messages:
            for delta in deltas.of(message):
                yield _chunk(head, index, delta)
            for event in deltas.activity.of(message) if include_tool_events else ():
                yield AgentEvent(**{**head, "object": EVENT, "choices": [], "event": event})
        for call in dump_client_calls(deltas.last):
            yield _chunk(head, index, ChoiceDelta(tool_calls=[call]))
        yield _chunk(head, index, ChoiceDelta(), finish_reason(deltas.last))
        usage = add_usage(usage, deltas.usage)
    if include_usage:
        yield ChatCompletionChunk(**{**head, "choices": [], "usage": _dump_usage(usage)})


class Deltas:
    """What the messages of one run add to its choice, until then and one by one."""

    def __init__(self) -> None:
        self.activity = ToolActivity()
        self.last = AIMessage("")
        """The newest model message that is whole."""
        self.usage: UsageMetadata | None = None
        self._speech, self._thought = Speech(), Speech()

    def of(self, message: BaseMessage) -> Iterator[ChoiceDelta]:
        """Take in the next message, or a chunk of one, and yield what it adds."""
        match message:
            case AIMessageChunk():
                if reasoning := self._thought.hear(message.id, message.additional_kwargs.get(REASONING, "")):
                    yield ChoiceDelta.model_validate({REASONING: reasoning})
                if text := self._speech.hear(message.id, str(message.text)):
                    yield ChoiceDelta(content=text)
            case AIMessage():  # whole, when its step is done
                self.last, self.usage = message, add_usage(self.usage, message.usage_metadata)


def finish_reason(last: AIMessage) -> FinishReason:
    """Return why a turn ended, of which this is the last model message."""
    if client_calls(last):
        return "tool_calls"
    return FINISH_REASONS.get(last.response_metadata.get("finish_reason", ""), "stop")


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

    def of(self, message: BaseMessage) -> Iterator[dict[str, Any]]:
        """Yield the events that a message tells of: calls that begin, or one that ended; durations are in seconds."""
        match message:
            case ToolMessage():
                began, call = self._begun.pop(message.tool_call_id)
                status = "failed" if message.status == "error" else "succeeded"
                size = len(str(message.text).encode())
                yield {**call, "status": status, "duration": round(time.monotonic() - began, 3), "size": size}
            case AIMessage() if not isinstance(message, AIMessageChunk):
                clients = client_calls(message)
                for ours in (call for call in all_calls(message) if call["id"] not in clients):
                    event = {"type": "tool_call", "id": ours["id"], "name": ours["name"], "arguments": ours["args"]}
                    self._begun[ours["id"] or ""] = time.monotonic(), event
                    yield {**event, "status": "started"}


async def collect(chunks: AsyncIterator[ChatCompletionChunk]) -> ChatCompletion:
    """Fold the chunks of one answer, usage included, into one completion."""
    choices: dict[int, _Whole] = defaultdict(_Whole)
    async for chunk in chunks:
        for choice in chunk.choices:
            choices[choice.index].add(choice)
    return ChatCompletion(
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
        self._text, self._reasoning = "", ""
        self._calls: list[ChoiceDeltaToolCall] = []
        self._finish_reason: FinishReason = "stop"

    def add(self, part: ChunkChoice) -> None:
        self._text += part.delta.content or ""
        self._reasoning += getattr(part.delta, REASONING, "")
        self._calls += part.delta.tool_calls or []
        self._finish_reason = part.finish_reason or self._finish_reason  # type: ignore[assignment]

    def choice(self, index: int) -> Choice:
        message = ChatCompletionMessage(role="assistant", content=self._text, refusal=None, annotations=[])
        if self._reasoning:
            setattr(message, REASONING, self._reasoning)
        if self._calls:
            message.content = self._text or None
            message.tool_calls = [
                ChatCompletionMessageFunctionToolCall.model_validate(call.model_dump(exclude={"index"}))
                for call in self._calls
            ]
        return Choice(index=index, message=message, finish_reason=self._finish_reason, logprobs=None)


def _chunk(
    head: Mapping[str, Any], index: int, delta: ChoiceDelta, finish_reason: FinishReason | None = None
) -> ChatCompletionChunk:
    choice = ChunkChoice(index=index, delta=delta, finish_reason=finish_reason, logprobs=None)
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
