"""MCP servers as a live list of tools: one owner task per server connects, lists, reconnects and tells its health.

A transport error cancels whichever task opened the session (python-sdk#3560), and a session opened for each call
costs ten times the call. So each server has one task that opens its session, holds it and closes it, and a call races
against the loss of that session.
"""

import asyncio
import logging
import random
import re
from collections import Counter
from collections.abc import Container, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self, cast, overload

import anyio
import httpx
from langchain_core.tools import BaseTool, ToolException
from langchain_mcp_adapters.sessions import Connection, create_session
from langchain_mcp_adapters.tools import load_mcp_tools
from mcp import ClientSession, McpError
from mcp.types import (
    CONNECTION_CLOSED,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ListToolsResult,
    ResourceLink,
    ServerNotification,
    TextContent,
    TextResourceContents,
    ToolListChangedNotification,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
RECONNECT_WAIT = 3.0
CALL_TIMEOUT = 60.0
IDLE_PING, CALL_PING = 30.0, 2.0
FIRST_RETRY, LAST_RETRY = 0.05, 1.5
MAX_RESULT_LENGTH = 64_000
SESSION_TERMINATED = 32600  # the SDK's code for "the server no longer knows this session"
# The user and password before a host, and the query behind a path.
SECRETS_OF_URL = re.compile(r"(https?://)(?:[^\s/?#]*@)?([^\s?#'\"]*)[^\s'\"]*")

Notice = Literal["lost", "check", "tools changed"]


@dataclass(frozen=True, kw_only=True)
class ServerHealth:
    """How one server is: `state`, how many tools it offers, and in one sentence why not, where it is down."""

    state: Literal["connecting", "ready", "down"] = "connecting"
    tools: int = 0
    error: str | None = None


class Toolbox(Sequence[BaseTool]):
    """The tools that all servers offer at this moment, as a sequence that follows them as they come and go."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._servers = [McpServer(name, connection) for name, connection in connections.items()]

    async def __aenter__(self) -> Self:
        self._owners = [asyncio.create_task(server.own(), name=f"mcp server {server.name}") for server in self._servers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while running := [owner for owner in self._owners if not owner.done()]:
            for owner in running:
                if not owner.cancelling():  # anyio swallows a cancellation that meets one of its own
                    owner.cancel()
            await asyncio.wait(running, timeout=0.1)

    async def settled(self) -> None:
        """Wait until every server has answered or failed for the first time."""
        for server in self._servers:
            await server.settled.wait()

    def health(self) -> dict[str, ServerHealth]:
        """Return every server's health by its name."""
        return {server.name: server.health for server in self._servers}

    def __len__(self) -> int:
        return sum(len(server.tools) for server in self._servers)

    @overload
    def __getitem__(self, index: int) -> BaseTool: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[BaseTool]: ...
    def __getitem__(self, index: int | slice) -> BaseTool | Sequence[BaseTool]:
        return self._named()[index]

    def _named(self) -> list[BaseTool]:
        """Tools under their servers' names for them; a name that two servers use gets the server's name before it."""
        offered = [(server.name, tool) for server in self._servers for tool in server.tools]
        count = Counter(tool.name for _, tool in offered)
        named = {tool.name: tool for _, tool in offered if count[tool.name] == 1}
        for server, tool in offered:
            if count[tool.name] > 1:
                name = _prefixed(server, tool.name, named)
                named[name] = tool.model_copy(update={"name": name})
        return list(named.values())


class McpServer:
    """One MCP server: the session that its owner task holds, the tools it offers, and its health."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.health = ServerHealth()
        self.tools: Sequence[BaseTool] = ()
        self.settled = asyncio.Event()
        self._connection = cast(Connection, {**connection, "session_kwargs": {"message_handler": self._on_message}})
        self._notices: asyncio.Queue[Notice] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._session: ClientSession | None = None
        self._calls: set[asyncio.Task[CallToolResult]] = set()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def own(self) -> None:
        """Hold a session, and a new one whenever it is lost, until this task is cancelled."""
        retry = FIRST_RETRY
        while True:
            try:
                async with create_session(self._connection) as session:
                    try:
                        await self._greet(session)
                        retry = FIRST_RETRY
                        await self._keep(session)
                    finally:
                        self._drop()  # now: the transport's end takes a while where the server hangs
            except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:
                # The transport's own cancellations arrive here too; only ours counts on the task. Told to end while
                # it starts, the transport fails in its own way, which is nobody's concern any more.
                if (task := asyncio.current_task()) and task.cancelling():
                    raise asyncio.CancelledError from error
                self._note_down(error)
            await asyncio.sleep(min(retry * random.uniform(0.5, 1.5), LAST_RETRY))
            retry = min(2 * retry, LAST_RETRY)

    async def call_tool(self, name: str, arguments: dict[str, Any], **_: object) -> CallToolResult:
        """Call a tool as `ClientSession.call_tool` does, once more in a new session where the first one was lost.

        A call is repeated only if the server never saw it, or if the tool says that repeating it changes nothing.

        Raises:
            ToolException: the server is not reachable, was lost during the call, or did not answer in time.
        """
        for attempt in count(1):
            session = await self._current_session()
            repeatable = self._is_repeatable(name)  # asked now: a lost server offers no tools
            try:
                return _as_text(await self._raced(session.call_tool(name, arguments)))
            except _SessionLost as loss:
                if attempt == 2 or not (loss.unseen or repeatable):
                    raise ToolException(f"The connection to the tool server {self.name!r} was lost.") from loss
        raise AssertionError("unreachable")

    async def list_tools(self, cursor: str | None = None) -> ListToolsResult:
        """List one page of tools, as `ClientSession.list_tools` does."""
        assert self._session is not None, "only the owner lists, in its session"
        return await self._session.list_tools(cursor=cursor)

    async def _current_session(self) -> ClientSession:
        if self.health.state == "connecting":
            await self.settled.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_WAIT):
                await self._ready.wait()
        if self._session is None:
            raise ToolException(f"The tool server {self.name!r} is not reachable right now.")
        return self._session

    async def _raced(self, request: Coroutine[Any, Any, CallToolResult]) -> CallToolResult:
        """Await a request until it is answered, its session is lost, or its time is over."""
        call, lost = asyncio.create_task(request), self._lost
        self._calls.add(call)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALL_TIMEOUT
        try:
            while loop.time() < deadline:
                await asyncio.wait((call, lost), timeout=CALL_PING, return_when=asyncio.FIRST_COMPLETED)
                if call.done() or lost.done():
                    break
                # A server killed in mid-call leaves the request waiting for ever; a ping finds that out.
                self._notices.put_nowait("check")
            if call.done() and not call.cancelled():
                return call.result()
        except (McpError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            code = error.error.code if isinstance(error, McpError) else None
            if code not in (None, SESSION_TERMINATED, CONNECTION_CLOSED):
                raise ToolException(str(error)) from error
            if lost is self._lost and self._session:  # the first call to find out
                self._session = None
                self._ready.clear()
                self._notices.put_nowait("lost")
            raise _SessionLost(unseen=code != CONNECTION_CLOSED) from error
        finally:
            self._calls.discard(call)
            call.cancel()
        if lost.done() or call.cancelled():
            raise _SessionLost(unseen=False)
        raise ToolException(f"The tool did not answer within {CALL_TIMEOUT:.0f} seconds.")

    def _is_repeatable(self, name: str) -> bool:
        """Whether the tool's MCP annotations say that it reads only, or that a second call adds nothing."""
        hints = next((tool.metadata or {} for tool in self.tools if tool.name == name), {})
        return bool(hints.get("readOnlyHint") or hints.get("idempotentHint"))

    async def _greet(self, session: ClientSession) -> None:
        """Agree on the protocol, list the tools, and let calls in."""
        self._notices = asyncio.Queue()  # what was said about the session before does not concern this one
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await session.initialize()
            self._session, self._lost = session, asyncio.get_running_loop().create_future()
            self._ready.set()
            await self._list_tools()
        log.info("MCP server %r is ready with %d tools.", self.name, len(self.tools))

    async def _keep(self, session: ClientSession) -> None:
        """Stay in the session, listen for news and ping in between; return or raise when it is lost."""
        while True:
            try:
                notice = await asyncio.wait_for(self._notices.get(), IDLE_PING)
            except TimeoutError:
                notice = "check"
            match notice:
                case "lost":
                    if self._calls:  # let the others hear for themselves that the server never saw them
                        await asyncio.wait(self._calls, timeout=1)
                    raise ConnectionError("the session was lost")
                case "tools changed":
                    await self._list_tools()
                case "check":
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await session.send_ping()

    async def _list_tools(self) -> None:
        self.tools = await load_mcp_tools(cast(ClientSession, self), server_name=self.name)
        self.health = ServerHealth(state="ready", tools=len(self.tools))
        self.settled.set()

    def _drop(self) -> None:
        """Let no call into the session any more, and end those that wait in it."""
        self._session = None
        self._ready.clear()
        if not self._lost.done():
            self._lost.set_result(None)

    def _note_down(self, error: BaseException) -> None:
        """Say once per outage, in one line, that the server is away."""
        reason = _reason(error)
        if self.health.state != "down":
            log.warning(
                "MCP server %r cannot be reached (%s). Going on without its tools, trying again.",
                self.name,
                reason,
            )
        self.health = ServerHealth(state="down", error=reason)
        self.tools = ()
        self.settled.set()

    async def _on_message(self, message: object) -> None:
        if isinstance(message, ServerNotification) and isinstance(message.root, ToolListChangedNotification):
            # The list is asked for by the owner: this runs inside the session's receive loop.
            self._notices.put_nowait("tools changed")


class _SessionLost(Exception):
    """The session ended under a call; `unseen` when the server cannot have carried the call out."""

    def __init__(self, *, unseen: bool) -> None:
        super().__init__("the session was lost")
        self.unseen = unseen


def _reason(error: BaseException) -> str:
    """Return the innermost cause, as one line without the secrets that addresses and headers may have in them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case TimeoutError():
            return f"no answer within {CONNECT_TIMEOUT:.0f} s"
        case httpx.HTTPStatusError(response=response):
            return f"answered with status {response.status_code}"
        case httpx.LocalProtocolError():
            return "its headers cannot be sent"
    return SECRETS_OF_URL.sub(r"\1\2", str(error)).strip().partition("\n")[0] or type(error).__name__


def _prefixed(server: str, tool: str, taken: Container[str]) -> str:
    """Return a name that OpenAI's format allows, `^[A-Za-z0-9_-]{1,64}$`, and that is not taken yet."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{server}_{tool}")[-64:]
    return next(free for n in count(1) if (free := name if n == 1 else f"{name[:60]}_{n}") not in taken)


def _as_text(result: CallToolResult) -> CallToolResult:
    """Reduce a result to one bounded text, which is what a chat model reads and a checkpoint should hold."""
    text = "\n".join(_block_text(block) for block in result.content)
    if len(text) > MAX_RESULT_LENGTH:
        half = MAX_RESULT_LENGTH // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"
    return CallToolResult(content=[TextContent(type="text", text=text)], isError=result.isError)


def _block_text(block: ContentBlock) -> str:
    match block:
        case TextContent(text=text):
            return text
        case EmbeddedResource(resource=TextResourceContents(text=text)):
            return text
        case ResourceLink(uri=uri):
            return str(uri)
        case _:
            return f"[{block.type} content, which cannot be shown as text]"
