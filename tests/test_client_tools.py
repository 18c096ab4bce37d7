"""Tools that the client runs itself, beside those of the server."""

import json
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletionFunctionToolParam

from tests.agent_server import MODEL, AgentServer
from tests.upstream import Answer, Call, Upstream

Json = dict[str, Any]

ASK: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "ask_user",
        "description": "Ask the user something.",
        "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
    },
}
QUESTION = {"role": "user", "content": "Paint it."}
CALLS = Answer(
    ["One moment."],
    [
        Call("ask_user", '{"question":"Which colour?"}', id="a", index=0),
        Call("get_weather", '{"city": "Seoul"}', id="b", index=1),
        Call("ask_user", "", id="c", index=2),
    ],
)


def asked(server: AgentServer, messages: list[Json], **fields: Any) -> Json:
    """The choice that the server answers with, in the session `s`."""
    body = {"model": MODEL, "messages": messages, "tools": [ASK], "session_id": "s", **fields}
    response = server.post(body)
    assert response.status_code == 200, response.text
    choice: Json = response.json()["choices"][0]
    return choice


def result(call: Json, text: str) -> Json:
    return {"role": "tool", "tool_call_id": call["id"], "content": text}


def test_the_client_gets_its_own_calls_and_ours_are_run(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION])
    assert {tool["function"]["name"] for tool in upstream.last["tools"]} == {"ask_user", "get_weather", "search_web"}
    assert next(tool for tool in upstream.last["tools"] if tool["function"]["name"] == "ask_user") == ASK
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "One moment.")
    first, second = choice["message"]["tool_calls"]
    assert (first["type"], first["function"]["name"]) == ("function", "ask_user")
    assert json.loads(first["function"]["arguments"]) == {"question": "Which colour?"}
    assert second["function"] == {"name": "ask_user", "arguments": "{}"}
    assert len(upstream.requests) == 1, "the model waits for the client"

    replay = [QUESTION, choice["message"], result(first, "blue"), result(second, "no")]
    assert asked(weather_server, replay)["finish_reason"] == "stop"
    shown = upstream.last["messages"][1:]
    assert [message["role"] for message in shown] == ["user", "assistant", "tool", "tool", "tool"]
    assert [message["tool_call_id"] for message in shown[2:]] == [call["id"] for call in shown[1]["tool_calls"]]
    assert (shown[2]["content"], shown[4]["content"]) == ("blue", "no")
    assert "°C" in shown[3]["content"]


def test_a_stream_has_one_call_in_a_chunk(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    with weather_server.client(session="s") as client:
        chunks = list(
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Paint it."}], tools=[ASK], stream=True
            )
        )
    calls = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert [[call.index for call in chunk] for chunk in calls] == [[0], [1]]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_session_says_that_it_waits(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION])
    url = f"{weather_server.url}/v1/sessions/s"
    assert httpx.get(url).json()["status"] == "waiting"
    asked(weather_server, [result(call, "yes") for call in choice["message"]["tool_calls"]])
    assert httpx.get(url).json()["status"] == "idle"


def test_results_alone_resume_the_turn(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION])
    asked(weather_server, [result(call, "yes") for call in reversed(choice["message"]["tool_calls"])])
    roles = [message["role"] for message in upstream.last["messages"][1:]]
    assert roles == ["user", "assistant", "tool", "tool", "tool"]


def test_missing_results_are_named(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    first, second = asked(weather_server, [QUESTION])["message"]["tool_calls"]
    refused = weather_server.post({"model": MODEL, "messages": [result(first, "blue")], "session_id": "s"})
    assert refused.status_code == 400
    assert second["id"] in refused.json()["error"]["message"]


def test_a_user_who_moves_on_cancels_the_calls(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    asked(weather_server, [QUESTION])
    asked(weather_server, [{"role": "user", "content": "Never mind."}])
    results = [message["content"] for message in upstream.last["messages"] if message["role"] == "tool"]
    assert results[0] == results[2] == "This tool call was cancelled by the user."


def test_the_loop_of_a_client_may_take_more_rounds_than_ours(weather_server: AgentServer, upstream: Upstream) -> None:
    messages = [QUESTION]
    for _ in range(12):
        upstream.script(Answer(calls=[Call("ask_user", "{}")]))
        message = asked(weather_server, messages)["message"]
        messages = [*messages, message, result(message["tool_calls"][0], "more")]
        assert len(upstream.last["tools"]) == 3
    assert asked(weather_server, messages)["finish_reason"] == "stop"


def test_no_client_tool_is_offered_where_none_is_to_be_chosen(weather_server: AgentServer, upstream: Upstream) -> None:
    asked(weather_server, [QUESTION], tool_choice="none")
    assert {tool["function"]["name"] for tool in upstream.last["tools"]} == {"get_weather", "search_web"}


def test_a_name_of_ours_is_taken(weather_server: AgentServer, upstream: Upstream) -> None:
    tool = {"type": "function", "function": {"name": "get_weather"}}
    refused = weather_server.post({"model": MODEL, "messages": [QUESTION], "tools": [ASK, tool]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
    assert upstream.requests == []


@pytest.mark.parametrize("stored", [True, False])
def test_a_replay_is_enough_for_a_server_that_knows_nothing(
    weather_server: AgentServer, upstream: Upstream, stored: bool
) -> None:
    call = {"id": "call_x", "type": "function", "function": {"name": "ask_user", "arguments": '{"question": "?"}'}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = asked(weather_server, [QUESTION, calling, result(call, "blue")], store=stored)
    assert choice["finish_reason"] == "stop"
    shown = upstream.last["messages"][1:]
    assert [message["role"] for message in shown] == ["user", "assistant", "tool"]
    assert json.loads(shown[1]["tool_calls"][0]["function"]["arguments"]) == {"question": "?"}
