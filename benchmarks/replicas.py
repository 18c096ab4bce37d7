"""What a turn costs on PostgreSQL beside one on SQLite, and what a second process adds: `make bench-replicas`.

All run in turn, for several rounds, on the same two cores, with the model endpoint and the clients; PostgreSQL syncs
each commit to the disk, as SQLite does.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Load, put_on
from benchmarks.servers import Running, endpoint, serving
from tests.support.postgres import running_postgres

TURNS = Load("not streamed, 8 at once, a new session each", at_once=8, requests=400, tokens=20, streamed=False)
SQLITE, ONE, TWO = "SQLite", "PostgreSQL", "PostgreSQL, two processes"


@dataclass(frozen=True)
class Measured:
    """Turns: the CPU milliseconds of the server's processes for each, and how many there were in a second."""

    cpu: float
    rate: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoint() as url,
        running_postgres(keeps=True) as database,
        ExitStack() as stack,
    ):

        def server(name: str, **settings: str) -> Running:
            place = Path(folder, name)
            place.mkdir()
            return stack.enter_context(serving("chat-agent", url, place, USE_MCP_TOOLS="false", **settings))

        shared = {"CHECKPOINT_URL": database.new_database()}
        first, second = server("first", **shared), server("second", **shared)
        kinds = {SQLITE: [server("sqlite")], ONE: [first], TWO: [first, second]}
        for servers in kinds.values():
            measured(servers)  # what is done once is done
        found = [{kind: measured(servers) for kind, servers in kinds.items()} for _ in range(rounds)]
    print(*table(found), sep="\n")


def measured(servers: Sequence[Running]) -> Measured:
    """Put turns on servers, which share them."""
    before, began = sum(server.cpu() for server in servers), time.monotonic()

    async def put() -> None:
        await asyncio.gather(*(put_on(TURNS, server.port) for server in servers))

    asyncio.run(put())
    turns = TURNS.requests * len(servers)
    spent = sum(server.cpu() for server in servers) - before
    return Measured(1000 * spent / turns, turns / (time.monotonic() - began))


def table(rounds: Sequence[Mapping[str, Measured]]) -> Sequence[str]:
    """Return the lines of the table: medians over the rounds, ratios to the line that a bar names."""
    lines = ["| | CPU of a turn | turns per second | |", "|---|---|---|---|"]
    cost = median(found[ONE].cpu / found[SQLITE].cpu for found in rounds)
    gain = median(found[TWO].rate / found[ONE].rate for found in rounds)
    notes = {SQLITE: "", ONE: f"{cost:.2f} of SQLite's CPU (bar 1.5)", TWO: f"{gain:.2f} of one's turns (bar 1.6)"}
    for kind, note in notes.items():
        cpu, rate = median(found[kind].cpu for found in rounds), median(found[kind].rate for found in rounds)
        lines.append(f"| {kind} | {cpu:.2f} ms | {rate:.0f} | {note} |")
    return lines


if __name__ == "__main__":
    main()
