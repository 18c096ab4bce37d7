"""The shape of a request for a response.

Source: OpenAI's published OpenAPI document, `CreateResponse`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictStr,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from server.http.identity import ID
from server.messages.shapes import Lenient
from server.messages.values import INTEGRAL, MAX_INTEGER, MaxTokens, Metadata, Temperature, ToolName, TopP
from server.responses.items import TextOrItems
from server.responses.parameters import PARAMETERS
from server.responses.tools import AllowedToolNames, FunctionTool, Tool, ToolByName, ToolChoice
from server.sessions.approval import APPROVE_TOOL

# Declared only to be refused; not part of the documented API.
Refused = SkipJsonSchema[Any]
Json = dict[str, Any]


class TextFormat(Lenient):
    """The form of the answer's text; `name`, `schema` and `strict` are of `json_schema`."""

    type: Literal["text", "json_object", "json_schema"]
    name: ToolName | None = None
    description: StrictStr | None = None
    schema_: Annotated[dict[str, JsonValue] | None, Field(alias="schema")] = None
    """The JSON schema."""
    strict: StrictBool | None = None


class TextOptions(Lenient):
    """How the answer's text is."""

    format: TextFormat | None = None
    """What form the answer's text must have."""
    verbosity: StrictStr | None = None
    """Ignored."""


class ReasoningOptions(Lenient):
    """How much the model thinks."""

    effort: StrictStr | None = None
    """How long the model thinks; which words it knows for that is up to the endpoint."""
    summary: StrictStr | None = None
    """Ignored: what the model thinks is always told, where its endpoint tells it."""


class ResponseStreamOptions(Lenient):
    """What a stream carries beside the answer."""

    include_obfuscation: StrictBool | None = None
    """Ignored."""


class ContextManagement(Lenient):
    """How a long conversation is made shorter for the model."""

    type: StrictStr
    """`compaction`; others are ignored."""
    compact_threshold: Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER), INTEGRAL] | None = None
    """Tokens of the prompt from which on it is; where the model's window is nearer, that decides."""


class ConversationName(Lenient):
    """A conversation by its id."""

    id: StrictStr


def _form_of_conversation(value: object) -> str:
    return "as text" if isinstance(value, str) else "as an object"


