"""A TCP proxy whose line to a server is as bad as a test wants."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Fault = Literal["none", "down", "reset", "black hole", "drip"]


@dataclass
class FaultyLine:
    """The way to a port of this machine.

    `down` takes no connections, `reset` breaks those there are, a `black hole` swallows all that is sent, and `drip`
    lets single bytes through; `latency` is in seconds, and after `cut_after` bytes of an answer its connection breaks.
    """

    target: int
    fault: Fault = "none"
    latency: float = 0.0
    cut_after: int | None = None
    port: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def set(self, fault: Fault) -> None:
        """Let the line have a fault; those that have a connection meet it too."""
        self.fault = fault
        if fault in ("down", "reset") and self._loop:
            self._loop.call_soon_threadsafe(self._break_all)
        if fault == "reset":
            self.fault = "none"

    def _break_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Pass on what comes, until told to stop."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        self._break_all()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.fault == "down":
                writer.transport.abort()
                return
            upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(to_upstream)
            ways = (self._pass(reader, to_upstream, None), self._pass(upstream, writer, self.cut_after))
            await asyncio.gather(*ways)
        except OSError:
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut_after: int | None) -> None:
        passed = 0
        with suppress(ConnectionError):
            while data := await reader.read(1 if self.fault == "drip" else 2**16):
                await asyncio.sleep(self.latency)
                if self.fault == "black hole":
                    continue
                writer.write(data if cut_after is None else data[: cut_after - passed])
                await writer.drain()
                passed += len(data)
                if cut_after is not None and passed >= cut_after:
                    writer.transport.abort()
                    return
            writer.close()


@contextmanager
def faulty_line(target: int, **faults: object) -> Iterator[FaultyLine]:
    """Run the proxy in a thread of its own."""
    line, ready = FaultyLine(target, **faults), threading.Event()  # type: ignore[arg-type]
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(line.run(ready, stop)))
    thread.start()
    ready.wait(10)
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
