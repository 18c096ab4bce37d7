"""OpenAI's request shapes.

Source: OpenAI's published OpenAPI document, `CreateChatCompletionRequest`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
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

from server.chat.parameters import PARAMETERS
from server.http.identity import ID
from server.messages.shapes import Lenient, Message, text_or_parts
from server.messages.values import INTEGRAL, MAX_INTEGER, MaxTokens, Metadata, Penalty, Temperature, ToolName, TopP
from server.sessions.approval import APPROVE_TOOL

# Declared only to be refused; not part of the documented API.
Refused = SkipJsonSchema[Any]


class FunctionDefinition(Lenient):
    """A tool's description for the model; `parameters` is a JSON schema."""

    name: ToolName
    description: StrictStr | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: StrictBool | None = None


class Tool(Lenient):
    """A tool that the client runs itself."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Lenient):
    """A tool by its name."""

    name: StrictStr


class NamedTool(Lenient):
    """The one tool that the model must call."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Lenient):
    """Some of the tools, and whether the model must call one of them."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class AllowedToolsChoice(Lenient):
    """Those of the request's tools that the model may call."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools

    def names(self) -> set[str]:
        """Return their names."""
        return {tool.function.name for tool in self.allowed_tools.tools}


def _choice_form(value: object) -> str:
    if not isinstance(value, dict | BaseModel):
        return "as a mode"
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "as allowed tools" if kind == "allowed_tools" else "as a named tool"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("as a mode")]
    | Annotated[NamedTool, Tag("as a named tool")]
    | Annotated[AllowedToolsChoice, Tag("as allowed tools")],
    Discriminator(_choice_form),
]


class JsonSchema(Lenient):
    """The schema of an answer."""

    name: ToolName
    schema_: Annotated[dict[str, JsonValue] | None, Field(alias="schema")] = None
    strict: StrictBool | None = None


class ResponseFormat(Lenient):
    """The form of the answer's text."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Lenient):
    """What a stream carries beside the answer."""

    include_usage: StrictBool | None = None
    """A last chunk, without choices, has the usage."""
    include_tool_events: StrictBool | None = None
    """Chunks of the kind `agent.event`, without choices, tell of the server's tools; not OpenAI's."""


Stop = Annotated[
    Annotated[StrictStr, Tag("as text")] | Annotated[list[StrictStr], Field(max_length=4), Tag("as parts")],
    Discriminator(text_or_parts),
]

LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[0-9]+$")],  # the id of a token
        Annotated[int, Field(strict=True, ge=-100, le=100), INTEGRAL],
    ],
    Field(json_schema_extra={"additionalProperties": False}),
]


class ChatRequest(Lenient):
    """The body of `POST /v1/chat/completions`; `null` is the same as leaving a field out."""

    model: StrictStr
    """One of `/v1/models`."""
    messages: Annotated[list[Message], Field(min_length=1)]
    """The whole conversation, or what is new in its session."""
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=128), INTEGRAL] | None = None
    """How many answers; more than one only where nothing is kept."""
    max_tokens: MaxTokens | None = None
    """The older name of `max_completion_tokens`, which wins."""
    max_completion_tokens: MaxTokens | None = None
    seed: Annotated[int, Field(strict=True, ge=-MAX_INTEGER - 1, le=MAX_INTEGER), INTEGRAL] | None = None
    stop: Stop | None = None
    logit_bias: LogitBias | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: StrictStr | None = None
    user: StrictStr | None = None
    safety_identifier: Annotated[str, Field(strict=True, max_length=128)] | None = None
    """Ignored."""
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    """Tools that the client runs itself, beside those of the server."""
    tool_choice: ToolChoice | None = None
    """Which of the client's tools the model may or must call."""
    parallel_tool_calls: StrictBool | None = None
    """`false`: at most one call of the client's tools in an answer."""
    functions: Refused = None
    function_call: Refused = None
    logprobs: Refused = None
    top_logprobs: Refused = None
    modalities: Refused = None
    audio: Refused = None
    web_search_options: Refused = None
    moderation: Refused = None
    store: StrictBool | None = None
    """`false`: nothing of the request is kept."""
    metadata: Metadata | None = None
    """`session_id` in it names the session, where nothing else does; at most 16 pairs."""
    session_id: Annotated[Any, WithJsonSchema({"type": ["string", "null"], "pattern": ID})] = None
    """The session that the request belongs to, where no header names one; not OpenAI's."""

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, body: object) -> object:
        return PARAMETERS.without_nothing(body)

    def client_tools(self) -> Sequence[Mapping[str, Any]]:
        """Return the tools that the client runs itself, as it described them."""
        tools = [tool for tool in self.tools or () if tool.function.name != APPROVE_TOOL]
        return [tool.model_dump(exclude_unset=True) for tool in tools]

    @property
    def can_approve(self) -> bool:
        """Whether its client brings the tool that stands for a question to its user."""
        return any(tool.function.name == APPROVE_TOOL for tool in self.tools or ())

    def chosen_names(self) -> Collection[str]:
        """Return the names of the tools that `tool_choice` names."""
        match self.tool_choice:
            case NamedTool() as named:
                return {named.function.name}
            case AllowedToolsChoice() as choice:
                return choice.names()
            case _:
                return ()

    def choice(self) -> str | dict[str, Any] | None:
        """Return which of these tools the model may or must call, in OpenAI's form."""
        match self.tool_choice:
            case NamedTool() as named:
                return named.model_dump(include={"type", "function"})
            case AllowedToolsChoice() as choice:
                return choice.model_dump(include={"type", "allowed_tools"})
            case mode:
                return mode

    def parameters(self) -> Mapping[str, Any]:
        """Return the sampling parameters that the client set, in OpenAI's newest names."""
        dumped = self.model_dump(include={*PARAMETERS.passed_on}, exclude_unset=True, by_alias=True)
        given = {name: value for name, value in dumped.items() if value is not None}
        if self.max_tokens is not None:
            given.setdefault("max_completion_tokens", self.max_tokens)
        return given
