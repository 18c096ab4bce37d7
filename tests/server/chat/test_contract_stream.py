"""docs/contract.md, section D: the grammar of a stream."""

import json
from typing import Any

import httpx
import openai
import pytest

from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server, frames_of
from tests.support.client_tools import ASK
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

HALF = Answer(["Half an ans"], finish_reason="")


def test_d1_d2_d4_a_stream_is_role_then_text_then_finish_then_done(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hello"]))
    *chunks, done = frames_of(server)
    assert done == "[DONE]"
    head = {name: chunks[0][name] for name in ("id", "object", "created", "model")}
    assert (head["object"], head["model"]) == ("chat.completion.chunk", MODEL)
    assert head["id"].startswith("chatcmpl-")
    deltas: list[Json] = [{"role": "assistant", "content": "", "refusal": None}, {"content": "Hello"}, {}]
    reasons = [None, None, "stop"]
    assert chunks == [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in zip(deltas, reasons, strict=True)
    ]


def test_d2_usage_is_the_last_chunk_where_it_is_asked_for(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hello"], usage=(7, 3)))
    *chunks, last, _ = frames_of(server, stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 10)
    assert all("usage" not in chunk for chunk in frames_of(server, stream_options={"include_usage": False})[:-1])


@pytest.mark.parametrize(
    ("fields", "answer", "status"),
    [
        ({"temperature": 3}, Answer(["Hello."]), 400),
        ({"model": "gpt-9"}, Answer(["Hello."]), 404),
        ({}, Answer(status=429), 429),
        ({}, Answer(status=500), 502),
    ],
    ids=["validation", "model", "busy upstream", "failing upstream"],
)
def test_d5_what_fails_before_the_first_word_is_a_status(
    server: AgentServer, upstream: Upstream, fields: Json, answer: Answer, status: int
) -> None:
    upstream.otherwise = answer
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": True, **fields})
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/json")


def test_d5_without_a_key_no_stream_begins(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key") as server:
        assert server.post({"model": MODEL, "messages": [HELLO], "stream": True}).status_code == 401


def test_d6_an_answer_that_breaks_off_is_an_error_not_an_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(HALF, HALF)
    *chunks, error, done = frames_of(server, stream_options={"include_usage": True})
    message = "The model's answer ended in the middle."
    assert error == {
        "error": {"message": message, "type": "server_error", "param": None, "code": "upstream_error"},
    }
    assert done == "[DONE]"
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert server.post({"model": MODEL, "messages": [HELLO]}).status_code == 502


def test_d6_the_sdk_raises_an_error_that_comes_in_mid_stream(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(HALF)
    with server.client() as client:
        stream = client.chat.completions.create(model=MODEL, messages=[HELLO], stream=True)
        with pytest.raises(openai.APIError, match="ended in the middle"):
            list(stream)


def test_d6_a_tool_that_fails_is_no_error_of_the_stream(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Atlantis"}')]), Answer(["No such city."]))
    *chunks, _ = frames_of(weather_server)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "No such city.", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_d7_each_piece_is_sent_when_it_comes(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once upon "], hold=True))
    body = {"model": MODEL, "messages": [HELLO], "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=5) as response:
        frames = (line for line in response.iter_lines() if line)
        chunks = [json.loads(next(frames).removeprefix("data: ")) for _ in range(2)]
        assert upstream.streaming == 1, "the model has not ended"
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "Once upon "]
    until(lambda: upstream.streaming == 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(["가" * 70_000]),
        Answer(["Blue."], reasoning=["가" * 70_000]),
        Answer(calls=[Call("ask_user", json.dumps({"question": "가" * 70_000}, ensure_ascii=False))]),
    ],
    ids=["text", "reasoning", "call"],
)
def test_d7_no_frame_is_larger_than_clients_read_at_once(
    server: AgentServer, upstream: Upstream, answer: Answer
) -> None:
    upstream.script(answer)
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": True, "tools": [ASK]})
    assert response.text.count("가") == (140_000 if answer.reasoning else 70_000)  # reasoning goes by two names
    assert max(len(line) for line in response.content.split(b"\n")) <= 65_536


@pytest.mark.parametrize("stream", [False, True])
def test_d7_an_emoji_that_the_endpoint_cut_in_two_is_whole(
    server: AgentServer, upstream: Upstream, stream: bool
) -> None:
    upstream.script(Answer(["Hi \ud83d", "\ude00!", " \ud83d"]))
    if stream:
        *chunks, _ = frames_of(server)
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    else:
        text = server.ask("hello", session="s")
        server.ask("again", session="s")
        assert upstream.last["messages"][2]["content"] == "Hi 😀! "
    assert text == "Hi 😀! "


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_c16_d9_reasoning_is_streamed_beside_the_answer_and_never_kept(
    server: AgentServer, upstream: Upstream, field: str
) -> None:
    upstream.script(Answer(["Blue."], reasoning=["The sky ", "is …"], reasoning_field=field))
    *chunks, _ = frames_of(server, session_id="s")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:-1]]
    assert deltas[-1] == {"content": "Blue."}
    assert "".join(delta["reasoning_content"] for delta in deltas[:-1]) == "The sky is …"
    assert all(delta["reasoning"] == delta["reasoning_content"] for delta in deltas[:-1])
    server.ask("And now?", session="s")
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["hello", "Blue.", "And now?"]
    assert "sky" not in json.dumps(upstream.last)


def test_d9_reasoning_is_a_field_of_a_whole_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Blue."], reasoning=["The sky."]), Answer(["Blue."]))
    body: Any = {"model": MODEL, "messages": [HELLO]}
    message = server.post(body).json()["choices"][0]["message"]
    assert [message[key] for key in ("content", "reasoning_content", "reasoning")] == ["Blue.", "The sky.", "The sky."]
    assert "reasoning_content" not in server.post(body).json()["choices"][0]["message"]
