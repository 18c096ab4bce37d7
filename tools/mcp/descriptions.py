"""How a server describes its tools, which a model obeys: cut where it is long, and watched for changes."""

import json
import logging
from collections.abc import Sequence

from tools.mcp.tool import MAX_DESCRIPTION, McpTool

log = logging.getLogger(__name__)


class Descriptions:
    """The descriptions of one server's tools, as they were last."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._known: dict[str, str] = {}

    def note(self, tools: Sequence[McpTool]) -> None:
        """Log which tools are described in other words than before, and which descriptions are cut."""
        for tool in tools:
            said = f"{tool.description}\n{json.dumps(tool.args_schema, sort_keys=True, default=str)}"
            before = self._known.get(tool.own_name)
            if before == said:
                continue
            self._known[tool.own_name] = said
            if before is not None:
                log.warning("MCP server %r describes its tool %r in other words now.", self._server, tool.own_name)
            if len(tool.description) == MAX_DESCRIPTION:
                log.warning(
                    "MCP server %r: the description of the tool %r is cut after %d characters.",
                    self._server,
                    tool.own_name,
                    MAX_DESCRIPTION,
                )
