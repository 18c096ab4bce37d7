"""Clients that leave: at any moment, of any answer, by any door. The model stops within a quarter of a second."""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.agent_server import MODEL, AgentServer
from tests.support.command import serving_on
from tests.support.databases import empty_database
from tests.support.loopback import served
from tests.support.processors import longest_wait, threads_of, waits
from tests.support.studio import GRAPH, running
from tests.support.upstream import frame
from tests.support.waiting import auntil

BOUND = 0.25
GAPS = (0.0, 0.0003, 0.001, 0.005, 0.02)
LONGEST_STAY = 0.4
CLIENTS, AT_ONCE = 40, 4


class Moment(NamedTuple):
    """A time, and for how long each thread of the server has waited for a processor until then."""

    time: float
    waited: dict[Path, float]

    def since(self, earlier: "Moment") -> float:
        """Return the seconds since another one, without those in which the server had no processor."""
        return self.time - earlier.time - longest_wait(earlier.waited, self.waited)


def waited_by(process_id: int) -> dict[Path, float]:
    return waits(threads_of(process_id))


@dataclass
class Endless:
    """A model that never ends, and notes when it began and stopped, by the question."""

    gap: float = 0.0
    began: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, "Moment"] = field(default_factory=dict)
    asked_by: int = 0
    """The process of the server that asks it."""
    running: int = 0

    @property
    def app(self) -> Starlette:
        chat = Route("/v1/chat/completions", self._complete, methods=["POST"])
        return Starlette(routes=[chat, Route("/v1/models", lambda _: JSONResponse({"data": [{"id": MODEL}]}))])

    async def _complete(self, request: Request) -> Response:
        question = (await request.json())["messages"][-1]["content"]
        return StreamingResponse(self._say(question), media_type="text/event-stream")

    async def _say(self, question: str) -> AsyncIterator[str]:
        self.began.setdefault(question, time.monotonic())
        self.running += 1
        try:
            while True:
                yield frame({"content": "word "})
                await asyncio.sleep(self.gap)
        finally:
            self.stopped[question] = Moment(time.monotonic(), waited_by(self.asked_by))
            self.running -= 1


def openai(question: str, **fields: object) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], **fields}


def langserve(question: str) -> dict[str, Any]:
    return {"input": {"messages": [{"type": "human", "content": question}]}}


DOORS: dict[str, tuple[str, Any]] = {
    "streamed": ("/v1/chat/completions", lambda question: openai(question, stream=True)),
    "whole": ("/v1/chat/completions", openai),
    "three answers": ("/v1/chat/completions", lambda question: openai(question, n=3, stream=True)),
    "invoke": ("/agent/invoke", langserve),
    "stream": ("/agent/stream", langserve),
    "stream_log": ("/agent/stream_log", langserve),
}


# Its runs go on by default, as those of LangGraph's platform do; a client may ask that they stop.
STUDIO_S = ("/runs/stream", lambda question: {**studio(question), "on_disconnect": "cancel", "stream_mode": "updates"})


def studio(question: str) -> dict[str, Any]:
    return {"assistant_id": GRAPH, "input": {"messages": [{"role": "user", "content": question}]}}


@pytest.fixture(scope="module")
def model() -> Endless:
    return Endless()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def server(
    request: pytest.FixtureRequest, model: Endless, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentServer]:
    database = f"sqlite:///{tmp_path_factory.mktemp('leaving') / 'agent.db'}"
    if request.param == "postgresql":
        database = empty_database(request, "postgresql")
    with serving_on(model.app, CHECKPOINT_URL=database) as (_, server):
        yield server


