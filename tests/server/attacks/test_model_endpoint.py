"""A model endpoint that sends what no endpoint should: too much, packed, malformed, or somebody else's address."""

import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.command import Serving, serving_on
from tests.support.health import responsive

MEGABYTE = b"x" * 1_000_000


@dataclass
class Hostile:
    """An endpoint that answers as the test says, and what it was asked."""

    answer: Callable[[Request], Response] = field(default=lambda _: Response(status_code=500))
    asked: int = 0

    @property
    def app(self) -> Starlette:
        chat = Route("/v1/chat/completions", self._complete, methods=["GET", "POST"])
        models = Route("/v1/models", lambda _: JSONResponse({"data": [{"id": MODEL}]}))
        return Starlette(routes=[chat, models])

    async def _complete(self, request: Request) -> Response:
        self.asked += 1
        return self.answer(request)


def event(delta: object, **fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, **fields}]}).encode() + b"\n\n"


END = event({}, finish_reason="stop") + b"data: [DONE]\n\n"


def stream(*pieces: bytes, times: int = 1, end: bytes = END) -> Callable[[Request], Response]:
    """Answer with these bytes, so many times, and the end of a stream."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(times):
            for piece in pieces:
                yield piece
        yield end

    return lambda _: StreamingResponse(body(), media_type="text/event-stream")


def calls(count: int, arguments: str = "{}") -> bytes:
    made = [
        {"index": at, "id": f"c{at}", "type": "function", "function": {"name": "t", "arguments": arguments}}
        for at in range(count)
    ]
    return event({"tool_calls": made})


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.fixture(scope="module")
def hostile() -> Hostile:
    return Hostile()


@pytest.fixture(scope="module")
def attacked(hostile: Hostile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, AgentServer]]:
    database = f"sqlite:///{tmp_path_factory.mktemp('attacked') / 'agent.db'}"
    with serving_on(hostile.app, CHECKPOINT_URL=database) as serving:
        yield serving


def outcome(server: AgentServer, streamed: bool, session: str) -> tuple[str | None, str | None, str]:
    """Ask, and return the message of the error, the finish reason and the text."""
    body = {"model": MODEL, "messages": [HELLO], "stream": streamed}
    response = server.post(body, headers={"X-Session-ID": session})
    if not streamed or response.status_code != 200:
        told = response.json()
        if response.status_code != 200:
            assert response.status_code in (400, 502), response.text[:500]
            return told["error"]["message"], None, ""
        choice = told["choices"][0]
        return None, choice["finish_reason"], choice["message"]["content"] or ""
    frames = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert frames.pop() == "[DONE]"
    chunks: list[Any] = [json.loads(one) for one in frames]
    error = next((chunk["error"]["message"] for chunk in chunks if "error" in chunk), None)
    choices = [choice for chunk in chunks if "error" not in chunk for choice in chunk["choices"]]
    finish = next((choice["finish_reason"] for choice in choices if choice["finish_reason"]), None)
    return error, finish, "".join(choice["delta"].get("content") or "" for choice in choices)


REFUSED: dict[str, tuple[Callable[[Request], Response], str]] = {
    "a line of 50 MB": (stream(b"data: ", *[MEGABYTE] * 50), "more than 1048576 bytes"),
    "an event of 50 MB in short lines": (stream(b"data: " + b"x" * 1000 + b"\n", times=50_000), "more than 1048576"),
    "one delta of 20 MB": (stream(event({"content": "x" * 20_000_000})), "more than 1048576 bytes"),
    "a completion of 20 MB": (
        lambda _: JSONResponse({"choices": [{"message": {"content": "x" * 20_000_000}, "finish_reason": "stop"}]}),
        "more than 6291456 bytes",
    ),
    "40 MB packed into 40 kB": (
        lambda _: Response(
            gzip.compress(event({"content": "x" * 1000}) * 38_000),
            media_type="text/event-stream",
            headers={"Content-Encoding": "gzip"},
        ),
        "packed its answer ('gzip'), unasked",
    ),
    "an error of 100 MB": (
        lambda _: Response(MEGABYTE * 100, 400, media_type="text/plain"),
        "refused the request: xxx",
    ),
    "another error of 100 MB": (lambda _: Response(MEGABYTE * 100, 500), "answered with status 500"),
    "5,000 calls": (stream(calls(5000)), "more than 128 tools at once"),
    "5,000 calls one by one": (stream(*[calls(at + 1)[:-2] + b"\n\n" for at in (0, 200)]), "more than 128 tools"),
    "arguments of 2 MB": (stream(*[calls(1, "x" * 500_000)] * 4), "arguments of tool calls of more than 1048576"),
    "no JSON": (stream(b"data: {nothing}\n\n"), "no JSON"),
    "a redirect to somebody else": (
        lambda _: RedirectResponse("http://127.0.0.1:1/v1/chat/completions"),
        "It redirects",
    ),
    "a redirect in a circle": (lambda request: RedirectResponse(request.url), "cannot be reached"),
}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", REFUSED)
def test_too_much_is_a_failure_of_the_endpoint(
    hostile: Hostile, attacked: tuple[Serving, AgentServer], kind: str, streamed: bool
) -> None:
    command, server = attacked
    hostile.answer, told = REFUSED[kind]
    hostile.asked = 0
    logged = len(command.output)
    session = f"{kind}-{streamed}".replace(" ", "-").replace(",", "")
    with responsive(server):
        message, _, _ = outcome(server, streamed, session)
    assert message is not None
    assert told in message
    assert hostile.asked <= 8
    assert "Traceback" not in command.output[logged:]
    hostile.answer = stream(event({"content": "Hello."}))
    assert outcome(server, streamed, session) == (None, "stop", "Hello."), "the session goes on"


EMPTY: tuple[Any, ...] = ([], [[]], {}, 5, "x", None)
ODD: dict[str, tuple[bytes, str]] = {
    "bad UTF-8": (b'data: {"choices":[{"delta":{"content":"a\xff\xfeb"}}]}\n\n', "a��b"),
    "odd types": (
        b"".join(
            b"data: " + json.dumps(odd).encode() + b"\n\n"
            for odd in (
                *EMPTY,
                {"choices": "x"},
                {"choices": [5]},
                {"choices": [{"delta": 5}]},
                {"choices": [{"delta": {"content": {"a": []}, "tool_calls": 7, "role": []}}]},
                {"choices": [{"delta": {"tool_calls": [5, None, {"function": 3}]}}]},
                {"choices": [{"delta": {"content": "ok"}, "finish_reason": ["stop"]}]},
                {"usage": [], "choices": []},
            )
        ),
        "ok",
    ),
    "usage of NaN": (
        event({"content": "ok"}) + b'data: {"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":1e999}}\n\n',
        "ok",
    ),
    "arguments nested 450 levels": (event({"content": "ok"}) + calls(1, nested(450)), "ok"),
    "arguments nested 251 levels": (event({"content": "ok"}) + calls(1, nested(251)), "ok"),
    "32 kB of arguments that are no JSON": (event({"content": "ok"}) + calls(1, '{"a": "' + "x" * 32_000), "ok"),
}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", ODD)
def test_what_is_malformed_is_read_as_far_as_it_goes(
    hostile: Hostile, attacked: tuple[Serving, AgentServer], kind: str, streamed: bool
) -> None:
    command, server = attacked
    first, said = ODD[kind]
    answers = iter([stream(first)])
    hostile.answer = lambda request: next(answers, stream())(request)
    logged, session = len(command.output), f"{kind}-{streamed}".replace(" ", "-")
    with responsive(server):
        message, finish, text = outcome(server, streamed, session)
    assert (message, finish) == (None, "stop")
    assert said in text
    assert "Traceback" not in command.output[logged:]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_an_answer_without_end_is_cut_like_one_that_met_max_tokens(
    hostile: Hostile, attacked: tuple[Serving, AgentServer], streamed: bool
) -> None:
    _, server = attacked
    hostile.answer = stream(event({"content": "x" * 1000}), times=10_000)
    with responsive(server):
        message, finish, text = outcome(server, streamed, f"endless-{streamed}")
    assert (message, finish, len(text)) == (None, "length", 4 * 2**20)
