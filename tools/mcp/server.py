"""One MCP server: a task that holds a session with it, and calls that go through that session.

A server is alive as long as its process is, or as long as its HTTP requests are: no ping and no silence ends it. A
session that a server does not know any more is left, and a new one taken, while the calls in the old one go on.
A transport error cancels whichever task opened the session (python-sdk#3560), so each session has a task of its own.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import ToolException
from mcp.shared.exceptions import McpError

from tools.mcp.connections import greeted
from tools.mcp.descriptions import Descriptions
from tools.mcp.health import ServerHealth
from tools.mcp.progress import tell_listener
from tools.mcp.reasons import UnansweredError, lost, reason
from tools.mcp.results import NO_REASON
from tools.mcp.session import Session
from tools.mcp.spec import HttpAddress, ServerSpec, StdioAddress
from tools.mcp.tool import McpTool, tools_from
from tools.printed import without
from tools.tasks import end_tasks, is_set, to_the_end

log = logging.getLogger(__name__)

# Seconds that a call waits for a server that is down, and for one that was lost during the call.
DOWN_WAIT, LOSS_WAIT = 3.0, 8.0
FIRST_RETRY = 0.05
# Growth and maximum of the waits between attempts: starting a process costs more than asking at an address.
BACK_OFF: Mapping[type, tuple[float, float]] = {StdioAddress: (2.0, 60.0), HttpAddress: (1.3, 5.0)}
# Seconds of being ready after which the waits start from the shortest again.
STABLE = 30.0
IDLE_PING, PING_TIMEOUT = 30.0, 10.0
# Minimum seconds between two lists of tools, for servers that report a change with each list.
LIST_PAUSE = 1.0
# Statuses that a new session would not help against, so the old one is kept: no HTTP error, call too large, too many
# calls.
NOT_THE_SESSION = frozenset({None, 413, 429})
# The tool's own error, or that of a server that no longer knows the session.
FAULT = 500


class McpServer:
    """One MCP server: the session that its owner task holds, the tools it offers, and its health."""

    def __init__(
        self,
        name: str,
        address: StdioAddress | HttpAddress,
        spec: ServerSpec,
        *,
        call_timeout: float,
        start_timeout: float,
        on_change: Callable[[], None],
    ) -> None:
        self.name, self.spec = name, spec
        self.health = ServerHealth()
        self.tools: tuple[McpTool, ...] = ()
        self.known_names: Sequence[str] = ()
        """Names of its tools, kept while it is down: names of other servers' tools depend on them."""
        self.first_known = asyncio.Event()
        """Set once the server was ready or down for the first time."""
        self._address, self._on_change = address, on_change
        self._call_timeout, self._start_timeout = spec.call_timeout or call_timeout, start_timeout
        self._current: Session | None = None
        self._ready, self._known = asyncio.Event(), asyncio.Event()
        self._holding: set[asyncio.Task[None]] = set()
        self._left_out: dict[str, str] = {}
        self._descriptions = Descriptions(name)

    async def own(self) -> None:
        """Hold a session, and a new one whenever it is left, until this task is cancelled."""
        retry, loop = FIRST_RETRY, asyncio.get_running_loop()
        growth, last_retry = BACK_OFF[type(self._address)]
        try:
            while True:
                left, began = asyncio.Event(), loop.time()
                holding = self._hold_in_a_task(left)
                await left.wait()
                if not holding.done() or self._was_ready_for_long(began):
                    retry = FIRST_RETRY
                await asyncio.sleep(retry * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                retry = min(growth * retry, last_retry)
        finally:
            self.tools = ()
            self._note(ServerHealth(state="down", error="it was closed"))
            await to_the_end(end_tasks(self._holding))

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call a tool and return its result, once more in a new session where the first one was of no use.

        A call is repeated only if the server never received it, or if it was lost or failed and the tool is marked as
        idempotent; never because it took too long.

        Raises:
            ToolException: the call failed; the message is for the model.
        """
        # Looked up before the call: the list of tools is empty while the server is down.
        tool = next((tool for tool in self.tools if tool.own_name == name), None)
        for is_last in (False, True):
            session = await self._current_session(LOSS_WAIT if is_last else DOWN_WAIT)
            try:
                return await session.call(name, arguments, limit=self._call_timeout, on_progress=tell_listener())
            except UnansweredError as failure:
                taken = failure.taken and not (failure.status == FAULT and await session.is_unknown())
                if failure.is_loss or (not is_last and failure.status not in NOT_THE_SESSION):
                    self._leave(session)
                if is_last or (taken and not (failure.may_be_repeated and tool and tool.is_repeatable)):
                    raise ToolException(self._complaint(failure)) from failure
            except TimeoutError as error:
                raise ToolException(f"The tool did not answer within {self._call_timeout:g} seconds.") from error
            except McpError as error:
                raise ToolException(without(self._address.secrets(), error.error.message) or NO_REASON) from None
        raise AssertionError("unreachable")

    def _complaint(self, failure: UnansweredError) -> str:
        if failure.is_loss:
            return f"The connection to the tool server {self.name!r} was lost."
        words = reason(failure, self._address.secrets())
        return f"The tool server {self.name!r} did not answer the call: {words}."

    async def _current_session(self, patience: float) -> Session:
        """Return the session that calls go through; wait for it while the server starts, and a moment if it is down."""
        for event, seconds in ((self._known, self._call_timeout), (self._ready, patience)):
            if not await is_set(event, seconds):
                break
        if self._current is None:
            raise ToolException(f"The tool server {self.name!r} is not reachable right now.")
        return self._current

    def _hold_in_a_task(self, left: asyncio.Event) -> asyncio.Task[None]:
        holding = asyncio.create_task(self._hold(left), name=f"session of MCP server {self.name}")
        self._holding.add(holding)
        holding.add_done_callback(self._holding.discard)
        holding.add_done_callback(lambda _: left.set())
        return holding

    async def _hold(self, left: asyncio.Event) -> None:
        """Open a session and keep it until it ends, or until it is left and its last call has ended."""
        was_ready = False
        try:
            async with asyncio.timeout(self._start_timeout) as starting, greeted(self._address) as session:
                await self._list_tools(session)
                starting.reschedule(None)
                self._enter(session)
                was_ready = True
                try:
                    await self._keep(session)
                finally:
                    self._leave(session)  # now, since closing the transport takes a while if the server hangs
                left.set()
                await session.pending.idle.wait()
        except (Exception, asyncio.CancelledError) as error:
            # The transport's own cancellations arrive here too; only ours counts on the task. If it is ended while it
            # starts, the transport raises errors of its own, which no longer matter.
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError from error
            if was_ready and not left.is_set():
                log.warning("MCP server %r was lost (%s). Connecting again.", self.name, self._reason(error))
            elif not left.is_set():
                self._note_down(error)

    async def _keep(self, session: Session) -> None:
        """Stay in the session and listen for news; return when it is to be left.

        Raises:
            UnansweredError: it has ended.
        """
        while not session.over.is_set():
            if await is_set(session.news, IDLE_PING):
                session.news.clear()
                if not session.over.is_set():
                    await self._list_again(session)
                    await is_set(session.over, LIST_PAUSE)
            elif await self._is_away(session):
                return
        if session.ended.is_set():
            raise lost()

    async def _is_away(self, session: Session) -> bool:
        """Whether an idle HTTP server has gone; the end of a process is noticed at once."""
        asks = isinstance(self._address, HttpAddress) and not len(session.pending)
        return asks and not await session.is_there(PING_TIMEOUT)

    async def _list_again(self, session: Session) -> None:
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._list_tools(session)
        except (McpError, UnansweredError, TimeoutError) as error:
            log.warning("MCP server %r does not say which tools it has now (%s).", self.name, self._reason(error))
            return
        self._note_ready()

    async def _list_tools(self, session: Session) -> None:
        described = await session.list_all_tools()
        self.tools, left_out = tools_from(described, self.spec.tools, self.call_tool, [*self._address.secrets()])
        self._descriptions.note(self.tools)
        for name in left_out.keys() - self._left_out.keys():
            log.warning("MCP server %r: the tool %r is left out: %s.", self.name, name, left_out[name])
        self._left_out = left_out
        self.known_names = [tool.own_name for tool in self.tools]

    def _enter(self, session: Session) -> None:
        self._current = session
        self._ready.set()
        self._note_ready()
        log.info("MCP server %r is ready with %d tools.", self.name, len(self.tools))

    def _leave(self, session: Session) -> None:
        """Let no call into this session any more."""
        if self._current is session:
            self._current = None
            self._ready.clear()
            self._known.clear()
            self.health = ServerHealth(tools=len(self.tools))
        session.retire()

    def _note_ready(self) -> None:
        words = "; ".join(f"the tool {name!r} is left out: {why}" for name, why in self._left_out.items())
        self._note(ServerHealth(state="ready", tools=len(self.tools), error=words or None))

    def _note_down(self, error: BaseException) -> None:
        """Say once per outage, in one line, that the server is away."""
        words = self._reason(error)
        if self.health.state != "down":
            log.warning(
                "MCP server %r cannot be reached (%s). Going on without its tools, trying again.", self.name, words
            )
        self.tools = ()
        self._note(ServerHealth(state="down", error=words))

    def _note(self, health: ServerHealth) -> None:
        self.health = health
        self.first_known.set()
        self._known.set()
        self._on_change()

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._start_timeout:g} s"
        return reason(error, self._address.secrets())

    def _was_ready_for_long(self, began: float) -> bool:
        return self.health.state != "down" and asyncio.get_running_loop().time() - began > STABLE
