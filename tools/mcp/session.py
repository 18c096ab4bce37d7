"""One session with a server: the SDK's, without its checks of answers, and with an error for every failure."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.session import ClientSession
from mcp.shared.exceptions import McpError
from mcp.shared.message import SessionMessage
from mcp.types import (
    CONNECTION_CLOSED,
    METHOD_NOT_FOUND,
    CallToolRequest,
    CallToolRequestParams,
    CancelledNotification,
    CancelledNotificationParams,
    ClientNotification,
    ClientRequest,
    Implementation,
    ListToolsRequest,
    PaginatedRequestParams,
    ServerNotification,
    ToolListChangedNotification,
)
from pydantic import RootModel

from tools.identity import NAME, version
from tools.mcp.pending import Pending
from tools.mcp.progress import Progress
from tools.mcp.reasons import UnansweredError, lost
from tools.trace import trace_headers

MAX_PAGES = 1000
GIVE_UP_TIMEOUT = 5.0
# A server that does not announce tools is asked for them all the same, but not waited for.
UNSAID_TOOLS_TIMEOUT = 5.0

Read = MemoryObjectReceiveStream[SessionMessage | Exception]
Write = MemoryObjectSendStream[SessionMessage]


class Result(RootModel[dict[str, Any]]):
    """The result in an answer, with any content: the SDK's types refuse what later versions of MCP add."""


class Session(ClientSession):
    """A session that ends all its waiting requests when it ends, and tells servers of calls that were given up."""

    def __init__(self, read: Read, write: Write, pending: Pending) -> None:
        super().__init__(
            read, write, message_handler=self._on_message, client_info=Implementation(name=NAME, version=version())
        )
        self.pending = pending
        self.news = asyncio.Event()
        """Set when the owner has something to do: the tools have changed, or the session is over."""
        self.over = asyncio.Event()
        """Set when the owner should leave it: it was retired, or it has ended."""
        self.ended = asyncio.Event()
        self._told: set[asyncio.Task[None]] = set()

    def retire(self) -> None:
        """Tell its owner to leave it."""
        self.over.set()
        self.news.set()

    async def send_request(self, *arguments: Any, **options: Any) -> Any:
        """Send a request as `ClientSession` does.

        Raises:
            UnansweredError: there will be no answer.
            McpError: the server answered with an error.
        """
        try:
            with self.pending.waiting(self._request_id):  # the id that it gets
                return await super().send_request(*arguments, **options)
        except McpError as error:
            if (error.error.code, error.error.message) == (CONNECTION_CLOSED, "Connection closed"):
                raise lost() from error
            raise
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise lost(taken=False) from error

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, limit: float, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """Call a tool and return its result. Each report of progress restarts the timeout.

        Raises:
            TimeoutError: neither an answer nor a report of progress came in time.
            UnansweredError: there will be no answer.
            McpError: the server answered with an error.
        """

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            scope.deadline = anyio.current_time() + limit
            on_progress(Progress(progress, total, message))

        headers = trace_headers()
        about = {"_meta": headers} if headers else {}
        parameters = CallToolRequestParams.model_validate({"name": name, "arguments": dict(arguments), **about})
        request = ClientRequest(CallToolRequest(params=parameters))
        with anyio.fail_after(limit) as scope, self._given_up_when_left():
            result: Result = await self.send_request(request, Result, progress_callback=progressed)
        return result.root

    async def is_unknown(self) -> bool:
        """Whether the server no longer knows this session, as after a restart. It refuses a ping then."""
        try:
            with anyio.fail_after(GIVE_UP_TIMEOUT):
                await self.send_ping()
        except UnansweredError as failure:
            return failure.status is not None
        except (McpError, TimeoutError):
            return False
        return False

    async def list_all_tools(self) -> list[dict[str, Any]]:
        """Return the tools of all pages as the server describes them; none where it has no tools.

        Raises:
            UnansweredError: there will be no answer.
            McpError: the server answered with an error.
        """
        capabilities = self.get_server_capabilities()
        says_so = capabilities is not None and capabilities.tools is not None
        try:
            with anyio.fail_after(None if says_so else UNSAID_TOOLS_TIMEOUT):
                return [tool async for page in self._pages() for tool in page]
        except TimeoutError:
            return []
        except McpError as error:
            if says_so and error.error.code != METHOD_NOT_FOUND:
                raise
            return []

    async def is_there(self, limit: float) -> bool:
        """Whether the server is there, by a ping: with any answer it is, with none it may be."""
        request_id = self._request_id
        try:
            with anyio.fail_after(limit):
                await self.send_ping()
        except TimeoutError:
            self.pending.forget(request_id)
        except McpError:
            pass
        except UnansweredError as failure:
            return not failure.is_loss and (failure.status != 404 or failure.code == METHOD_NOT_FOUND)
        return True

    async def _on_message(self, message: object) -> None:
        if isinstance(message, ServerNotification) and isinstance(message.root, ToolListChangedNotification):
            # The list is asked for by the owner: this runs inside the session's receive loop.
            self.news.set()

    async def _pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        cursor: str | None = None
        seen: set[str | None] = {None}
        for _ in range(MAX_PAGES):
            parameters = PaginatedRequestParams(cursor=cursor) if cursor else None
            with self._given_up_when_left():
                answer: Result = await self.send_request(ClientRequest(ListToolsRequest(params=parameters)), Result)
            yield list(_tools(answer.root.get("tools")))
            cursor = answer.root.get("nextCursor")
            if not isinstance(cursor, str) or not cursor or cursor in seen:
                return
            seen.add(cursor)

    @contextmanager
    def _given_up_when_left(self) -> Iterator[None]:
        """Make one request in the body, and cancel it at the server if the caller stops waiting."""
        request_id = self._request_id
        try:
            yield
        except asyncio.CancelledError:
            self._give_up(request_id)
            raise

    def _give_up(self, request_id: int) -> None:
        if not self.ended.is_set():
            telling = asyncio.create_task(self._tell(request_id))
            self._told.add(telling)
            telling.add_done_callback(self._told.discard)

    async def _tell(self, request_id: int) -> None:
        """Tell the server that the request is cancelled, then close its connection."""
        parameters = CancelledNotificationParams(requestId=request_id, reason="The caller does not wait any more.")
        with anyio.move_on_after(GIVE_UP_TIMEOUT), suppress(Exception):
            await self.send_notification(ClientNotification(CancelledNotification(params=parameters)))
        self.pending.forget(request_id)

    async def _receive_loop(self) -> None:
        try:
            await super()._receive_loop()
        finally:
            self.ended.set()
            self.pending.end()
            self.retire()
            for telling in self._told:
                telling.cancel()


def _tools(tools: object) -> Iterator[dict[str, Any]]:
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            yield tool
