"""The bundled MCP server: get_weather and search_web, over streamable HTTP or stdio.

`chat-agent mcp` starts it; the agent starts it by itself, over stdio, when no other server is configured.
"""

import logging
import signal
from collections.abc import Awaitable
from typing import Annotated

import httpx
from mcp.server.fastmcp import FastMCP
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from tools.bundled.failure import ToolFailure
from tools.bundled.search import TIMEOUT, search_report
from tools.bundled.settings import ToolSettings
from tools.bundled.weather import weather_report
from tools.identity import NAME, version

log = logging.getLogger("tools.bundled.server")  # its own process runs it as __main__

MAX_RESULTS = 10

# Written for a small model, which decides by these words alone when to call; `make eval` scores them.
WEATHER = "The weather in one city: temperature, rain, snow and wind, now and in the next days."
CITY = "City name in Korean or English, spelled as in the question, e.g. 서울, Seoul or New York"
SEARCH = (
    "Search the web for current information other than the weather: news, prices, exchange rates, sports results, "
    "new versions, recent events."
)


def build_server(settings: ToolSettings) -> FastMCP:
    """Return the server with its two tools; the caller picks the transport."""
    _log_plainly()
    security = None  # FastMCP's own: on loopback it answers for loopback's names alone
    if settings.mcp_allowed_hosts:
        hosts = [form for host in settings.mcp_allowed_hosts for form in (host, f"{host}:*")]
        security = TransportSecuritySettings(enable_dns_rebinding_protection=True, allowed_hosts=hosts)
    server = FastMCP(
        NAME, host=settings.mcp_host, port=settings.mcp_port, log_level="WARNING", transport_security=security
    )
    server._mcp_server.version = version()  # FastMCP has no argument for it
    web = httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=True)
    read_only = ToolAnnotations(readOnlyHint=True, openWorldHint=True)

    @server.tool(description=WEATHER, annotations=read_only)
    async def get_weather(city: Annotated[str, Field(description=CITY)]) -> CallToolResult:
        return await _relayed(
            weather_report(
                web,
                city,
                geocoding_url=settings.open_meteo_geocoding_url,
                forecast_url=settings.open_meteo_forecast_url,
            )
        )

    @server.tool(description=SEARCH, annotations=read_only)
    async def search_web(
        query: Annotated[str, Field(description="What to search for")],
        limit: Annotated[int, Field(description=f"How many results, 1 to {MAX_RESULTS}")] = 5,
    ) -> CallToolResult:
        # A model that asks for too many wants results, not a validation error.
        wanted = min(max(limit, 1), MAX_RESULTS)
        return await _relayed(search_report(web, query, wanted, searxng_url=settings.searxng_url))

    return server


def _log_plainly() -> None:
    """Log as uvicorn does, before FastMCP sets up its own handler, which draws boxes."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s:     %(name)s: %(message)s")
    # It logs every client that leaves as an error with a traceback.
    logging.getLogger("mcp.server.streamable_http").setLevel(logging.CRITICAL)


async def _relayed(report: Awaitable[str]) -> CallToolResult:
    """Answer with the report, or with the sentence of its failure, for the model to relay."""
    try:
        text, failed = await report, False
    except ToolFailure as failure:
        log.warning("%s Cause: %r", failure, failure.__cause__)
        text, failed = str(failure), True
    return CallToolResult(content=[TextContent(type="text", text=text)], isError=failed)


def main() -> None:
    """Serve over stdio until standard input closes; `python -m tools.bundled.server`."""
    # The SDK reads standard input in a thread that no KeyboardInterrupt reaches.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    build_server(ToolSettings()).run("stdio")


if __name__ == "__main__":
    main()