class ResponseRequest(Lenient):
    """The body of `POST /v1/responses`; `null` is the same as leaving a field out."""

    model: StrictStr
    """One of `/v1/models`."""
    input: TextOrItems | None = None
    """A user's message, or items: the whole conversation, or what is new in it."""
    instructions: StrictStr | None = None
    """For this response alone; layered after the agent's own prompt."""
    previous_response_id: StrictStr | None = None
    """The response to go on after; an older one begins a new branch of its session."""
    conversation: (
        Annotated[
            Annotated[StrictStr, Tag("as text")] | Annotated[ConversationName, Tag("as an object")],
            Discriminator(_form_of_conversation),
        ]
        | None
    ) = None
    """The session to go on in, after its newest turn."""
    store: StrictBool | None = None
    """`false`: nothing of the request is kept."""
    stream: StrictBool | None = None
    stream_options: ResponseStreamOptions | None = None
    """What the stream carries beside the answer."""
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_output_tokens: MaxTokens | None = None
    """The greatest number of tokens of each model call; -1 is none."""
    max_tool_calls: Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER), INTEGRAL] | None = None
    """How many calls of the server's own tools are run; then the model must answer."""
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    """Tools that the client runs itself, beside those of the server; those of other kinds are left out."""
    tool_choice: ToolChoice | None = None
    """Which of the client's tools the model may or must call."""
    parallel_tool_calls: StrictBool | None = None
    """`false`: at most one call of the client's tools in a response."""
    text: TextOptions | None = None
    """How the answer's text is."""
    reasoning: ReasoningOptions | None = None
    """How much the model thinks."""
    user: StrictStr | None = None
    metadata: Metadata | None = None
    """`session_id` in it names the session, where nothing else does; at most 16 pairs."""
    session_id: Annotated[Any, WithJsonSchema({"type": ["string", "null"], "pattern": ID})] = None
    """The session that the request belongs to, where no header names one; not OpenAI's."""
    truncation: Literal["auto", "disabled"] | None = None
    """`disabled`: a conversation that is longer than the model's window is refused, and not summarized."""
    context_management: list[ContextManagement] | None = None
    """When the oldest turns are summarized for the model."""
    include: list[StrictStr] | None = None
    """`reasoning.encrypted_content`: reasoning comes with content to be sent back. Others are ignored."""
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=20), INTEGRAL] | None = None
    """Ignored."""
    service_tier: StrictStr | None = None
    """Ignored."""
    safety_identifier: Annotated[str, Field(strict=True, max_length=128)] | None = None
    """Ignored."""
    prompt_cache_key: StrictStr | None = None
    """Ignored."""
    background: StrictBool | None = None
    """The answer comes at once, and the response is made after it."""
    messages: Refused = None
    response_format: Refused = None
    max_tokens: Refused = None
    max_completion_tokens: Refused = None
    reasoning_effort: Refused = None
    prompt: Refused = None
    moderation: Refused = None

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, body: object) -> object:
        return PARAMETERS.without_nothing(body)

    @property
    def is_stored(self) -> bool:
        """Whether its client wants the response kept."""
        return self.store is not False

    @property
    def conversation_id(self) -> str | None:
        """The id of the conversation."""
        return self.conversation.id if isinstance(self.conversation, ConversationName) else self.conversation

    @property
    def compact_threshold(self) -> int | None:
        """From how many tokens on the oldest turns are summarized."""
        asked = [one.compact_threshold for one in self.context_management or () if one.type == "compaction"]
        return next(filter(None, asked), None)

    def functions(self) -> Sequence[FunctionTool]:
        """Return the tools that the client runs itself."""
        return [tool for tool in self.tools or () if isinstance(tool, FunctionTool)]

    @property
    def can_approve(self) -> bool:
        """Whether its client brings the tool that stands for a question to its user."""
        return any(tool.name == APPROVE_TOOL for tool in self.functions())

    def client_tools(self) -> Sequence[Mapping[str, Any]]:
        """Return these tools in the form that model endpoints take."""
        told = {"name", "description", "parameters", "strict"}
        own = [tool for tool in self.functions() if tool.name != APPROVE_TOOL]
        functions = [tool.model_dump(include=told, exclude_none=True) for tool in own]
        return [{"type": "function", "function": function} for function in functions]

    def chosen_names(self) -> Collection[str]:
        """Return the names of the tools that `tool_choice` names; a tool of another kind by its type."""
        match self.tool_choice:
            case ToolByName() as named:
                return {named.name or named.type}
            case AllowedToolNames() as allowed:
                return {tool.name or tool.type for tool in allowed.tools if tool.type == "function"}
            case _:
                return ()

    def choice(self) -> str | Json | None:
        """Return which tools the model may or must call, in the form that model endpoints take."""
        match self.tool_choice:
            case ToolByName() as named:
                return _function(named.name or "")
            case AllowedToolNames() as allowed:
                tools = [_function(name) for name in self.chosen_names()]
                return {"type": "allowed_tools", "allowed_tools": {"mode": allowed.mode, "tools": tools}}
            case mode:
                return mode

    def parameters(self) -> Mapping[str, Any]:
        """Return the sampling parameters that the client set, in the names of chat completions."""
        dumped = self.model_dump(include={*PARAMETERS.passed_on}, exclude_unset=True)
        given = {name: value for name, value in dumped.items() if value is not None}
        if self.max_output_tokens is not None:
            given["max_completion_tokens"] = self.max_output_tokens
        if self.reasoning and self.reasoning.effort:
            given["reasoning_effort"] = self.reasoning.effort
        if self.text and self.text.format and self.text.format.type != "text":
            given["response_format"] = _response_format(self.text.format)
        return given


def _function(name: str) -> Json:
    return {"type": "function", "function": {"name": name}}


def _response_format(asked: TextFormat) -> Json:
    if asked.type == "json_object":
        return {"type": "json_object"}
    schema = asked.model_dump(include={"name", "description", "schema_", "strict"}, by_alias=True, exclude_none=True)
    return {"type": "json_schema", "json_schema": schema}
