"""Many turns over many sessions: does the memory grow, and does the event loop fall behind? `make soak`.

Linux only. The server is chat-agent with everything on; its sessions are continued by what is new alone.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from benchmarks.load import Load, ask
from benchmarks.servers import Running, endpoint, serving

WARM_UP = 0.1
APPENDED = "\r\nX-Session-Mode: append"
PROBE_PAUSE = 0.02
MAX_GROWTH, MAX_LAG = 0.05, 0.05


@dataclass(frozen=True)
class Soaked:
    """What a soak has shown: the memory's growth after the warm-up, as a share, and the loop's lag in seconds."""

    growth: float
    lag: float
    turns_per_second: float

    def __str__(self) -> str:
        grown, lag = f"memory grew by {self.growth:.1%}", f"p99 of the loop's lag {1000 * self.lag:.0f} ms"
        return f"{grown}, {lag}, {self.turns_per_second:.0f} turns per second"


async def soak(server: Running, turns: int, sessions: int, at_once: int) -> Soaked:
    """Take so many turns, and watch the server meanwhile."""
    load, lags = Load("soak", at_once, turns, 20), list[float]()
    numbers = iter(range(turns))
    warm = 0.0

    async def client() -> None:
        nonlocal warm
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number in numbers:
            await ask(load, reader, writer, f"soak-{number % sessions}", APPENDED)
            if number == int(WARM_UP * turns):
                warm = server.memory()
        writer.close()

    async def probe() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with closing(writer):
            while not done.is_set():
                began = time.perf_counter()
                writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await reader.readuntil(b"healthy")
                await reader.readuntil(b"}")
                lags.append(time.perf_counter() - began)
                await asyncio.sleep(PROBE_PAUSE)

    began, done, probing = time.perf_counter(), asyncio.Event(), asyncio.create_task(probe())
    async with asyncio.TaskGroup() as clients:
        for _ in range(at_once):
            clients.create_task(client())
    done.set()
    await probing
    seconds = time.perf_counter() - began
    return Soaked(server.memory() / warm - 1, quantiles(lags, n=100)[98], turns / seconds)


def main(arguments: list[str] | None = None) -> int:
    """Soak a server, print what it showed, and return 1 if a bound was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoint() as url,
        serving("chat-agent", url, Path(folder)) as server,
    ):
        soaked = asyncio.run(soak(server, options.turns, options.sessions, options.at_once))
    print(f"{options.turns} turns over {options.sessions} sessions: {soaked}")
    return int(soaked.growth > MAX_GROWTH or soaked.lag > MAX_LAG)


if __name__ == "__main__":
    sys.exit(main())
