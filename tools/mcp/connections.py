"""A server's address as an open session that has been greeted."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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

# Who answers so is there, but wants to know who asks, or asks to wait: no other transport is behind it.
NOT_FOR_US = frozenset({401, 403, 407, 408, 429})


@asynccontextmanager
async def greeted(address: StdioAddress | HttpAddress) -> AsyncIterator[Session]:
    """Open a session and agree on the protocol.

    Raises:
        Exception: whatever the transport says; `reasons.reason` puts it into words.
    """
    async with AsyncExitStack() as stack:
        first: UnansweredError | None = None
        waiting = [address]
        while waiting:
            attempt = AsyncExitStack()
            tried = waiting.pop(0)
            try:
                session = await attempt.enter_async_context(_opened(tried))
                await session.initialize()
            except UnansweredError as failure:
                await attempt.aclose()
                if first is None and isinstance(tried, HttpAddress):
                    waiting = fallbacks(tried, failure.status)
                first = first or failure
            except BaseException as error:
                await attempt.__aexit__(type(error), error, error.__traceback__)
                if first is None or not isinstance(error, Exception):
                    raise
            else:
                stack.push_async_exit(attempt)
                yield session
                return
        assert first is not None
        raise first


def fallbacks(address: HttpAddress, status: int | None) -> list[StdioAddress | HttpAddress]:
    """Return where else a server may be that refused the greeting: at `/mcp`, or behind the transport of 2024."""
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
