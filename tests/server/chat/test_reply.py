"""Answers as event streams, where the OpenAI SDK cannot see: at the socket."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message

from graph.event_queue import EventQueue
from graph.model.answer import Said
from server.chat.reply import ChatReply
from server.chat.request import ChatRequest
from server.http.event_stream import EventStream
from server.sessions.leases import Leases
from server.sessions.naming import Session
from server.sessions.reply import RunStream
from server.sessions.runs import RunOwner, Work
from tests.support.loopback import served
from tests.support.waiting import until

BODY = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True})


async def endless(queue: EventQueue) -> None:
    while True:
        await queue.hear("m", Said("x" * 100_000))


async def silent(queue: EventQueue) -> None:
    await queue.hear("m", Said("x"))
    await asyncio.Event().wait()


def stream_of(work: Work) -> RunStream:
    run = RunOwner(Leases(session_wait=1), run_timeout=60).start(Session("", "t"), work)
    return RunStream([run], ChatReply(BODY).encode([run.events()]))


async def answer(_: Request) -> RunStream:
    """An answer without end, to a reader who is given little time."""
    response = stream_of(endless)
    response.send_timeout = 0.3
    return response


async def pause(_: Request) -> RunStream:
    """An answer that comes to a stop, told to a reader whose seconds are hundredths."""
    response = stream_of(silent)
    assert 0 < response.ping_interval <= 15
    response.ping_interval /= 100
    return response


def test_a11_a_silent_stream_is_kept_alive_by_comments() -> None:
    with served(Starlette(routes=[Route("/", pause)])) as url, httpx.stream("GET", url, timeout=5) as response:
        received = ""
        for part in response.iter_text():
            received += part
            if received.count(": ping\n\n") == 3:
                break
    assert received.endswith(": ping\n\n" * 3)


async def test_no_comment_is_sent_while_a_reader_takes_the_end_slowly() -> None:
    sent: list[bytes] = []

    async def frames() -> AsyncGenerator[bytes]:
        yield b"data: x\n\n"

    async def send(message: Message) -> None:
        if message.get("more_body") is None and message["type"] == "http.response.body":
            await asyncio.sleep(0.3)
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    stream = EventStream(frames(), "a stream")
    stream.ping_interval = 0.05
    await stream({}, receive, send)
    await asyncio.sleep(0)
    assert sent == [b"", b"data: x\n\n", b""]


def test_a_reader_who_stalls_is_cut_off_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with served(Starlette(routes=[Route("/", answer)])) as url, caplog.at_level(logging.INFO):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as reader:
            reader.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: caplog.records)
            received = b""
            while part := reader.recv(1 << 20):
                received = received[-10:] + part
    assert not received.endswith(b"0\r\n\r\n"), "an end that looks like one"
    assert [record.getMessage() for record in caplog.records] == [
        f"run of {Session('', 't').thread_id} is cut off: its reader took nothing for 0.3 s."
    ]
