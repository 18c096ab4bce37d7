"""How many requests are answered at once, and how many in a minute."""

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from server.http.rates import duration
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until

ASKING: dict[str, Any] = {"model": MODEL, "messages": [HELLO]}


@pytest.fixture
def options(upstream_url: str) -> dict[str, Any]:
    return {"ollama_base_url": upstream_url, "use_mcp_tools": False}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def many(server: AgentServer, keys: Sequence[str], **fields: Any) -> list[tuple[httpx.Response, float]]:
    """Ask with all keys at the same time; return the answers and the seconds that they took."""
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:

        async def ask(key: str) -> tuple[httpx.Response, float]:
            began = time.monotonic()
            answer = await client.post("/v1/chat/completions", json={**ASKING, **fields}, headers=bearer(key))
            return answer, time.monotonic() - began

        return await asyncio.gather(*map(ask, keys))


def test_a_key_has_so_many_requests_in_a_minute(options: dict[str, Any]) -> None:
    with agent_server(**options, api_keys="mina:a,b", requests_per_minute=2) as server:
        left = []
        for _ in range(2):
            answer = server.post(ASKING, headers=bearer("a"))
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            left.append(answer.headers["x-ratelimit-remaining-requests"])
        assert left == ["1", "0"]
        refused = server.post({**ASKING, "stream": True}, headers=bearer("a"))
        error = refused.json()["error"]
        assert (refused.status_code, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
        assert error["message"].startswith("Rate limit reached for mina on requests per min: Limit 2.")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert httpx.get(f"{server.url}/v1/models", headers=bearer("a")).status_code == 200, "only what runs the agent"
        assert server.post(ASKING, headers=bearer("b")).status_code == 200, "others have their own"
        for path in ("/agent/invoke", "/agent/stream", "/agent/stream_log"):
            body = {"input": {"messages": [{"type": "human", "content": "x"}]}}
            assert httpx.post(server.url + path, json=body, headers=bearer("a")).status_code == 429
        with server.client(key="a") as client, pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**ASKING)


def test_a_key_has_so_many_tokens_in_a_minute(options: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[mina]\nkey = "a"\ntokens_per_minute = 20\n[jun]\nkey = "b"\n')
    with agent_server(**options, api_keys_file=file) as server:
        for stream, remaining in ((False, "20"), (True, "5")):
            answer = server.post({**ASKING, "stream": stream}, headers=bearer("a"))
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-remaining-tokens"] == remaining
        until(lambda: server.post(ASKING, headers=bearer("a")).status_code == 429)
        refused = server.post(ASKING, headers=bearer("a"))
        assert (refused.json()["error"]["type"], refused.headers["x-ratelimit-remaining-tokens"]) == ("tokens", "0")
        assert all(server.post(ASKING, headers=bearer("b")).status_code == 200 for _ in range(3))


async def test_a_key_has_so_many_requests_at_once(options: dict[str, Any], upstream: Upstream) -> None:
    upstream.otherwise = Answer(["a", "b"], pause=0.3)
    with agent_server(**options, api_keys="a,b", runs_at_once=2) as server:
        answers = await many(server, ["a"] * 5 + ["b"])
        assert sorted(answer.status_code for answer, _ in answers) == [200, 200, 200, 429, 429, 429]
        for answer, seconds in answers:
            if answer.status_code == 429:
                assert answer.headers["Retry-After"] == "1"
                assert seconds < 0.5
        assert {answer.status_code for answer, _ in await many(server, ["a"] * 2)} == {200}, "free again"


@pytest.mark.parametrize("stream", [True, False])
async def test_beyond_what_is_answered_at_once_some_wait_and_the_rest_is_refused(
    options: dict[str, Any], upstream: Upstream, stream: bool
) -> None:
    upstream.otherwise = Answer(["a", "b"], pause=0.3)
    with agent_server(**options, max_runs=2, max_queued=3) as server:
        answers = await many(server, ["any"] * 9, stream=stream)
        refused = [answer for answer, seconds in answers if answer.status_code == 503]
        assert len(refused) == 4
        assert {answer.json()["error"]["code"] for answer in refused} == {"service_unavailable"}
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        waited = sorted(seconds for answer, seconds in answers if answer.status_code == 200)
        assert len(waited) == 5
        assert waited[-1] > 1.5 > waited[0], "two, then two, then one"
        assert upstream.streaming == 0


def test_durations_are_written_as_openai_does() -> None:
    assert [duration(seconds) for seconds in (0, 0.2, 1, 59.1, 60, 361)] == ["0s", "1s", "1s", "1m0s", "1m0s", "6m1s"]


def test_a_request_whose_body_does_not_come_takes_nobody_s_place(options: dict[str, Any]) -> None:
    with agent_server(**options, max_runs=1, max_queued=0) as server, ExitStack() as slow:
        address = httpx.URL(server.url)
        for _ in range(3):
            client = slow.enter_context(socket.create_connection((address.host, address.port or 0)))
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert server.ask("hello") == "You said: hello"


def test_whoever_leaves_the_queue_leaves_their_place_to_others(options: dict[str, Any], upstream: Upstream) -> None:
    upstream.script(Answer(["a"], hold=True))
    with agent_server(**options, max_runs=1, max_queued=1) as server:
        url = f"{server.url}/v1/chat/completions"
        with httpx.stream("POST", url, json={**ASKING, "stream": True}) as first:
            parts = first.iter_raw()
            until(lambda: b"a" in next(parts))
            for _ in range(5):
                with pytest.raises(httpx.ReadTimeout):
                    httpx.post(url, json=ASKING, timeout=0.2)
        assert len(upstream.requests) == 1, "none of those who left was asked for"
        until(lambda: server.post(ASKING).status_code == 200)


def test_tokens_are_counted_though_the_client_leaves(options: dict[str, Any], upstream: Upstream) -> None:
    upstream.otherwise = Answer(["word " * 100] * 3, hold=True)
    with agent_server(**options, api_keys="a", tokens_per_minute=100) as server:
        url = f"{server.url}/v1/chat/completions"
        with httpx.stream("POST", url, json={**ASKING, "stream": True}, headers=bearer("a")) as answer:
            parts = answer.iter_raw()
            until(lambda: b"word" in next(parts))
        upstream.otherwise = Answer(["x"])
        until(lambda: server.post(ASKING, headers=bearer("a")).status_code == 429)


def test_a_request_that_is_too_large_is_said_to_be(options: dict[str, Any]) -> None:
    def body() -> Iterator[bytes]:
        yield from [b"x" * 1000] * 3

    with agent_server(**options, max_request_bytes=2000) as server:
        refused = httpx.post(f"{server.url}/v1/chat/completions", content=body())
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
