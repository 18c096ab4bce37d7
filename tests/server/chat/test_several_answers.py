"""`n` answers to one request, where nothing of them is kept."""

import json
from typing import Any

import httpx
import openai
import pytest

from tests.support.agent_server import MODEL, AgentServer
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Which colour?"}]}


def test_n_answers_are_n_choices(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(*[Answer(calls=[Call("get_weather", '{"city": "Seoul"}')])] * 2)
    upstream.otherwise = Answer(["Blue"])
    with weather_server.client() as client:
        completion = client.chat.completions.create(**ASKED, n=2)
    choices = [(choice.index, choice.message.content, choice.finish_reason) for choice in completion.choices]
    assert choices == [(0, "Blue", "stop"), (1, "Blue", "stop")]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (40, 20), "of four model calls"


def test_d3_the_choices_of_a_stream_follow_one_another(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["Blue"])
    response = server.post({**ASKED, "n": 3, "stream": True, "stream_options": {"include_usage": True}})
    *frames, done = response.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    *chunks, usage = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    told = [(choice["index"], choice["delta"], choice["finish_reason"]) for [choice] in (c["choices"] for c in chunks)]
    deltas = [{"role": "assistant", "content": "", "refusal": None}, {"content": "Blue"}]
    one = [*((delta, None) for delta in deltas), ({}, "stop")]
    assert told == [(index, *part) for index in range(3) for part in one]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 45)


def test_the_sdk_s_own_reader_takes_them(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Blue"]), Answer(["Red"]))
    with server.client() as client:
        with client.chat.completions.stream(**ASKED, n=2) as stream:
            completion = stream.get_final_completion()
    assert {choice.message.content for choice in completion.choices} == {"Blue", "Red"}


def test_the_model_is_asked_for_all_of_them_at_once(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["Blue"], hold=True)
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**ASKED, "n": 3, "stream": True}) as response:
        until(lambda: upstream.streaming == 3)
        assert next(response.iter_bytes())
    until(lambda: upstream.closed_early == 3, within=1.0)


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_fails_fails_them_all(server: AgentServer, upstream: Upstream, stream: bool) -> None:
    upstream.script(Answer(["Blue"]), *[Answer(["Bl"], finish_reason="")] * 2)
    with server.client() as client:
        with pytest.raises(openai.APIError, match="ended in the middle"):
            list(client.chat.completions.create(**ASKED, n=3, stream=stream))


def test_a9_none_is_repeated_since_another_may_have_acted(weather_server: AgentServer, upstream: Upstream) -> None:
    called, failed = Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(status=400, error="no")
    for script in ([called, failed], [failed, called]):
        upstream.script(*script)
        refused = weather_server.post({**ASKED, "n": 2})
        assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")


def test_they_are_kept_in_no_session(server: AgentServer, upstream: Upstream) -> None:
    server.post({**ASKED, "n": 2})
    server.post({**ASKED, "n": 2, "store": False, "session_id": "s"})
    assert httpx.get(f"{server.url}/v1/sessions").json()["data"] == []
    asked = len(upstream.requests)
    for fields in ({"session_id": "s"}, {"store": True}):
        refused = server.post({**ASKED, "n": 2, **fields})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")
        assert refused.json()["error"]["code"] == "unsupported_value"
    assert len(upstream.requests) == asked
