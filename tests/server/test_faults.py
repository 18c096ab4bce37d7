"""Every fault at every moment of a turn: it has the right end, and the next turn of its session works."""

import asyncio
import json
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.agent_server import MODEL, AgentServer
from tests.support.command import Serving, serving
from tests.support.databases import SQLITE, empty_database, select
from tests.support.faulty_line import FaultyLine, faulty_line
from tests.support.loopback import free_port, served
from tests.support.processes import PythonProcess
from tests.support.upstream import frame
from tests.support.waiting import until

MOMENTS = ("before the first token", "in the text", "in the tool", "between the rounds", "while it is stored")
FAULTS = ("the client leaves", "the endpoint dies", "the tools die", "the server is killed", "the deadline passes")
DEADLINE = 2.0
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "hang", "arguments": "{}"}}
NEXT = "Are you there?"


@dataclass
class Staged:
    """A model that says something, calls a tool, and says the rest; it can be held at each moment."""

    hold_at: str = ""
    held: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[list[dict[str, Any]]] = field(default_factory=list)
    finished: int = 0

    @property
    def app(self) -> Starlette:
        chat = Route("/v1/chat/completions", self._complete, methods=["POST"])
        return Starlette(routes=[chat, Route("/v1/models", lambda _: JSONResponse({"data": [{"id": MODEL}]}))])

    async def _complete(self, request: Request) -> Response:
        messages = (await request.json())["messages"]
        self.asked.append(messages)
        return StreamingResponse(self._say(messages), media_type="text/event-stream")

    async def _say(self, messages: list[dict[str, Any]]) -> AsyncIterator[str]:
        if messages[-1]["content"] == NEXT:
            yield frame({"content": "Yes."})
        elif messages[-1]["role"] == "tool":
            await self.reach("between the rounds")
            yield frame({"content": "the rest"})
        else:
            await self.reach("before the first token")
            yield frame({"content": "Let me see. "})
            await self.reach("in the text")
            tool = "hang" if self.hold_at == "in the tool" else "pid"
            yield frame({"tool_calls": [{**CALL, "function": {"name": tool, "arguments": "{}"}}]})
        yield frame({}, "stop")
        yield "data: [DONE]\n\n"
        self.finished += 1

    async def reach(self, moment: str) -> None:
        """Wait here if the test holds it at this moment."""
        if self.hold_at == moment:
            self.held.set()
            while not self.go_on.is_set():  # noqa: ASYNC110 - it is another thread's
                await asyncio.sleep(0.01)


class Rig:
    """The agent with a model endpoint behind a line that may break, tools in a process, and a database."""

    def __init__(self, folder: Path, database: str, stack: ExitStack, deadline: float) -> None:
        self.model, self._database, self._deadline = Staged(), database, deadline
        url = stack.enter_context(served(self.model.app))
        self.line: FaultyLine = stack.enter_context(faulty_line(int(url.rpartition(":")[2])))
        self._tools_port, self._calls = free_port(), folder / "calls"
        self._calls.touch()
        self.tools = self._start_tools()
        stack.callback(lambda: self.tools.end(signal.SIGKILL))
        self._running: ExitStack = stack.enter_context(ExitStack())
        self.start()

    def start(self) -> None:
        """Start the agent, again on the same database."""
        self.command: Serving
        self.server: AgentServer
        self.command, self.server = self._running.enter_context(
            serving(
                "serve",
                OLLAMA_MODEL=MODEL,
                OLLAMA_BASE_URL=f"http://127.0.0.1:{self.line.port}/v1",
                CHECKPOINT_URL=self._database,
                MCP_BASE_URL=f"http://127.0.0.1:{self._tools_port}/mcp",
                RUN_TIMEOUT=str(self._deadline),
            )
        )
        until(lambda: httpx.get(f"{self.server.url}/ready").json()["mcp"]["mcp"]["state"] == "ready", within=20)

    def _start_tools(self) -> PythonProcess:
        tools = PythonProcess(
            ["-m", "tests.support.mcp_servers", str(self._tools_port), str(self._calls)], self._tools_port
        )
        tools.start()
        return tools

    def is_called(self) -> bool:
        """Whether the tool that hangs has been called."""
        return "hang" in self._calls.read_text()

    def happen(self, fault: str) -> None:
        """Let a fault happen; of those that pass, what it takes to go on."""
        match fault:
            case "the endpoint dies":
                self.line.set("reset")
            case "the tools die":
                self.tools.end(signal.SIGKILL)
                self.tools = self._start_tools()
            case "the server is killed":
                self.command.end(signal.SIGKILL)
            case "the deadline passes":
                time.sleep(self._deadline)

    def locked(self) -> "sqlite3.Connection | psycopg.Connection":
        """Hold a lock that storing needs, as another program may."""
        if self._database != SQLITE:
            connection = psycopg.connect(self._database)
            connection.execute("LOCK TABLE turns IN EXCLUSIVE MODE")
            return connection
        file = sqlite3.connect(SQLITE.removeprefix("sqlite:///"), isolation_level=None)
        file.execute("BEGIN IMMEDIATE")
        return file

    def is_whole(self) -> bool:
        """Whether SQLite finds nothing wrong with the file."""
        return self._database != SQLITE or select(SQLITE, "PRAGMA integrity_check") == [("ok",)]


