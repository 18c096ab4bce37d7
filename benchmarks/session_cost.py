"""What a session costs as it grows: `make bench`.

One session takes 200 turns of a 200-byte question, a 1 kB tool result and a 600-byte answer. The CPU time of a turn is
compared with that of the same prompt answered beside any session, so that what remains is the session's own share.
The model endpoint is a process of its own; all figures are of one run, and only their ratios mean anything.
"""

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

from langchain_core.messages import AnyMessage, HumanMessage

from graph.assembly import Assembly, open_agents
from graph.event_queue import EventQueue
from graph.run import Position
from graph.state import OUR_AGENT, TurnContext
from server.messages.convert import unpaired
from server.sessions.index import SessionIndex, open_index
from server.sessions.leases import Leases
from server.sessions.limits import SessionLimits
from server.sessions.naming import Session
from server.sessions.runs import Work
from server.sessions.transcript import Transcript
from server.sessions.turn import Turn
from server.sessions.turn_request import TurnRequest
from server.settings import ServerSettings
from tests.support.loopback import served
from tests.support.upstream import Answer, Call, Json, Upstream

SESSION = Session("", "benchmark")
TURNS, EARLY, SAMPLES = 200, 5, 10
QUESTION, RESULT, ANSWER = "z" * 200, "x" * 1000, "y" * 600
PROJECT = Path(__file__).parents[1]


def main() -> None:
    """Print the ratios."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    upstream = context.Process(target=serve_upstream, args=[theirs])
    upstream.start()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        asyncio.run(measure(ours.recv()))
        os.chdir(PROJECT)
    ours.send("done")
    upstream.join()


def serve_upstream(pipe: Connection) -> None:
    """Be a model that calls a tool for every question."""
    upstream = Upstream()

    def reply(request: Json) -> Answer:
        if request["messages"][-1]["role"] == "user":
            return Answer(calls=[Call("echo", json.dumps({"text": RESULT}))])
        return Answer([ANSWER])

    upstream.otherwise = reply
    with served(upstream.app) as url:
        pipe.send(f"{url}/v1")
        pipe.recv()


def echo_server() -> Path:
    """Write down how to start a tool that gives back what it gets."""
    arguments = ["-m", "tests.support.mcp_servers", "stdio", "calls"]
    server = {"command": sys.executable, "args": arguments, "env": {"PYTHONPATH": str(PROJECT)}}
    path = Path("mcp.json")
    path.write_text(json.dumps({"mcpServers": {"echo": server}}))
    return path


async def measure(url: str) -> None:
    """Let a session grow and compare its early turns with its late ones."""
    settings = ServerSettings(ollama_model="m", ollama_base_url=url, mcp_config=echo_server())
    async with open_agents(settings) as assembly:
        while assembly.toolbox.health()["echo"].state == "starting":  # noqa: ASYNC110 - once, before anything is measured
            await asyncio.sleep(0.05)
        index = await open_index(assembly.checkpointer, Leases(session_wait=1))
        turn, plain = Stored(assembly, index), Plain(assembly)
        costs = [await cpu(turn.take) for _ in range(TURNS + SAMPLES // 2)]
        thread = await turn.messages()
        early = min(costs[EARLY - 1 : EARLY - 1 + SAMPLES])
        late = min(costs[-SAMPLES:])
        prompts = [await plain.cost(thread[: 4 * turns]) for turns in (EARLY + SAMPLES // 2, TURNS)]
        net = late - (prompts[1] - prompts[0])
        print(f"turn {TURNS} : turn {EARLY}                              {late / early:.2f}")
        print(f"the same prompts without a session              {prompts[1] / prompts[0]:.2f}")
        print(f"turn {TURNS} : turn {EARLY}, net of the longer prompt    {net / early:.2f}  (at most 2)")
        said = [message for message in thread if message.type in ("human", "ai") and message.content]
        transcripts = [Transcript.of([*said[: 2 * turns], HumanMessage("next")]) for turns in (EARLY, TURNS)]
        short, long = [await looked_up(assembly, index, transcript) for transcript in transcripts]
        print(f"look-up of turn {TURNS} : of turn {EARLY}                  {long / short:.2f}")


class Stored:
    """The turns of one session whose client sends only what is new."""

    def __init__(self, assembly: Assembly, index: SessionIndex) -> None:
        self._assembly, self._index = assembly, index

    async def take(self) -> None:
        """Take one turn."""
        question = HumanMessage(QUESTION, id=str(uuid4()))
        asked = TurnRequest(
            session=SESSION,
            mode="append",
            messages=[question],
            context=TurnContext(),
            refuse=partial(unpaired, [question]),
            quota=None,
        )
        await exhaust(Turn(asked, self._assembly, self._index, SessionLimits(10_000, 10**9)).run)

    async def messages(self) -> list[AnyMessage]:
        """Return the whole thread."""
        return await self._assembly.agents[OUR_AGENT].read(Position(SESSION.thread_id))


class Plain:
    """The same without a session."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    async def cost(self, thread: list[AnyMessage]) -> float:
        """Return the CPU seconds of a turn after these messages."""

        async def take() -> None:
            agent = self._assembly.agents[OUR_AGENT]
            await exhaust(partial(agent.run, [*thread, HumanMessage(QUESTION)], TurnContext()))

        return min([await cpu(take) for _ in range(SAMPLES)])


async def looked_up(assembly: Assembly, index: SessionIndex, transcript: Transcript) -> float:
    """Return the CPU seconds that it takes to find where a conversation goes on."""

    async def find() -> None:
        assert (await index.find(SESSION, transcript, "auto", OUR_AGENT, assembly.checkpointer)).step.after

    return min([await cpu(find) for _ in range(100)])


async def cpu(work: Callable[[], Awaitable[None]]) -> float:
    """Return the CPU seconds that this process needs for the work."""
    start = time.process_time()
    await work()
    return time.process_time() - start


async def exhaust(work: Work) -> None:
    """Run to the end, with a reader."""
    queue = EventQueue()
    run = asyncio.create_task(work(queue))
    run.add_done_callback(lambda _: queue.close())
    while await queue.take():
        pass
    await run


if __name__ == "__main__":
    main()
