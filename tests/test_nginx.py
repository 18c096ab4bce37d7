"""deploy/nginx.conf under a real nginx, in front of a live agent."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from server.http.event_stream import PING_INTERVAL
from server.settings import ServerSettings
from tests.support.agent_server import MODEL, AgentServer
from tests.support.loopback import free_port, served
from tests.support.project import ROOT
from tests.support.sockets import ask, connected, said
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until

CONFIG = ROOT / "deploy" / "nginx.conf"
# Debian keeps it where only root's PATH looks.
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
PATIENCE = 20
# Our file must hold in whatever http block it is included: in this one, everything is compressed.
AROUND = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    gzip on;
    gzip_types *;
    gzip_proxied any;
    gzip_min_length 1;
    {temp_paths}
    include chat-agent.conf;
}}
"""

PIECES = [f"{number} " for number in range(6)]
PAUSE = 0.2


@dataclass(frozen=True)
class Stream:
    """A streamed answer, and when its first and its last piece arrived."""

    body: bytes
    first: float
    last: float


@contextmanager
def nginx(*backends: str, folder: Path) -> Iterator[str]:
    """Run nginx with our file in front of backends, and yield its URL; all that it writes is in the folder."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    config = CONFIG.read_text()
    for name, value in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:23000 max_fails=0;": "\n    ".join(
            f"server {httpx.URL(backend).netloc.decode()} max_fails=0;" for backend in backends
        ),
    }.items():
        assert config.count(name) == 1
        config = config.replace(name, value)
    (folder / "chat-agent.conf").write_text(config)
    # Started by root, its workers would be somebody who must not enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    # Each build has modules of its own; it names the temporary folders of those that it has.
    version = subprocess.run([NGINX, "-V"], capture_output=True, text=True, check=True).stderr
    temp_paths = [f"{name.replace('-', '_')} {name};" for name in re.findall(r"--http-([a-z-]+-temp-path)=", version)]
    (folder / "nginx.conf").write_text(AROUND.format(user=user, temp_paths="\n    ".join(temp_paths)))
    log = folder / "nginx.log"
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
    with (
        log.open("w") as output,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        try:
            until(lambda: process.poll() is not None or listens(port), within=PATIENCE)
            assert process.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Puts nginx in front of a URL."""
    with ExitStack() as running:
        yield lambda backend: running.enter_context(nginx(backend, folder=tmp_path))


@pytest.fixture
def proxied(server: AgentServer, behind: Callable[[str], str]) -> AgentServer:
    """The agent as it is seen through nginx."""
    return AgentServer(behind(server.url))