async def visit(server: AgentServer, path: str, body: object, stay: float, session: str | None = None) -> Moment:
    """Ask, stay for so many seconds while reading, and return when the connection was closed."""
    address, content = httpx.URL(server.url), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(address.host, address.port)
    named = f"X-Session-ID: {session}\r\n" if session else ""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{named}"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    try:
        async with asyncio.timeout(stay):
            while await reader.read(2**16):
                pass
    except TimeoutError:
        pass
    left = time.monotonic()
    writer.get_extra_info("socket").shutdown(
        socket.SHUT_RDWR
    )  # now; the transport would do it when its loop comes to it
    gone = Moment(left, waited_by(server.process_id))
    writer.transport.abort()
    return gone


async def all_stopped(model: Endless, questions: dict[str, Moment]) -> list[float]:
    """Wait until nothing is said any more, and return how long questions went on after their clients had left."""
    async with asyncio.timeout(10):
        while model.running:  # noqa: ASYNC110 - it is another thread's
            await asyncio.sleep(0.005)
    return sorted(
        model.stopped[question].since(left) for question, left in questions.items() if question in model.began
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "door",
    [pytest.param(door, marks=() if door in ("streamed", "invoke") else pytest.mark.nightly) for door in DOORS],
)
async def test_clients_that_leave_at_random_moments_stop_the_model(
    server: AgentServer, model: Endless, door: str
) -> None:
    await leave(server, model, door, DOORS[door])


@pytest.mark.nightly
@pytest.mark.timeout(180)
async def test_clients_that_leave_studio_s_server_stop_the_model(model: Endless) -> None:
    with (
        served(model.app) as url,
        running(OLLAMA_MODEL=MODEL, OLLAMA_BASE_URL=f"{url}/v1", USE_MCP_TOOLS="false") as at,
    ):
        await leave(at.server, model, "ours beside it", DOORS["streamed"])
        # Its runs wait in a queue that it looks at once in a second.
        await leave(at.server, model, "its own", STUDIO_S, longest_stay=3.0)


async def leave(
    server: AgentServer, model: Endless, name: str, door: tuple[str, Any], longest_stay: float = LONGEST_STAY
) -> None:
    """Let clients leave at random moments, and see that the model stops."""
    chance, (path, asked) = random.Random(name), door
    left: dict[str, Moment] = {}
    model.asked_by = server.process_id
    places = asyncio.Semaphore(AT_ONCE)

    async def client(number: int) -> None:
        async with places:
            model.gap = GAPS[number * len(GAPS) // CLIENTS]
            question = f"{name} {number}"
            left[question] = await visit(server, path, asked(question), chance.uniform(0.0, longest_stay))

    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(client(number))
    went_on = await all_stopped(model, left)
    assert len(went_on) > CLIENTS / 4, "many have begun"
    assert went_on[-1] <= BOUND


async def test_whoever_leaves_while_waiting_for_a_session_never_asks_the_model(
    server: AgentServer, model: Endless
) -> None:
    model.gap, model.asked_by = 0.005, server.process_id
    path, asked = DOORS["streamed"]
    first = asyncio.create_task(visit(server, path, asked("the first"), 1.5, session="busy"))
    await auntil(lambda: model.running == 1)  # it has the session
    others = [visit(server, path, asked(f"waiting {at}"), 0.3, session="busy") for at in range(20)]
    await asyncio.gather(*others)
    await first
    assert await all_stopped(model, {"the first": first.result()}) <= [BOUND]
    assert not any(question.startswith("waiting") for question in model.began)
    answered = asyncio.create_task(visit(server, path, asked("the last"), 0.3, session="busy"))
    await answered
    assert "the last" in model.began, "the session is free"
    await all_stopped(model, {"the last": answered.result()})


def test_those_who_leave_in_the_middle_of_their_request_ask_nobody(server: AgentServer, model: Endless) -> None:
    address = httpx.URL(server.url)
    begun = len(model.began)
    for cut in (10, 60, 120, 150):
        body = json.dumps(openai("cut")).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with socket.create_connection((address.host, address.port or 0)) as client:
            client.sendall(request[:cut])
    assert httpx.get(f"{server.url}/health").is_success
    assert len(model.began) == begun
