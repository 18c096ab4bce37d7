"""A model endpoint for the benchmarks: prepared bytes over plain sockets, so that its own cost is next to nothing.

A request's messages say how the answer comes: `tokens=100 every=0.02` is 100 tokens, one every 20 ms.
"""

import asyncio
import json
import re
import sys
from functools import cache
from typing import Any

ASKED = re.compile(rb"tokens=(\d+) every=([\d.]+)")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
MODEL = "benchmark"

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def main() -> None:
    """Serve on a free port, print it, and stop when standard input closes."""
    asyncio.run(serve())


async def serve() -> None:
    """Answer until standard input closes."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if head.startswith(b"GET"):
                writer.write(MODELS)
            elif b'"stream":true' in body or b'"stream": true' in body:
                await stream(body, writer)
            else:
                tokens, _ = asked(body)
                writer.write(as_json(completion(tokens)))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def stream(body: bytes, writer: asyncio.StreamWriter) -> None:
    """Write an answer token by token, each in a packet of its own."""
    tokens, pause = asked(body)
    writer.write(HEAD + FIRST)
    for number in range(tokens):
        writer.write(next_chunk(number))
        await asyncio.sleep(pause)
    writer.write(LAST + END)


@cache
def text_of(tokens: int) -> str:
    """Return the text of an answer of so many tokens; the text of each token is its number."""
    return "".join(map(token, range(tokens)))


def token(number: int) -> str:
    """Return the text of a token: its number in five digits, and a space."""
    return f"{number:05d} "


@cache
def next_chunk(number: int) -> bytes:
    """Return the event of a token, made once."""
    return chunk(choices=[delta(content=token(number))])


def asked(body: bytes) -> tuple[int, float]:
    """Return how many tokens the newest question asks for, and the seconds between two."""
    tokens, pause = ASKED.findall(body)[-1]
    return int(tokens), float(pause)


def completion(tokens: int) -> dict[str, Any]:
    """Return a whole answer."""
    message = {"role": "assistant", "content": text_of(tokens)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**OBJECT, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def chunk(**more: Any) -> bytes:
    """Return an event, in the framing of a chunked body."""
    event = f"data: {json.dumps({**OBJECT, 'object': 'chat.completion.chunk', **more})}\n\n".encode()
    return framed(event)


def delta(finish_reason: str | None = None, **said: str) -> dict[str, Any]:
    """Return the choice of a chunk."""
    return {"index": 0, "delta": said, "finish_reason": finish_reason}


def framed(data: bytes) -> bytes:
    """Return one piece of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def as_json(body: Any) -> bytes:
    """Return a whole HTTP response."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


OBJECT = {"id": "chatcmpl-benchmark", "created": 1, "model": MODEL}
USAGE = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
MODELS = as_json({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "us"}]})
FIRST = chunk(choices=[delta(role="assistant", content="")])
LAST = chunk(choices=[delta("stop")]) + chunk(choices=[], usage=USAGE) + framed(b"data: [DONE]\n\n")

if __name__ == "__main__":
    main()