def question(text: str = "hello") -> dict[str, object]:
    return {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": text}]}


def read_stream(url: str) -> Stream:
    """Ask as a browser would, which takes compressed answers."""
    body, times = b"", []
    with httpx.stream(
        "POST",
        f"{url}/v1/chat/completions",
        json=question(),
        headers={"Accept-Encoding": "gzip"},
        timeout=PATIENCE,
    ) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in response.headers
        for part in response.iter_raw():
            body += part
            times += [time.monotonic()] * len(re.findall(rb'"content": ?"[^"]', part))
    return Stream(body, times[0], times[-1])


def without_ids(body: bytes) -> bytes:
    """An answer's bytes without what is another in every answer."""
    return re.sub(rb'"(id|created)":("[^"]*"|\d+)', b"", body)


def test_an_answer_goes_through_piece_by_piece(proxied: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(PIECES, pause=PAUSE))
    stream = read_stream(proxied.url)
    assert stream.last - stream.first > PAUSE * len(PIECES) / 2
    assert stream.body.endswith(b"data: [DONE]\n\n")


def test_not_even_a_stream_without_chunks_is_held_back(behind: Callable[[str], str]) -> None:
    """The agent's streams come in chunks, which nginx passes on as they are; of others it would fill a buffer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front = httpx.URL(behind(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        with socket.create_connection((front.host, front.port or 0), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            backend, _ = listener.accept()
            with backend:
                backend.recv(4096)
                backend.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
                for number in range(3):
                    piece = b"data: %d\n\n" % number
                    backend.sendall(piece)
                    received = b""
                    while not received.endswith(piece):
                        received += client.recv(4096) or pytest.fail("nginx closed the connection")


def test_the_bytes_of_a_stream_are_those_that_the_agent_sent(
    server: AgentServer, proxied: AgentServer, upstream: Upstream
) -> None:
    answer = Answer(["안녕", "하세요 ", "\n\ndata: x"], pause=0.02)
    upstream.script(answer, answer)
    direct, through = read_stream(server.url).body, read_stream(proxied.url).body
    assert len(direct) > 500
    assert without_ids(through) == without_ids(direct)


def test_a_client_that_leaves_ends_the_model_s_work(proxied: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["one"], hold=True))
    with httpx.stream("POST", f"{proxied.url}/v1/chat/completions", json=question(), timeout=PATIENCE) as response:
        parts = response.iter_raw()  # held on to: once it is gone, so is the connection
        until(lambda: b"one" in next(parts), within=PATIENCE)
        assert (upstream.streaming, upstream.closed_early) == (1, 0)
    until(lambda: upstream.closed_early == 1, within=2)


def test_a_client_that_leaves_before_the_answer_ends_the_model_s_work(proxied: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(hold=True))
    body = json.dumps(question() | {"stream": False})
    address = httpx.URL(proxied.url)
    with socket.create_connection((address.host, address.port or 0)) as client:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        until(lambda: upstream.streaming == 1, within=PATIENCE)
    until(lambda: upstream.closed_early == 1, within=2)


def test_a_session_is_named_both_ways(proxied: AgentServer, upstream: Upstream) -> None:
    named = proxied.post(question("first"), headers={"X-Session-ID": "mine"})
    assert named.headers["X-Session-ID"] == "mine"
    given = proxied.post(question("second"), headers={"X-Session-ID": "mine"})
    assert given.headers["X-Session-ID"] == "mine"
    assert "first" in [message["content"] for message in upstream.last["messages"]]
    fresh = proxied.post(question("third"))
    assert fresh.headers["X-Session-ID"] not in ("", "mine")


def test_a_body_of_two_megabytes_goes_through(proxied: AgentServer, upstream: Upstream) -> None:
    text = "x" * 2_000_000
    upstream.script(Answer(["Long."]))
    response = proxied.post(question(text))
    assert response.status_code == 200
    assert upstream.last["messages"][-1]["content"] == text


def test_the_agent_hears_how_it_was_asked(behind: Callable[[str], str]) -> None:
    async def headers(request: Request) -> JSONResponse:
        return JSONResponse(dict(request.headers))

    with served(Starlette(routes=[Route("/", headers)])) as url:
        front = behind(url)
        heard = httpx.get(front, headers={"X-Forwarded-For": "203.0.113.7", "Authorization": "Bearer key"}).json()
    assert heard["host"] == httpx.URL(front).netloc.decode()
    assert heard["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
    assert heard["x-forwarded-proto"] == "http"
    assert heard["authorization"] == "Bearer key"


def test_requests_share_a_connection_to_the_agent(behind: Callable[[str], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front = httpx.URL(behind(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        with ExitStack() as connections:
            agent: socket.socket | None = None
            for path in (b"/first", b"/second", b"/third"):
                client = connections.enter_context(socket.create_connection((front.host, front.port or 0), PATIENCE))
                client.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path)
                if agent is None:
                    agent = connections.enter_context(listener.accept()[0])
                    agent.settimeout(PATIENCE)
                request = agent.recv(4096)
                assert request.startswith(b"GET %s HTTP/1.1\r\n" % path)
                assert b"Connection: close" not in request
                agent.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                assert client.makefile("rb").read().endswith(b"ok")


def test_its_patience_fits_the_agent_s() -> None:
    seconds = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)s;", CONFIG.read_text())}
    assert seconds["keepalive_timeout"] < uvicorn.Config("").timeout_keep_alive
    assert seconds["proxy_read_timeout"] > max(PING_INTERVAL, ServerSettings.model_fields["run_timeout"].default)


def test_a_websocket_goes_through(proxied: AgentServer) -> None:
    with connected(proxied) as socket:
        assert said(ask(socket, input="hello")) == "You said: hello"
