"""What a token and a turn cost beside a bare hop: `make bench`.

Each load goes to each server in turn, for several short rounds, so that what else the machine does meets all of them.
What is compared is the CPU time of the server's processes; only ratios to the hop of the same round mean anything.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

from benchmarks.load import Load, put_on
from benchmarks.servers import Running, endpoint, serving

HOP, OURS = "hop", "chat-agent"
PEERS = ["langgraph-openai-serve", "litellm"] if os.environ.get("BENCH_PEERS") else []

PACED = Load("streamed, 64 at once, a token every 20 ms", at_once=64, requests=64, tokens=100, every=0.02)
BURST = Load("streamed, 8 at once, tokens as fast as they come", at_once=8, requests=80, tokens=200)
TURNS = Load("not streamed, 8 at once, a new session each", at_once=8, requests=240, tokens=20, streamed=False)
ALONE = Load("not streamed, one at a time", at_once=1, requests=60, tokens=20, streamed=False)
FIRST = Load("first token, 16 at once", at_once=16, requests=160, tokens=5, every=0.02)

# The most that a load may cost, in multiples of the hop's CPU time.
BARS = {PACED.name: 1.0, BURST.name: 1.0, TURNS.name: 3.5}


@dataclass(frozen=True)
class Measured:
    """A load on a server: CPU seconds, wall seconds, and the latency of each request."""

    cpu: float
    wall: float
    latencies: Sequence[float]


@dataclass(frozen=True)
class Result:
    """What was measured: by load and server, one value for each round; and each server's memory in MiB."""

    rounds: Mapping[str, Mapping[str, Sequence[Measured]]]
    memory: Mapping[str, float]

    def ratio(self, load: str, server: str) -> float:
        """Return the CPU time of a server as a multiple of the hop's: the median of the rounds."""
        pairs = zip(self.rounds[load][server], self.rounds[load][HOP], strict=True)
        return median(theirs.cpu / hop.cpu for theirs, hop in pairs)


def main() -> None:
    """Measure and print the table; with `--json`, write the ratios to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--servers", nargs="+", default=["naive", *PEERS, OURS])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = measure([PACED, BURST, TURNS, ALONE, FIRST], [HOP, *given.servers], rounds=given.rounds)
    print("\n".join(table(result)))
    if given.json:
        ratios = {load: {server: result.ratio(load, server) for server in given.servers} for load in BARS}
        given.json.write_text(json.dumps(ratios, indent=2))


def measure(loads: Sequence[Load], servers: Sequence[str], *, rounds: int) -> Result:
    """Start the servers, let each answer each load once, then measure."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(endpoint())
        running = [stack.enter_context(serving(name, url, folder)) for name in servers]
        for server in running:
            for load in loads:
                asyncio.run(put_on(replace(load, requests=load.at_once), server.port))
        done: dict[str, dict[str, list[Measured]]] = {load.name: {name: [] for name in servers} for load in loads}
        for _ in range(rounds):
            for load in loads:
                for server in running:
                    done[load.name][server.name].append(measured(load, server))
        return Result(done, {server.name: server.memory() for server in running})


def measured(load: Load, server: Running) -> Measured:
    """Put a load on a server."""
    cpu, wall = server.cpu(), time.perf_counter()
    latencies = asyncio.run(put_on(load, server.port))
    return Measured(server.cpu() - cpu, time.perf_counter() - wall, latencies)


def table(result: Result) -> Iterator[str]:
    """Yield the lines of the table."""
    servers = list(result.memory)
    width = max(map(len, servers)) + 2
    yield f"{'CPU time, bare hop = 1':52}" + "".join(f"{server:>{width}}" for server in servers)
    for name, bar in BARS.items():
        cells = "".join(f"{result.ratio(name, server):{width - 1}.2f}x" for server in servers)
        yield f"{name:52}{cells}   at most {bar}x"
    for name, load, value in (
        ("turns per second, 8 at once", TURNS, lambda each: TURNS.requests / each.wall),
        ("one turn alone, ms", ALONE, lambda each: 1000 * median(each.latencies)),
        ("first token, 16 at once, p50 in ms", FIRST, lambda each: 1000 * median(each.latencies)),
        ("first token, 16 at once, p99 in ms", FIRST, lambda each: 1000 * quantiles(each.latencies, n=100)[98]),
    ):
        if load.name in result.rounds:
            cells = "".join(f"{median(map(value, result.rounds[load.name][server])):{width}.1f}" for server in servers)
            yield f"{name:52}{cells}"
    yield f"{'memory at the end, MiB':52}" + "".join(f"{result.memory[server]:{width}.0f}" for server in servers)


if __name__ == "__main__":
    main()
