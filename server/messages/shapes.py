"""The shapes of OpenAI's messages.

Source: OpenAI's published OpenAPI document, `ChatCompletionRequestMessage`.
"""

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StrictStr,
    Tag,
    WithJsonSchema,
)

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Lenient(BaseModel):
    """A shape whose unknown fields are ignored, since clients written for other servers send theirs.

    Infinite numbers are refused: JSON text such as 1e999 is read as one, but JSON cannot express it again.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, JsonValue]


class ImageUrl(BaseModel):
    """An image; nothing is fetched from its address."""

    url: StrictStr
    detail: StrictStr | None = None


class File(BaseModel):
    """A file, as base64 or a data URL in `file_data`, or by an id that the model endpoint knows."""

    filename: StrictStr | None = None
    file_data: StrictStr | None = None
    file_id: StrictStr | None = None


class InputAudio(BaseModel):
    """A sound, as base64."""

    data: Annotated[StrictStr, Field(min_length=1)]
    format: StrictStr


def _as_object(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


class ContentPart(Lenient):
    """One part of a message's content: `text`, or in a user's message one that the model may take."""

    type: Annotated[StrictStr, WithJsonSchema({"enum": ["text", "image_url", "file", "input_audio", "refusal"]})]
    text: StrictStr | None = None
    image_url: Annotated[ImageUrl, BeforeValidator(_as_object)] | None = None
    file: File | None = None
    input_audio: InputAudio | None = None
    refusal: StrictStr | None = None


class CalledFunction(Lenient):
    """What an assistant message calls; `arguments` is JSON as text."""

    name: StrictStr
    arguments: StrictStr = ""


class ToolCall(Lenient):
    """One call of an assistant message."""

    id: StrictStr
    type: Literal["function"] = "function"
    function: CalledFunction


def text_or_parts(value: object) -> str:
    """Return the tag of a value that is a text or a list."""
    return "as parts" if isinstance(value, list) else "as text"


Content = Annotated[
    Annotated[StrictStr, Tag("as text")] | Annotated[list[ContentPart], Tag("as parts")],
    Discriminator(text_or_parts),
]


class Message(Lenient):
    """A message of any role."""

    role: Role
    """`developer` is the same as `system`; `function` is refused."""
    content: Content | None = None
    """Text or parts; only an assistant's message may have none."""
    name: StrictStr | None = None
    tool_calls: list[ToolCall] | None = None
    """The tool calls of an assistant's message."""
    refusal: StrictStr | None = None
    """The text of a refusal; treated as the content."""
    tool_call_id: StrictStr | None = None
    """The call that a tool's message is the result of."""
