"""The tools of all MCP servers as one live list."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self, overload

from langchain_core.tools import BaseTool

from tools.mcp.health import ServerHealth
from tools.mcp.names import model_names
from tools.mcp.server import McpServer
from tools.mcp.spec import ServerSpec, Unusable
from tools.mcp.tool import McpTool
from tools.tasks import end_tasks

log = logging.getLogger(__name__)

CALL_TIMEOUT, START_TIMEOUT = 60.0, 60.0
# Endpoints refuse a request with more.
MAX_TOOLS = 128


class Toolbox(Sequence[BaseTool]):
    """A live sequence of the tools that all servers offer; it changes as servers come and go."""

    def __init__(
        self,
        servers: Mapping[str, ServerSpec],
        *,
        call_timeout: float = CALL_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self._unusable = {
            name: ServerHealth(state="down", error=spec.address.reason)
            for name, spec in servers.items()
            if isinstance(spec.address, Unusable)
        }
        self._order = list(servers)
        self._servers = [
            McpServer(
                name,
                spec.address,
                spec,
                call_timeout=call_timeout,
                start_timeout=start_timeout,
                on_change=self._name_anew,
            )
            for name, spec in servers.items()
            if not isinstance(spec.address, Unusable)
        ]
        self._tools: list[McpTool] = []
        self._names: dict[tuple[str, str], str] = {}
        self._holds_names = False
        self._beyond: dict[str, list[str]] = {}

    async def __aenter__(self) -> Self:
        for health in self._unusable.values():
            log.warning("%s Going on without it.", health.error)
        self._opened = asyncio.get_running_loop().time()
        self._owners = {asyncio.create_task(server.own(), name=f"MCP server {server.name}") for server in self._servers}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_tasks(self._owners)

    async def settled(self) -> None:
        """Wait until every server has been ready or down once, but only briefly for a slow one."""
        now = asyncio.get_running_loop().time()
        starting = [server for server in self._servers if not server.first_known.is_set()]
        waits = [self._first_known(server, self._opened + server.spec.first_wait - now) for server in starting]
        await asyncio.gather(*waits)
        self._holds_names = True  # from now on a model may have seen them

    def health(self) -> dict[str, ServerHealth]:
        """Return every server's health by its name."""
        health = self._unusable | {server.name: self._health(server) for server in self._servers}
        return {name: health[name] for name in self._order}

    def server_of(self, name: str) -> str | None:
        """Return the server of the tool that models know by this name."""
        return next((server for (server, _), tool in self._names.items() if tool == name), None)

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[BaseTool]:
        return iter(list(self._tools))

    @overload
    def __getitem__(self, index: int) -> BaseTool: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BaseTool]: ...
    def __getitem__(self, index: int | slice) -> BaseTool | Sequence[BaseTool]:
        return self._tools[index]

    async def _first_known(self, server: McpServer, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await server.first_known.wait()

    def _name_anew(self) -> None:
        """Name all tools, and leave out those beyond the limit of endpoints: the last of the last servers."""
        known = [(server.name, name) for server in self._servers for name in server.known_names]
        names = dict(zip(known, model_names(known, self._names if self._holds_names else None), strict=True))
        self._names = names
        self._holds_names = self._holds_names or all(server.first_known.is_set() for server in self._servers)
        offered = [(server.name, tool) for server in self._servers for tool in server.tools]
        self._tools = [tool.named(names[server, tool.own_name]) for server, tool in offered[:MAX_TOOLS]]
        beyond: dict[str, list[str]] = {}
        for server, tool in offered[MAX_TOOLS:]:
            beyond.setdefault(server, []).append(tool.own_name)
        if beyond and beyond != self._beyond:
            log.warning(
                "There are %d tools, and models take no more than %d. Left out: %s. Choose with allowedTools or "
                "disabledTools in MCP_CONFIG.",
                len(offered),
                MAX_TOOLS,
                "; ".join(f"{', '.join(tools)} of {server!r}" for server, tools in beyond.items()),
            )
        self._beyond = beyond

    def _health(self, server: McpServer) -> ServerHealth:
        health, beyond = server.health, self._beyond.get(server.name, [])
        if not beyond:
            return health
        words = f"there are more than {MAX_TOOLS} tools; left out: {', '.join(beyond)}"
        error = f"{health.error}; {words}" if health.error else words
        return replace(health, tools=health.tools - len(beyond), error=error)
