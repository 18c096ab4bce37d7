"""The shapes of the items that a request's input has.

Source: OpenAI's published OpenAPI document, `InputItem`; Open Responses, `ItemParam`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, StrictBool, StrictStr, Tag, WithJsonSchema

from server.messages.shapes import Lenient, text_or_parts

PART_TYPES = ["input_text", "output_text", "text", "refusal", "input_image", "input_file", "input_audio"]


class Audio(BaseModel):
    """A sound, as base64."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    data: StrictStr
    """Base64."""
    format: StrictStr
    """Such as `wav` or `mp3`."""


class Part(Lenient):
    """One part of a message's content, or of a tool's output."""

    type: Annotated[StrictStr, WithJsonSchema({"enum": PART_TYPES})]
    text: StrictStr | None = None
    refusal: StrictStr | None = None
    image_url: StrictStr | None = None
    """An http, https or data URL; nothing is fetched from it."""
    detail: StrictStr | None = None
    """How closely to look: `low`, `high` or `auto`."""
    file_id: StrictStr | None = None
    """Its id at the model endpoint."""
    file_data: StrictStr | None = None
    """Base64, or a data URL."""
    filename: StrictStr | None = None
    """The file's name."""
    file_url: StrictStr | None = None
    """Not supported: this server fetches no files."""
    input_audio: Audio | None = None
    """A sound, in a user's message."""


Content = Annotated[
    Annotated[StrictStr, Tag("as text")] | Annotated[list[Part], Tag("as parts")], Discriminator(text_or_parts)
]


class MessageItem(Lenient):
    """A message of the user, the assistant or the system."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    """Who says it; `developer` is the same as `system`."""
    content: Content
    """Text or parts."""
    id: StrictStr | None = None
    phase: StrictStr | None = None
    """`commentary` or `final_answer`, of an assistant's message."""


class FunctionCallItem(Lenient):
    """A call of one of the client's tools; `arguments` is JSON as text."""

    type: Literal["function_call"]
    call_id: StrictStr
    name: StrictStr
    arguments: StrictStr = ""
    """JSON as text."""
    id: StrictStr | None = None
    status: StrictStr | None = None
    """`incomplete`: the model was stopped before it had made the call, which is left out without an output."""


class CustomCallItem(Lenient):
    """A call of a tool that takes text."""

    type: Literal["custom_tool_call"]
    call_id: StrictStr
    name: StrictStr
    input: StrictStr = ""
    """What the tool was given."""
    id: StrictStr | None = None


class OutputItem(Lenient):
    """The result of a call of one of the client's tools."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: StrictStr
    output: Content
    """Text or parts."""
    id: StrictStr | None = None


class McpCallItem(Lenient):
    """A call of one of the server's own tools, with its result."""

    type: Literal["mcp_call"]
    server_label: StrictStr = ""
    """The MCP server."""
    name: StrictStr
    arguments: StrictStr = ""
    """JSON as text."""
    output: StrictStr | None = None
    """The text of its result."""
    error: Annotated[Any, WithJsonSchema({"type": ["object", "string", "null"]})] = None
    """Why it failed."""
    id: StrictStr | None = None


class ApprovalRequestItem(Lenient):
    """A call of one of the server's tools that waited for a person."""

    type: Literal["mcp_approval_request"]
    id: StrictStr
    server_label: StrictStr = ""
    """The MCP server."""
    name: StrictStr
    arguments: StrictStr = ""
    """JSON as text."""


class ApprovalResponseItem(Lenient):
    """What a person decided about a call of the server's tools."""

    type: Literal["mcp_approval_response"]
    approval_request_id: StrictStr
    """The item that asked."""
    approve: StrictBool
    """Whether the call is run."""
    reason: StrictStr | None = None
    """Why not; the model is told."""
    id: StrictStr | None = None


class CompactionItem(Lenient):
    """A summary that this server made of a conversation; what was before it is not known any more."""

    type: Literal["compaction"]
    encrypted_content: StrictStr
    """The summary, in base64."""
    id: StrictStr | None = None


class ReferenceItem(Lenient):
    """An item of a stored response, by its id."""

    type: Literal["item_reference"] | None = None
    id: StrictStr


class OtherItem(Lenient):
    """An item of another type, which is left out: reasoning, or what tools of other servers did."""

    type: StrictStr
    id: StrictStr | None = None


TAGS = {
    "message": "as a message",
    "function_call": "as a function call",
    "custom_tool_call": "as a custom call",
    "function_call_output": "as an output",
    "custom_tool_call_output": "as an output",
    "mcp_call": "as a mcp call",
    "mcp_approval_request": "as an approval request",
    "mcp_approval_response": "as an approval response",
    "compaction": "as a compaction",
    "item_reference": "as a reference",
}


def _tag(value: object) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if not isinstance(value, dict):
        return TAGS["message"]
    kind = value.get("type")
    if kind is None:
        return TAGS["item_reference" if "id" in value and "role" not in value else "message"]
    return TAGS.get(kind, "as an other") if isinstance(kind, str) else "as an other"


Item = Annotated[
    Annotated[MessageItem, Tag("as a message")]
    | Annotated[FunctionCallItem, Tag("as a function call")]
    | Annotated[CustomCallItem, Tag("as a custom call")]
    | Annotated[OutputItem, Tag("as an output")]
    | Annotated[McpCallItem, Tag("as a mcp call")]
    | Annotated[ApprovalRequestItem, Tag("as an approval request")]
    | Annotated[ApprovalResponseItem, Tag("as an approval response")]
    | Annotated[CompactionItem, Tag("as a compaction")]
    | Annotated[ReferenceItem, Tag("as a reference")]
    | Annotated[OtherItem, Tag("as an other")],
    Discriminator(_tag),
]

TextOrItems = Annotated[
    Annotated[StrictStr, Tag("as text")] | Annotated[list[Item], Tag("as parts")], Discriminator(text_or_parts)
]
