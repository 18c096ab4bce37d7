"""docs/contract.md, section C: an answer that is not streamed."""

from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionStreamOptionsParam

from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.client_tools import ASK
from tests.support.upstream import Answer, Call, Json, Upstream

WEATHER_CALL = Answer(calls=[Call("get_weather", '{"city": "서울"}')], usage=(20, 8))
USAGE: ChatCompletionStreamOptionsParam = {"include_usage": True}


def answered(server: AgentServer, **fields: Any) -> Json:
    """The whole answer to a question."""
    response = server.post({"model": MODEL, "messages": [HELLO], **fields})
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


def test_c1_an_answer_is_a_chat_completion(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["안녕", "하세요"], usage=(7, 3)))
    body = answered(server)
    assert body == {
        "id": body["id"],
        "object": "chat.completion",
        "created": body["created"],
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "안녕하세요", "refusal": None, "annotations": []},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    assert body["id"].startswith("chatcmpl-")
    assert isinstance(body["created"], int)
    assert answered(server)["id"] != body["id"]


def test_c2_an_answer_of_calls_alone_has_no_content(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("ask_user", "")]), Answer([""]))
    called, silent = (answered(server, tools=[ASK])["choices"][0]["message"] for _ in range(2))
    assert called["content"] is None
    assert called["tool_calls"][0]["function"]["arguments"] == "{}"
    assert silent["content"] == ""
    assert "tool_calls" not in silent


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("eos_token", "stop"),
        ("function_call", "stop"),
    ],
)
def test_c3_an_answer_ends_for_one_of_openai_s_reasons(
    server: AgentServer, upstream: Upstream, said: str, told: str
) -> None:
    upstream.otherwise = Answer(["Hello."], finish_reason=said)
    assert answered(server)["choices"][0]["finish_reason"] == told


def test_c4_usage_is_the_sum_of_the_turns_model_calls(weather_server: AgentServer, upstream: Upstream) -> None:
    first = Answer(calls=WEATHER_CALL.calls, usage=(20, 8), cached=16, reasoning=["Seoul …"])
    upstream.script(first, Answer(["5.3 °C"], usage=(50, 12), cached=20, reasoning=["Cold."]))
    usage = answered(weather_server)["usage"]
    assert usage == {
        "prompt_tokens": 70,
        "completion_tokens": 20,
        "total_tokens": 90,
        "prompt_tokens_details": {"cached_tokens": 36},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }


def test_c4_usage_is_estimated_where_the_endpoint_reports_none(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hello, how are you today?"], usage=None))
    usage = answered(server)["usage"]
    assert usage["prompt_tokens"] > 20, "the agent's prompt counts too"
    assert 5 <= usage["completion_tokens"] <= 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_c6_all_answers_have_the_sdk_s_types(weather_server: AgentServer, upstream: Upstream) -> None:
    scripts = [
        [Answer(["Hello."], reasoning=["Hm."], cached=3)],
        [WEATHER_CALL, Answer(["5.3 °C"], finish_reason="eos_token")],
        [Answer(["Wait."], calls=[Call("ask_user", "{}"), *WEATHER_CALL.calls])],
    ]
    url = f"{weather_server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
        assert client.models.retrieve(client.models.list().data[0].id).id == MODEL
        for script in scripts:
            upstream.script(*script, *script)
            completion = client.chat.completions.create(model=MODEL, messages=[HELLO], tools=[ASK])
            stream = client.chat.completions.create(
                model=MODEL, messages=[HELLO], tools=[ASK], stream=True, stream_options=USAGE
            )
            *_, finish, last = stream
            assert finish.choices[0].finish_reason == completion.choices[0].finish_reason
            assert last.usage == completion.usage


def test_streamed_and_not_streamed_say_the_same(weather_server: AgentServer, upstream: Upstream) -> None:
    answers: list[tuple[object, ...]] = []
    for stream in (False, True):
        upstream.script(WEATHER_CALL, Answer(["서울은 ", "5.3 °C입니다."], finish_reason="length", usage=(40, 9)))
        with weather_server.client() as client:
            if stream:
                chunks = list(
                    client.chat.completions.create(model=MODEL, messages=[HELLO], stream=True, stream_options=USAGE)
                )
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
                answers.append((text, chunks[-2].choices[0].finish_reason, chunks[-1].usage))
            else:
                completion = client.chat.completions.create(model=MODEL, messages=[HELLO])
                choice = completion.choices[0]
                answers.append((choice.message.content, choice.finish_reason, completion.usage))
    assert answers[0] == answers[1]
    assert answers[0][0] == "서울은 5.3 °C입니다."
