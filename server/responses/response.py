"""The shapes of what the Responses API answers.

Source: OpenAI's published OpenAPI document, `Response`, `OutputItem` and `ResponseItemList`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class Shape(BaseModel):
    """A field's docstring is its description in /openapi.json."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class OutputText(Shape):
    """A text of the assistant's."""

    type: Literal["output_text"]
    text: str
    annotations: list[JsonValue]
    """Always empty."""
    logprobs: list[JsonValue]


class OutputRefusal(Shape):
    """What the model says in place of an answer, where it refuses to give one."""

    type: Literal["refusal"]
    refusal: str


class OutputMessage(Shape):
    """A message of the assistant's."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    """How far it is."""
    role: Literal["assistant"]
    """Who says it."""
    content: list[Annotated[OutputText | OutputRefusal, Discriminator("type")]]
    """Texts and refusals."""
    phase: Literal["commentary", "final_answer"] | None = None
    """`commentary` where tool calls follow it."""


class SummaryText(Shape):
    """What the model thought."""

    type: Literal["summary_text"]
    text: str


class ReasoningItem(Shape):
    """What the model thought before it said something."""

    id: str
    type: Literal["reasoning"]
    summary: list[SummaryText]
    """What the model thought, in one text."""
    status: ItemStatus
    """How far it is."""


class FunctionCall(Shape):
    """A call of one of the client's tools; the next request brings its output."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    """`completed` once its arguments are whole."""
    call_id: str
    name: str
    arguments: str
    """JSON, or what the model wrote if that is not valid JSON."""


class McpCall(Shape):
    """A call of one of the server's own tools."""

    id: str
    type: Literal["mcp_call"]
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    """How far it is."""
    server_label: str
    """The MCP server; of a tool without one, the agent."""
    name: str
    arguments: str
    """JSON."""
    output: str | None
    """The text of its result."""
    error: dict[str, JsonValue] | None
    """Why it failed."""
    approval_request_id: str | None
    """The approval that it needed."""


class McpApprovalRequest(Shape):
    """A call of one of the server's own tools that a person must approve; the next request brings the answer."""

    id: str
    type: Literal["mcp_approval_request"]
    server_label: str
    """The MCP server; of a tool without one, the agent."""
    name: str
    arguments: str
    """JSON."""


OutputItem = Annotated[
    OutputMessage | ReasoningItem | FunctionCall | McpCall | McpApprovalRequest, Discriminator("type")
]


class ResponseError(Shape):
    """Why a response failed."""

    code: str
    """What went wrong, for a program."""
    message: str
    """What went wrong, for a person."""


class IncompleteDetails(Shape):
    """Why a response ends before its end."""

    reason: Literal["max_output_tokens", "content_filter"]
    """The limit that ended it."""


class InputTokens(Shape):
    """Some of the tokens that were read."""

    cached_tokens: int
    cache_write_tokens: int
    """Tokens that the endpoint keeps for the next request."""


class OutputTokens(Shape):
    """Some of the tokens that were written."""

    reasoning_tokens: int


class ResponseUsage(Shape):
    """The tokens of all model calls of the response together; estimated where the model endpoint reports none."""

    input_tokens: int
    """Tokens that were read."""
    input_tokens_details: InputTokens
    """Some of these."""
    output_tokens: int
    """Tokens that were written."""
    output_tokens_details: OutputTokens
    """Some of these."""
    total_tokens: int


class ConversationOfResponse(Shape):
    """The conversation that the request named."""

    id: str


class ResponseObject(Shape):
    """A response; what the request did not say has its default."""

    id: str
    object: Literal["response"]
    created_at: int
    """In Unix seconds."""
    completed_at: int | None
    """In Unix seconds; of a completed response."""
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    """How far it is, or how it ended."""
    error: ResponseError | None
    """Why it failed."""
    incomplete_details: IncompleteDetails | None
    """Why it ends before its end."""
    model: str
    output: list[OutputItem]
    """What was said and done, in order."""
    usage: ResponseUsage | None
    """The tokens that it took; `null` while it is in progress."""
    previous_response_id: str | None
    """The response that it follows."""
    conversation: ConversationOfResponse | None
    """The conversation that the request named."""
    instructions: str | None
    """Those of the request."""
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    """As the request said it; ignored."""
    max_output_tokens: int | None
    """The limit of each model call."""
    max_tool_calls: int | None
    """The limit of calls of the server's tools."""
    parallel_tool_calls: bool
    """Whether there may be several calls of the client's tools."""
    tool_choice: JsonValue
    """Which of the client's tools the model might or had to call."""
    tools: list[dict[str, JsonValue]]
    """The client's tools."""
    text: dict[str, JsonValue]
    """How the answer's text is."""
    reasoning: dict[str, JsonValue]
    """How much the model was to think."""
    truncation: Literal["auto", "disabled"]
    """As the request said it."""
    background: bool
    """Whether it was made in the background."""
    store: bool
    service_tier: str
    """As the request said it; ignored."""
    metadata: dict[str, str]
    """As the request said it."""
    user: str | None = None
    safety_identifier: str | None
    """As the request said it; ignored."""
    prompt_cache_key: str | None
    """As the request said it; ignored."""


class ResponseDeleted(Shape):
    """A response that is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class ItemList(Shape):
    """Some of the items of a conversation."""

    object: Literal["list"] = "list"
    data: list[Annotated[dict[str, Any], Field(description="An item, as the API takes it and gives it.")]]
    first_id: str
    last_id: str
    has_more: bool
