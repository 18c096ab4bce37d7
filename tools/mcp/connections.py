"""Open a session with a server by its address, up to MCP's handshake."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import httpx
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tools.mcp.http import McpHttpClient
from tools.mcp.pending import Pending
from tools.mcp.reasons import NO_SERVER, UnansweredError
from tools.mcp.session import Session
from tools.mcp.spec import HttpAddress, StdioAddress
from tools.mcp.stdio import stdio_streams

# Seconds for a server to answer at another address; after that, its first answer is the reason that is told.
FALLBACK_TIMEOUT = 5.0
# Statuses of an MCP server that is there but asks for a log-in or for patience; it is not looked for elsewhere.
NOT_FOR_US = frozenset({401, 403, 407, 408, 429})


@asynccontextmanager
async def greeted(address: StdioAddress | HttpAddress) -> AsyncIterator[Session]:
    """Open a session and agree on the protocol.

    Raises:
        Exception: any exception of the transport; `reasons.reason` puts it into words.
    """
    attempt = AsyncExitStack()
    try:
        session = await _greet(attempt, address)
    except UnansweredError as failure:
        elsewhere = fallbacks(address, failure.status) if isinstance(address, HttpAddress) else []
        attempt, session = await _first_that_answers(elsewhere, failure)
    async with attempt:
        yield session


async def _first_that_answers(
    addresses: Sequence[HttpAddress], failure: UnansweredError
) -> tuple[AsyncExitStack, Session]:
    """Return an open session at the first of these, and what ends it.

    Raises:
        UnansweredError: the failure at the configured address, which is the one to report.
    """
    for address in addresses:
        attempt = AsyncExitStack()
        with suppress(Exception):
            async with asyncio.timeout(FALLBACK_TIMEOUT):
                return attempt, await _greet(attempt, address)
    raise failure


async def _greet(attempt: AsyncExitStack, address: StdioAddress | HttpAddress) -> Session:
    """Open a session that ends with `attempt`, and agree on the protocol; if that fails, the session is closed."""
    try:
        session = await attempt.enter_async_context(_opened(address))
        await session.initialize()
    except UnansweredError:
        await attempt.aclose()
        raise
    except BaseException as error:
        await attempt.__aexit__(type(error), error, error.__traceback__)
        raise
    return session


def fallbacks(address: HttpAddress, status: int | None) -> list[HttpAddress]:
    """Return where else to look for a server that refused the greeting: at `/mcp`, or with the transport of 2024."""
    if address.transport == "sse" or status is None or not 400 <= status < 500 or status in NOT_FOR_US:
        return []
    url = httpx.URL(address.url)
    at_mcp = [replace(address, url=str(url.copy_with(path="/mcp")))]
    return [*(at_mcp if url.path in ("", "/") and status in NO_SERVER else []), replace(address, transport="sse")]


@asynccontextmanager
async def _opened(address: StdioAddress | HttpAddress) -> AsyncIterator[Session]:
    pending = Pending()
    async with AsyncExitStack() as stack:
        match address:
            case StdioAddress():
                read, write = await stack.enter_async_context(stdio_streams(address, pending))
            case HttpAddress(transport="sse", url=url):
                client = McpHttpClient(address, pending)
                streams = sse_client(url, httpx_client_factory=lambda *_, **__: client)
                read, write = await stack.enter_async_context(streams)
            case HttpAddress(url=url):
                client = await stack.enter_async_context(McpHttpClient(address, pending))
                read, write, _ = await stack.enter_async_context(streamable_http_client(url, http_client=client))
        yield await stack.enter_async_context(Session(read, write, pending))
