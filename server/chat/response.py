"""OpenAI's response shapes, with the fields that this server sends.

A field with a default is left out where it is not set; all others are always there, `null` or not.

Source: OpenAI's published OpenAPI document, `CreateChatCompletionResponse` and `CreateChatCompletionStreamResponse`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from server.messages.shapes import ToolCall

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


class Shape(BaseModel):
    """A field's docstring is its description in /openapi.json."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class PromptTokens(Shape):
    """Some of a prompt's tokens."""

    cached_tokens: int


class CompletionTokens(Shape):
    """Some of an answer's tokens."""

    reasoning_tokens: int


class Usage(Shape):
    """The tokens of all model calls of the turn together; estimated where the model endpoint reports none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens | None = None
    completion_tokens_details: CompletionTokens | None = None


class Answer(Shape):
    """The message that answers a request."""

    role: Literal["assistant"]
    content: str | None
    """`null` where there are only tool calls."""
    refusal: str | None
    """What the model says in place of an answer, where it refuses to give one."""
    annotations: list[JsonValue]
    reasoning_content: str | None = None
    """What the model thought before it answered; not OpenAI's."""
    reasoning: str | None = None
    """The same, for clients that read this name."""
    tool_calls: list[ToolCall] | None = None
    """Calls of the client's own tools; those of the server's are run inside the turn."""


class Choice(Shape):
    """One answer, and why it ended."""

    index: int
    message: Answer
    finish_reason: FinishReason
    logprobs: None


class Completion(Shape):
    """The answer to a request that is not streamed."""

    id: str
    object: Literal["chat.completion"]
    created: int
    """In Unix seconds."""
    model: str
    choices: list[Choice]
    usage: Usage


class FunctionDelta(Shape):
    """What a chunk adds to a call: the name in the first one, then more of the arguments."""

    name: str | None = None
    arguments: str


class CallDelta(Shape):
    """What a chunk adds to a call of a client's tool; calls follow one another, and the first chunk has the id."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(Shape):
    """What a chunk adds to its choice."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChunkChoice(Shape):
    """One chunk's part of a choice."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None
    logprobs: None


class Chunk(Shape):
    """One event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    """In Unix seconds."""
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    """With `include_usage`: of the last chunk, which has no choices; `null` in all others."""


class ToolEvent(Shape):
    """What one of the server's tools does."""

    type: Literal["tool_call"]
    id: str | None
    name: str | None
    arguments: JsonValue
    status: Literal["started", "running", "succeeded", "failed"]
    """`running`: its server tells of its progress."""
    duration: float | None = None
    """In seconds."""
    size: int | None = None
    """Size of the result, in bytes."""
    progress: float | None = None
    """How far the tool has come, while it runs."""
    total: float | None = None
    """The total, if the tool knows it."""
    message: str | None = None
    """What the tool says about it."""


class AgentEvent(Shape):
    """What the agent does meanwhile, as a chunk without choices; sent with `include_tool_events`."""

    id: str
    object: Literal["agent.event"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    event: ToolEvent
