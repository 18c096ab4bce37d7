"""The shapes of the tools that a request brings, and of the choice among them.

Source: OpenAI's published OpenAPI document, `Tool` and `ToolChoiceParam`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, JsonValue, StrictBool, StrictStr, Tag

from server.messages.shapes import Lenient
from server.messages.values import ToolName


class FunctionTool(Lenient):
    """A tool that the client runs itself; `parameters` is a JSON schema."""

    type: Literal["function"]
    name: ToolName
    description: StrictStr | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: StrictBool | None = None
    """Whether the endpoint holds the arguments to the schema; sent to it where it is said."""


class OtherTool(Lenient):
    """A tool of another kind, which is left out: this server brings its own by MCP."""

    type: StrictStr


def _tool_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "as a function" if kind == "function" else "as an other"


Tool = Annotated[
    Annotated[FunctionTool, Tag("as a function")] | Annotated[OtherTool, Tag("as an other")], Discriminator(_tool_kind)
]


class ToolByName(Lenient):
    """The one tool that the model must call."""

    type: StrictStr
    name: StrictStr | None = None


class AllowedToolNames(Lenient):
    """Those of the request's tools that the model may call, and whether it must call one."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    """`required`: one of them must be called."""
    tools: list[ToolByName]
    """The tools, by their names."""


def _choice_form(value: object) -> str:
    if not isinstance(value, dict | BaseModel):
        return "as a mode"
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "as allowed tools" if kind == "allowed_tools" else "as a named tool"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("as a mode")]
    | Annotated[ToolByName, Tag("as a named tool")]
    | Annotated[AllowedToolNames, Tag("as allowed tools")],
    Discriminator(_choice_form),
]
