"""What a model is told of the agent's tools; it is made once for each, since every request tells it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

MAX_KNOWN = 1_000


@dataclass(frozen=True)
class Description:
    """A tool in OpenAI's form."""

    told: Mapping[str, Any]

    @cached_property
    def text(self) -> str:
        """Its JSON."""
        return json.dumps(self.told, ensure_ascii=False)

    @cached_property
    def size(self) -> int:
        """The bytes of its JSON."""
        return len(self.text.encode(errors="replace"))


_known: dict[int, tuple[BaseTool, Description]] = {}  # with the tools, so that no other one gets their ids


def told(tools: Sequence[BaseTool | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a model is told of tools."""
    return [dict(described(tool).told) for tool in tools]


def described(tool: BaseTool | Mapping[str, Any]) -> Description:
    """Describe a tool; one of the client's is a description already."""
    if not isinstance(tool, BaseTool):
        return Description(tool)
    known = _known.get(id(tool))
    if known is None:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        known = _known[id(tool)] = tool, Description(convert_to_openai_tool(tool))
    return known[1]
