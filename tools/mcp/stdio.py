"""A server as a child process that speaks over its standard input and output.

It is lost when it ends or closes its output, and for no other reason. What it writes to standard error goes to ours,
and its last line there is told when it does not start.
"""

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCRequest

from tools.mcp.lines import CHUNK, lines
from tools.mcp.messages import MAX_ANSWER, readable
from tools.mcp.pending import Pending
from tools.mcp.reasons import lost
from tools.mcp.session import Read, Write
from tools.mcp.spec import StdioAddress
from tools.printed import printable
from tools.tasks import to_the_end

Streams = Sequence[MemoryObjectSendStream[Any] | MemoryObjectReceiveStream[Any]]

# Seconds to end by itself when its input is closed, and then when it is told to.
GRACE, LAST_GRACE = 2.0, 1.0
# Bytes that a process that has ended may still have in its pipes.
DRAIN_TIME = 0.5
# What of a server's standard error is passed on: lines of so many bytes, so many of them in so many seconds.
MAX_ERROR_LINE, ERROR_LINES, ERRORS_EVERY = 2_000, 200, 10.0
NPM, NPM_WORDS = ("npm error", "npm ERR!"), 4


class ProcessEndedError(Exception):
    """The process ended, with its status and its last words."""

    def __init__(self, status: int | None, words: str) -> None:
        ending = "closed its output" if status is None else f"ended with status {status}"
        super().__init__(f"its process {ending}{f': {words}' if words else ''}")


def last_words(lines: Sequence[str]) -> str:
    """Return the line that says why a process ended: the last one, or for npm the first."""
    if not lines or not lines[-1].startswith(NPM):
        return lines[-1] if lines else ""
    return next((line for line in lines if line.startswith(NPM) and len(line.split()) > NPM_WORDS), lines[-1])


class _Pipes(SubprocessStreamProtocol):
    """The pipes of a process, and its end: `Process.wait` would also wait for helpers that hold its pipes."""

    def __init__(self) -> None:
        super().__init__(limit=CHUNK, loop=asyncio.get_running_loop())
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.ended.set()


class ChildProcess:
    """The process of one server."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        self._transport, self._ended = transport, pipes.ended
        self._process = Process(transport, pipes, asyncio.get_running_loop())
        self._errors: deque[str] = deque(maxlen=20)
        self._is_read, self._errors_are_read = asyncio.Event(), asyncio.Event()
        self.has_closed = asyncio.Event()
        """Whether its output is closed, or the process has ended."""

    async def failure(self) -> ProcessEndedError:
        """Return how it ended."""
        with anyio.move_on_after(DRAIN_TIME):
            await self._ended.wait()
            await self._errors_are_read.wait()
        return ProcessEndedError(self._process.returncode, last_words(self._errors))

    async def read(self, received: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Pass on what it writes to its output, until it ends or closes it."""
        assert self._process.stdout
        try:
            async for line in lines(self._process.stdout, MAX_ANSWER):
                for message in readable(line):
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # when the reader is gone
                        await received.send(SessionMessage(message))
        finally:  # a server that is no longer read is lost, too
            self._is_read.set()
            self.has_closed.set()

    async def write(self, sent: MemoryObjectReceiveStream[SessionMessage], pending: Pending) -> None:
        """Write to its input what is sent; what cannot be written fails."""
        assert self._process.stdin
        async for message in sent:
            line = message.message.model_dump_json(by_alias=True, exclude_none=True)
            try:
                self._process.stdin.write(f"{line}\n".encode())
                await self._process.stdin.drain()
            except OSError as error:
                if isinstance(message.message.root, JSONRPCRequest):
                    pending.fail(int(message.message.root.id), lost(error, taken=False))

    async def relay_errors(self) -> None:
        """Pass on what it writes to standard error, within bounds, and remember the last lines."""
        assert self._process.stderr
        now = asyncio.get_running_loop().time
        began, passed, left_out = now(), 0, 0
        async for line in lines(self._process.stderr, MAX_ERROR_LINE):
            text = printable(line.decode(errors="replace").rstrip()[:MAX_ERROR_LINE])
            if text.strip():
                self._errors.append(text.strip())
            if now() - began > ERRORS_EVERY:
                if left_out:
                    _print(f"… and {left_out} more lines of an MCP server.")
                began, passed, left_out = now(), 0, 0
            if passed < ERROR_LINES:
                _print(text)
                passed += 1
            else:
                left_out += 1
        self._errors_are_read.set()

    async def watch(self) -> None:
        """Wait for its end and its last output, but not for ever: a helper process may hold the output open."""
        await self._ended.wait()
        with anyio.move_on_after(DRAIN_TIME):
            await self._is_read.wait()
        self.has_closed.set()

    async def stop(self) -> None:
        """Close its input; if that does not end it, kill it together with its helpers."""
        assert self._process.stdin
        self._process.stdin.close()
        for seconds, how in ((GRACE, signal.SIGTERM), (LAST_GRACE, getattr(signal, "SIGKILL", signal.SIGTERM))):
            with anyio.move_on_after(seconds):
                await self._ended.wait()
                await self._is_read.wait()
                break
            self._signal(how)
        with anyio.move_on_after(LAST_GRACE):
            await self._ended.wait()
        self._transport.close()

    def _signal(self, how: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.send_signal(how)
            else:
                os.killpg(self._process.pid, how)


@asynccontextmanager
async def stdio_streams(address: StdioAddress, pending: Pending) -> AsyncIterator[tuple[Read, Write]]:
    """Start the server and yield the streams to and from it; it has ended when this ends.

    Raises:
        OSError: the command cannot be started.
        ProcessEndedError: it ended.
    """
    child = await _started(address)
    received, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, sent = anyio.create_memory_object_stream[SessionMessage](0)
    streams = (received, read, write, sent)
    work = (child.read(received), child.watch(), child.write(sent, pending), child.relay_errors())
    tasks = [asyncio.create_task(part) for part in (*work, _close_after(child.has_closed, received))]
    try:
        yield read, write
        if child.has_closed.is_set():
            raise await child.failure()
    except Exception as error:
        if child.has_closed.is_set() and not isinstance(error, ProcessEndedError):
            raise await child.failure() from error
        raise
    finally:
        await to_the_end(_end(child, tasks, streams))


async def _end(child: ChildProcess, tasks: Sequence[asyncio.Task[None]], streams: Streams) -> None:
    """Stop the process and the tasks that served it."""
    try:
        await child.stop()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1)
        for stream in streams:
            stream.close()


async def _close_after(closed: asyncio.Event, stream: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    await closed.wait()
    stream.close()


async def _started(address: StdioAddress) -> ChildProcess:
    environment = {**get_default_environment(), **address.env}
    command = shutil.which(address.command, path=environment.get("PATH")) or address.command
    transport, pipes = await asyncio.get_running_loop().subprocess_exec(
        _Pipes,
        command,
        *address.args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        cwd=address.cwd,
        start_new_session=True,
    )
    return ChildProcess(transport, pipes)


def _print(text: str) -> None:
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201
