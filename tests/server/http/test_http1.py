"""HTTP/1.1: requests that offer another protocol are answered as if they did not."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.loopback import served
from tests.support.project import ROOT
from tests.support.upstream import Upstream

JAVA, CURL = shutil.which("java"), shutil.which("curl")
JDK = ROOT / "tests" / "clients" / "Jdk.java"
PATIENCE = 60

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"
WEBSOCKET = "connection: keep-alive, upgrade\r\nupgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
OFFERS = {"none": "", "h2c": H2C, "websocket": WEBSOCKET, "two": "Connection: upgrade\r\nUpgrade: a\r\nUPGRADE: b\r\n"}
CHUNKED = b"3\r\none\r\n4;x=y\r\n two\r\n0\r\n\r\n"


async def echo(request: Request) -> Response:
    """Answer with what came."""
    body = (await request.body()).decode()
    return Response(
        f"{request.method} {request.url.path} {body}", headers={"x-offer": request.headers.get("upgrade", "-")}
    )


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A server that answers with what it was sent."""
    with served(Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])) as url:
        host, port = url.removeprefix("http://").split(":")
        yield host, int(port)


def post(offer: str, body: bytes = b"", length: str = "") -> bytes:
    length = length or f"Content-Length: {len(body)}\r\n"
    return f"POST /p HTTP/1.1\r\nHost: h\r\n{offer}{length}\r\n".encode() + body


GET_AND_CLOSE = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def answers(address: tuple[str, int], *packets: bytes) -> list[str]:
    """Send the packets over one connection, read to its end, and return the bodies of the answers."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for packet in packets:
            connection.sendall(packet)
        received = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert "x-offer: -" in received
    return re.findall(r"\r\n\r\n((?:POST|GET) .*?)(?=HTTP/1.1|\Z)", received, re.DOTALL)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("cut", [1, 40, None, -3], ids=["byte by byte", "in pieces", "whole", "end later"])
def test_c1_an_offer_of_another_protocol_is_passed_over_and_the_body_kept(
    address: tuple[str, int], offer: str, cut: int | None
) -> None:
    sent = (
        post(offer, b'{"a": 1}') + post(offer, CHUNKED, "Transfer-Encoding: chunked\r\n") + post(offer) + GET_AND_CLOSE
    )
    size = len(sent) if cut is None else len(sent) + cut if cut < 0 else cut
    packets = [sent[start : start + size] for start in range(0, len(sent), size)]
    assert answers(address, *packets) == ['POST /p {"a": 1}', "POST /p one two", "POST /p ", "GET /last "]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_c1_a_body_that_waits_for_100_continue_is_asked_for(address: tuple[str, int], offer: str) -> None:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(post(offer, length="Content-Length: 2\r\nExpect: 100-continue\r\n"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"hi" + GET_AND_CLOSE)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"POST /p hi" in received
    assert b"GET /last" in received


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\nHost: host\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\nHost: host\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        post(H2C) + b"nonsense\r\n\r\n",
        post(H2C, b"x", "Content-Length: 1\r\nContent-Length: 2\r\n"),
        post(H2C, b"x\r\n", "Transfer-Encoding: chunked\r\n"),
    ],
    ids=["nonsense", "connect", "connect with an offer", "nonsense after an offer", "two lengths", "no chunk"],
)
def test_c1_what_is_no_request_still_ends_the_connection(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"HTTP/1.1 400" in received


def test_c1_many_requests_with_offers_in_one_packet_are_all_answered(address: tuple[str, int]) -> None:
    sent = post(H2C, b"x") * 500 + GET_AND_CLOSE
    assert answers(address, sent) == ["POST /p x"] * 500 + ["GET /last "]


def asking(text: str, **fields: object) -> str:
    return json.dumps({"model": MODEL, "messages": [{**HELLO, "content": text}], **fields})


@pytest.mark.skipif(JAVA is None, reason="java is not installed")
def test_c1_the_jdk_s_client_is_answered(server: AgentServer) -> None:
    assert JAVA
    bodies = [asking("one"), asking("둘", stream=True), asking("three")]
    command = [JAVA, "-Dfile.encoding=UTF-8", str(JDK), f"{server.url}/v1/chat/completions", *bodies]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=PATIENCE, env=environment, check=True)
    lines = done.stdout.splitlines()
    assert [line.split(" ", 2)[:2] for line in lines] == [["HTTP_1_1", "200"]] * 3
    assert "You said: one" in lines[0]
    assert "둘" in lines[1]
    assert lines[1].endswith("data: [DONE]\\n\\n")
    assert "You said: three" in lines[2]


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("more", [[], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]])
def test_c1_curl_that_offers_http_2_is_answered(server: AgentServer, upstream: Upstream, more: list[str]) -> None:
    assert CURL
    body = asking("hello " * 20_000)
    command = [
        CURL,
        "--silent",
        "--noproxy",
        "*",
        "--http2",
        "-H",
        "Content-Type: application/json",
        "--data",
        "@-",
        *more,
    ]
    done = subprocess.run(
        [*command, f"{server.url}/v1/chat/completions"],
        input=body,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(done.stdout)["choices"][0]["finish_reason"] == "stop"
    assert upstream.last["messages"][-1]["content"] == "hello " * 20_000
