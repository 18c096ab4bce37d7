"""A server's tool as a LangChain tool."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool, ToolException
from pydantic import Field
from pydantic_core import from_json

from tools.mcp.messages import without_half_characters
from tools.mcp.names import is_recognizable
from tools.mcp.results import Content, content_of
from tools.mcp.schemas import UnusableSchemaError, fit_schema
from tools.mcp.spec import ToolFilter
from tools.trace import begin, doing

Caller = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
# Characters of a description that the model is sent, with every request.
MAX_DESCRIPTION = 4_000
REPEATABLE = ("readOnlyHint", "idempotentHint")


class UnusableToolError(ValueError):
    """A tool that cannot be offered; the message says why."""


class McpTool(BaseTool):
    """A tool that passes the model's arguments to its server unchanged, and returns the result for the model.

    It raises ToolException, with words for the model, when the call fails.
    """

    own_name: str
    """The server's name for it; `name` is the model's."""
    caller: Caller = Field(exclude=True, repr=False)
    secrets: tuple[str, ...] = Field((), exclude=True, repr=False)
    """What its server was given in trust; its errors are told without it."""

    def named(self, name: str) -> "McpTool":
        """Return the tool under the model's name for it.

        If that name lost letters, such as Korean ones, the description begins with the tool's own name.
        """
        words = self.description if is_recognizable(self.own_name) else f"{self.own_name}: {self.description}"
        return self.model_copy(update={"name": name, "description": words})

    @property
    def is_repeatable(self) -> bool:
        """Whether the server marks it as read-only or idempotent."""
        return any((self.metadata or {}).get(hint) is True for hint in REPEATABLE)

    async def arun(self, *arguments: Any, tool_call_id: str | None = None, **options: Any) -> Any:
        """Run the tool, as a span of the current trace."""
        about = {"gen_ai.tool.name": self.name, "mcp.method.name": "tools/call"}
        if tool_call_id:
            about["gen_ai.tool.call.id"] = tool_call_id
        with doing(begin("execute_tool", self.name, about)):
            return await super().arun(*arguments, tool_call_id=tool_call_id, **options)

    def _run(self, /, *_: Any, **arguments: Any) -> Content:
        raise NotImplementedError("MCP tools are called asynchronously.")

    # No parameter names, not even `self`, so that arguments may have any name.
    async def _arun(self, /, *_: Any, **arguments: Any) -> Content:
        return content_of(await self.caller(self.own_name, _sendable(arguments)), self.secrets)


def _sendable(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        whole: dict[str, Any] = without_half_characters(arguments)
        from_json(json.dumps(whole))  # it bounds the depth as the SDK's servers do
    except (ValueError, RecursionError) as error:
        raise ToolException("The arguments are nested too deep to be sent.") from error
    return whole


def tool_from(described: Mapping[str, Any], caller: Caller, secrets: Iterable[str] = ()) -> McpTool:
    """Return the tool that a server describes.

    Raises:
        UnusableToolError: its schema cannot be sent to a model, or it cannot be called.
    """
    name = described.get("name")
    if not isinstance(name, str) or not name:
        raise UnusableToolError("it has no name")
    if _mapping(described.get("execution")).get("taskSupport") == "required":
        raise UnusableToolError("it can only be run as a task, which is not supported here")
    try:
        schema = fit_schema(described.get("inputSchema"))
    except UnusableSchemaError as error:
        raise UnusableToolError(f"its schema cannot be used: {error}") from error
    except RecursionError as error:
        raise UnusableToolError("its schema is too deep") from error
    annotations = _mapping(described.get("annotations"))
    words = (described.get("description"), described.get("title"), annotations.get("title"))
    return McpTool(
        name=name,
        own_name=name,
        description=next((text for text in words if isinstance(text, str) and text), "")[:MAX_DESCRIPTION],
        args_schema=schema,
        metadata={**annotations, **({"_meta": meta} if (meta := described.get("_meta")) else {})} or None,
        caller=caller,
        secrets=tuple(secrets),
    )


def tools_from(
    described: Sequence[Mapping[str, Any]], chosen: ToolFilter, caller: Caller, secrets: Iterable[str]
) -> tuple[tuple[McpTool, ...], dict[str, str]]:
    """Return the tools of a server that are offered, and which of the others are left out for what reason."""
    tools: dict[str, McpTool] = {}
    left_out: dict[str, str] = {}
    for entry in described:
        name = str(entry.get("name"))
        if not chosen.lets_in(name):
            continue
        try:
            tools.setdefault(name, tool_from(entry, caller, secrets))
        except UnusableToolError as error:
            left_out[name] = str(error)
    return tuple(tools.values()), left_out


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