@dataclass
class Client:
    """A client of one turn, in a thread of its own."""

    server: AgentServer
    stream: bool
    outcome: str = ""
    status: int = 0

    def ask(self) -> None:
        """Ask, and note what comes."""
        body = {"model": MODEL, "stream": self.stream, "messages": [{"role": "user", "content": "tell"}]}
        try:
            with (
                httpx.Client(timeout=30) as self.http,
                self.http.stream(
                    "POST", f"{self.server.url}/v1/chat/completions", json=body, headers={"X-Session-ID": "s"}
                ) as response,
            ):
                self.response, self.status = response, response.status_code
                for text in response.iter_text():
                    self.outcome += text
        except (httpx.HTTPError, OSError, RuntimeError):
            self.outcome += "[broken off]"

    def leave(self) -> None:
        """Close the connection."""
        pool = self.http._transport._pool  # type: ignore[attr-defined]
        for connection in list(pool.connections):
            connection._connection._network_stream._sock.shutdown(2)


def is_paired(messages: list[dict[str, Any]]) -> bool:
    """Whether each call has its result behind it."""
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            waiting.discard(message["tool_call_id"])
        else:
            if waiting:
                return False
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return not waiting


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


CELLS = [
    pytest.param(
        *(moment, fault, kind, stream),
        marks=() if stream and kind == "sqlite" and (row + column) % 5 in (0, 2) else pytest.mark.nightly,
    )
    for row, moment in enumerate(MOMENTS)
    for column, fault in enumerate(FAULTS)
    for kind, stream in (("sqlite", True), ("sqlite", False), ("postgresql", True))
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("moment", "fault", "kind", "stream"), CELLS)
def test_after_every_fault_the_session_goes_on(
    tmp_path: Path, stack: ExitStack, request: pytest.FixtureRequest, moment: str, fault: str, kind: str, stream: bool
) -> None:
    rig = Rig(
        tmp_path, empty_database(request, kind), stack, deadline=DEADLINE if fault == "the deadline passes" else 60
    )
    rig.model.hold_at = moment
    lock = rig.locked() if moment == "while it is stored" else None
    client = Client(rig.server, stream)
    asking = threading.Thread(target=client.ask)
    asking.start()
    match moment:
        case "in the tool":
            until(rig.is_called, within=10)
        case "while it is stored":
            until(lambda: rig.model.finished == 2, within=10)  # the answer is whole, and waits for the lock
        case _:
            assert rig.model.held.wait(20), f"{client.outcome}\n{rig.command.output[-2000:]}"
    if fault == "the client leaves":
        client.leave()
    else:
        rig.happen(fault)
    if fault in ("the tools die", "the endpoint dies"):
        rig.model.go_on.set()
    if (moment, fault) == ("in the tool", "the endpoint dies"):
        rig.happen("the tools die")  # which ends the call that hangs
    if lock:
        lock.rollback()
        lock.close()
    asking.join(30)
    assert not asking.is_alive(), "it has an end"
    rig.model.go_on.set()
    check_outcome(client, moment, fault)
    if fault == "the server is killed":
        rig.start()
    answered = rig.server.ask(NEXT, session="s")
    assert answered == "Yes."
    assert is_paired(rig.model.asked[-1]), "strict endpoints take what the session has become"
    assert rig.is_whole()
    assert "Traceback" not in rig.command.output


def check_outcome(client: Client, moment: str, fault: str) -> None:
    """A client that stays gets the answer or one error, and knows when it is over."""
    if fault in ("the client leaves", "the server is killed"):
        assert "[broken off]" in client.outcome or moment == "while it is stored"
        return
    if client.stream and client.status == 200:
        assert client.outcome.endswith("data: [DONE]\n\n")
        frames = [json.loads(line[6:]) for line in client.outcome.split("\n\n") if line.startswith("data: {")]
        errors = [frame["error"]["code"] for frame in frames if "error" in frame]
    else:
        told = json.loads(client.outcome)
        errors = [told["error"]["code"]] if "error" in told else []
    survives = fault == "the tools die" or moment == "while it is stored"
    if fault == "the deadline passes" and errors:
        assert errors == ["run_timeout"]
    elif fault == "the endpoint dies" and moment not in ("in the tool", "while it is stored"):
        # One that dies before its first byte is asked once more, and holds again, or has gone on.
        assert errors in ([], ["upstream_error"], ["upstream_timeout"])
    elif survives:
        assert errors == []
