"""Connections that are made to cost: without a key, and without a whole request."""

import resource
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.app import create_app
from server.http.http1 import HttpProtocol
from server.settings import ServerSettings
from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.command import Serving, serving, without_tools
from tests.support.health import responsive
from tests.support.loopback import served
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MEBIBYTE = 2**20
READERS = 60


def memory_of(process_id: int) -> float:
    """Return the resident memory of a process, in MiB."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * resource.getpagesize() / MEBIBYTE


def connected(server: AgentServer) -> socket.socket:
    address = httpx.URL(server.url)
    return socket.create_connection((address.host, address.port or 0), timeout=20)


def answer_to(server: AgentServer, sent: Sequence[bytes]) -> bytes:
    """Send until it is over, and return what comes back; a reset is part of it."""
    received = b""
    with connected(server) as client:
        try:
            for piece in sent:
                client.sendall(piece)
            while piece := client.recv(2**16):
                received += piece
        except (ConnectionError, TimeoutError):
            pass
    return received


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, AgentServer]]:
    database = f"sqlite:///{tmp_path_factory.mktemp('attacked') / 'agent.db'}"
    settings = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1", "CHECKPOINT_URL": database}
    with serving("serve", **settings, USE_MCP_TOOLS="false", API_KEYS="key") as (command, server):
        yield command, server


ENDLESS: dict[str, Sequence[bytes]] = {
    "a header line of 300 MB": [HEAD + b"X: ", *[b"x" * MEBIBYTE] * 300],
    "two million headers": [HEAD, *[b"X: y\r\n" * 10_000] * 200],
    "a path of 300 MB": [b"GET /", *[b"x" * MEBIBYTE] * 300],
    "trailers of 300 MB": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ", *[b"x" * MEBIBYTE] * 300],
    "an extension of a chunk of 300 MB": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;x=", *[b"x" * MEBIBYTE] * 300],
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_no_body_is_bounded(attacked: tuple[Serving, AgentServer], kind: str) -> None:
    command, server = attacked
    before = memory_of(command.process.pid)
    with responsive(server):
        answer_to(server, ENDLESS[kind])
    assert memory_of(command.process.pid) < before + 30


def test_headers_that_are_too_large_are_said_to_be(attacked: tuple[Serving, AgentServer]) -> None:
    _, server = attacked
    for lines in (b"X: " + b"x" * 70_000, b"\r\n".join([b"X: y"] * 20_000)):
        answer = answer_to(server, [HEAD + lines + b"\r\n\r\n"])
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code": "headers_too_large"' in answer
    assert httpx.get(f"{server.url}/health", headers={"X": "x" * 60_000}).status_code == 200


def test_what_is_no_request_gets_the_envelope(attacked: tuple[Serving, AgentServer]) -> None:
    answer = answer_to(attacked[1], [b"nonsense\r\n\r\n"])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "invalid_http"' in answer


class Impatient(HttpProtocol):
    """Our protocol, which waits for half a second only."""

    headers_timeout = body_timeout = 0.5


@pytest.fixture
def impatient(upstream_url: str) -> Iterator[AgentServer]:
    """A server that waits for a request for half a second."""
    settings = ServerSettings(ollama_model=MODEL, ollama_base_url=upstream_url, use_mcp_tools=False)
    with served(create_app(settings), http=Impatient) as url:
        yield AgentServer(url)


def dripping(server: AgentServer, first: bytes, drop: bytes) -> tuple[float, bytes]:
    """Send a drop every now and then, and return when the connection was closed, and what had come back."""
    began, received = time.monotonic(), b""
    with connected(server) as client:
        client.sendall(first)
        client.settimeout(0.1)
        while time.monotonic() - began < 10:
            try:
                piece = client.recv(2**16)
                received += piece
                if not piece:
                    break
            except TimeoutError:
                client.sendall(drop)
            except ConnectionError:
                break
    return time.monotonic() - began, received


def test_a_request_that_comes_too_slowly_is_ended(impatient: AgentServer) -> None:
    for first, drop, status in (
        (b"", b"", None),
        (b"\r\n", b"", None),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n", b"", b"200"),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n", b"408"),
        (HEAD + b"Content-Length: 100\r\n\r\n", b" ", b"408"),
        (HEAD + b"Content-Length: 100\r\n\r\n", b"", b"408"),
    ):
        seconds, received = dripping(impatient, first, drop)
        assert 0.4 < seconds < (7 if status == b"200" else 3), "behind an answer uvicorn waits for five seconds"
        assert received.split(b" ")[1:2] == ([status] if status else [])


def test_a_slow_request_that_comes_fast_enough_is_answered(impatient: AgentServer) -> None:
    body = b'{"model": "test-model", "messages": [{"role": "user", "content": "' + b"x" * 5_000 + b'"}]}'
    with connected(impatient) as client:
        client.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 500):
            client.sendall(body[start : start + 500])
            time.sleep(0.1)  # a slow line, which takes twice as long as one that sends nothing would be given
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 ")


def test_an_answer_may_take_longer_than_a_request(impatient: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["a", "b", "c", "d"], pause=0.4))
    assert impatient.ask("hello") == "abcd"


def test_idle_connections_leave_room_for_others(upstream_url: str) -> None:
    settings = without_tools(upstream_url)
    limited = ("-c", "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
               "runpy.run_module('server', run_name='__main__', alter_sys=True)")  # fmt: skip
    with serving("serve", program=limited, **settings) as (command, server), ExitStack() as idle:
        for _ in range(60):
            idle.enter_context(connected(server))
        assert server.ask("hello") == "You said: hello"
        for _ in range(240):
            idle.enter_context(connected(server))
        refused = httpx.post(f"{server.url}/v1/chat/completions", json={"model": MODEL, "messages": [HELLO]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_connections")
        assert refused.headers["Retry-After"] == "1"
        assert command.output.count("further ones get 503") == 1
        idle.close()
        until(lambda: server.post({"model": MODEL, "messages": [HELLO]}).status_code == 200)


def test_readers_that_take_nothing_fill_no_memory(upstream: Upstream, upstream_url: str) -> None:
    upstream.otherwise = lambda _: Answer(["x" * 10_000] * 400, hold=True)
    settings = without_tools(upstream_url)
    body = b'{"model": "test-model", "stream": true, "messages": [{"role": "user", "content": "x"}]}'
    with serving("serve", **settings) as (command, server), ExitStack() as readers:
        upstream.script(Answer(["x"]))
        server.ask("hello")
        before = memory_of(command.process.pid)
        address = httpx.URL(server.url)
        for _ in range(READERS):
            reader = readers.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((address.host, address.port or 0))
            reader.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: upstream.streaming == READERS, within=30)
        grown: list[Any] = []

        def is_settled() -> bool:
            grown.append(memory_of(command.process.pid) - before)
            time.sleep(0.5)
            return len(grown) > 4 and grown[-1] - grown[-4] < 1

        until(is_settled, within=30)
        assert grown[-1] < READERS * 2, "for each what is on its way, not all that the model says"
