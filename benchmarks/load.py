"""The load of the benchmarks: clients that ask over plain sockets and check every answer."""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from benchmarks.endpoint import MODEL, text_of, token

CHUNK = re.compile(rb"([0-9a-fA-F]+)\r\n")
END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """So many requests, some at once; each is answered with so many tokens, one `every` so many seconds."""

    name: str
    at_once: int
    requests: int
    tokens: int
    every: float = 0.0
    streamed: bool = True

    def body(self) -> bytes:
        """Return the body of a request."""
        question = {"role": "user", "content": f"tokens={self.tokens} every={self.every}"}
        return json.dumps({"model": MODEL, "messages": [question], "stream": self.streamed}).encode()


async def put_on(load: Load, port: int, session: str | None = None) -> list[float]:
    """Put the load on a server; return the seconds until the first token of each answer, or until all of it.

    Each request has a new session, or all have the one that is named.

    Raises:
        AssertionError: an answer is not what the endpoint said.
    """
    left = iter(range(load.requests))
    latencies: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        latencies.extend([await ask(load, reader, writer, session or str(uuid4())) for _ in left])
        writer.close()

    async with asyncio.TaskGroup() as clients:
        for _ in range(load.at_once):
            clients.create_task(client())
    return latencies


async def ask(
    load: Load, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: str, more_headers: str = ""
) -> float:
    """Ask, check the answer, and return the seconds until it began."""
    body = load.body()
    headers = f"Host: localhost\r\nContent-Type: application/json\r\nX-Session-ID: {session}{more_headers}"
    headers += f"\r\nContent-Length: {len(body)}"
    began = time.perf_counter()
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(1000)
    first = None
    if b"ontent-length" in head or b"ontent-Length" in head:
        length = re.search(rb"ontent-[lL]ength: *(\d+)", head)
        assert length
        answer = await reader.readexactly(int(length[1]))
    else:
        raw = bytearray()
        while not raw.endswith(END_OF_CHUNKS):
            raw += await reader.read(1 << 16)
            if first is None and token(0).strip().encode() in raw:
                first = time.perf_counter() - began
        answer = unchunked(bytes(raw))
    latency = first or time.perf_counter() - began
    said = text_of_stream(answer) if load.streamed else json.loads(answer)["choices"][0]["message"]["content"]
    assert said == text_of(load.tokens), f"{len(said)} characters, or others, in place of {len(text_of(load.tokens))}"
    return latency


def unchunked(raw: bytes) -> bytes:
    """Return a body without the framing of chunks."""
    parts, at = [], 0
    while (size := CHUNK.match(raw, at)) and (length := int(size[1], 16)):
        parts.append(raw[size.end() : size.end() + length])
        at = size.end() + length + 2
    return b"".join(parts)


def text_of_stream(body: bytes) -> str:
    """Return what the events of a stream say."""
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1].strip() == "[DONE]", lines[-1]
    events: list[Any] = [json.loads(line) for line in lines[:-1]]
    assert not any("error" in event for event in events), events[-1]
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)
