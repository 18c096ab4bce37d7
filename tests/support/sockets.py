"""The Responses API over a WebSocket, with a bare client."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.agent_server import MODEL, AgentServer
from tests.support.upstream import Json

TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")


@contextmanager
def connected(server: AgentServer, **headers: str) -> Iterator[ClientConnection]:
    url = server.url.replace("http", "ws", 1)
    with connect(f"{url}/v1/responses", additional_headers=headers, proxy=None) as socket:
        yield socket


def ask(socket: ClientConnection, **fields: Any) -> list[Json]:
    """Ask for a response, and return all events of its answer."""
    socket.send(json.dumps({"type": "response.create", "model": MODEL, **fields}))
    return answer(socket)


def answer(socket: ClientConnection) -> list[Json]:
    """Return the events of the next answer."""
    events: list[Json] = []
    while not events or events[-1]["type"] not in TERMINAL:
        events.append(json.loads(socket.recv(timeout=10)))
    return events


def said(events: list[Json]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
