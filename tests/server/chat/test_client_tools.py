"""docs/contract.md, section E and B7 to B9: tools that the client runs itself, beside those of the server."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.support.agent_server import MODEL, AgentServer, frames_of
from tests.support.client_tools import ASK, QUESTION, allowed, answer, asked, calling, result
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

Json = dict[str, Any]

NAMED = {"type": "function", "function": {"name": "ask_user"}}
CALLS = Answer(
    ["One moment."],
    [
        Call("ask_user", '{"question":"Which colour?"}', id="a", index=0),
        Call("get_weather", '{"city": "Seoul"}', id="b", index=1),
        Call("ask_user", "", id="c", index=2),
    ],
)


def described(**fields: Any) -> Json:
    return {"type": "function", "function": {"name": "f", **fields}}


def test_e1_the_server_s_tools_never_reach_the_client(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "서울"}')]), Answer(["5.3 °C"]))
    *chunks, _ = frames_of(weather_server)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert all("tool_calls" not in choice["delta"] for choice in choices)
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]


def test_e2_calls_of_the_client_s_tools_alone_pause_the_turn(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("ask_user", "{}", id="a", index=0), Call("ask_user", "{}", id="b", index=1)]))
    choice = asked(weather_server, [QUESTION])
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["ask_user", "ask_user"]
    assert len(upstream.requests) == 1
    assert httpx.get(f"{weather_server.url}/v1/sessions/s").json()["status"] == "waiting"


def test_e1_e3_the_client_gets_its_own_calls_and_ours_are_run(weather_server: AgentServer, upstream: Upstream) -> None:
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
    assert all(len(chunk) == 1 for chunk in calls)
    assert [call.index for [call] in calls if call.id] == [0, 1]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_e2_the_arguments_are_streamed_while_the_model_writes_them(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["One moment."], [Call("ask_user", '{"question": "Which ')], hold=True))
    said = ""
    with (
        server.client(session="s") as client,
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Paint it."}], tools=[ASK], stream=True
        ) as chunks,
    ):
        for chunk in chunks:
            for call in chunk.choices[0].delta.tool_calls or ():
                said += (call.function and call.function.arguments) or ""
            if said == '{"question": "Which ':
                break
    until(lambda: upstream.closed_early == 1)
    assert server.ask("Go on.", session="s") == "You said: Go on."
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["Paint it.", "One moment.", "Go on."]


def test_b7_the_one_call_that_is_wanted_is_the_one_that_was_streamed(server: AgentServer, upstream: Upstream) -> None:
    broken = Call("ask_user", '{"question": "Which', id="a", index=0)
    upstream.script(Answer(calls=[broken, Call("ask_user", '{"question": "Why?"}', id="b", index=1)]))
    *chunks, _ = frames_of(server, tools=[ASK], parallel_tool_calls=False)
    deltas = [chunk["choices"][0]["delta"].get("tool_calls", []) for chunk in chunks]
    calls = [call for delta in deltas for call in delta]
    assert {call["index"] for call in calls} == {0}
    assert "".join(call["function"]["arguments"] for call in calls) == broken.arguments
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_e3_the_session_says_that_it_waits(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION])
    url = f"{weather_server.url}/v1/sessions/s"
    assert httpx.get(url).json()["status"] == "waiting"
    asked(weather_server, [result(call, "yes") for call in choice["message"]["tool_calls"]])
    assert httpx.get(url).json()["status"] == "idle"


def test_e5_results_alone_resume_the_turn(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION])
    asked(weather_server, [result(call, "yes") for call in reversed(choice["message"]["tool_calls"])])
    roles = [message["role"] for message in upstream.last["messages"][1:]]
    assert roles == ["user", "assistant", "tool", "tool", "tool"]


def test_e5_missing_results_are_named(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    first, second = asked(weather_server, [QUESTION])["message"]["tool_calls"]
    refused = weather_server.post({"model": MODEL, "messages": [result(first, "blue")], "session_id": "s"})
    assert refused.status_code == 400
    assert second["id"] in refused.json()["error"]["message"]


def test_e5_a_user_who_moves_on_cancels_the_calls(weather_server: AgentServer, upstream: Upstream) -> None:
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


def test_e6_no_client_tool_is_offered_where_none_is_to_be_chosen(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    asked(weather_server, [QUESTION], tool_choice="none")
    assert {tool["function"]["name"] for tool in upstream.last["tools"]} == {"get_weather", "search_web"}


@pytest.mark.parametrize("stored", [True, False])
def test_e5_a_replay_is_enough_for_a_server_that_knows_nothing(
    weather_server: AgentServer, upstream: Upstream, stored: bool
) -> None:
    call = {"id": "call_x", "type": "function", "function": {"name": "ask_user", "arguments": '{"question": "?"}'}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = asked(weather_server, [QUESTION, calling, result(call, "blue")], store=stored)
    assert choice["finish_reason"] == "stop"
    shown = upstream.last["messages"][1:]
    assert [message["role"] for message in shown] == ["user", "assistant", "tool"]
    assert json.loads(shown[1]["tool_calls"][0]["function"]["arguments"]) == {"question": "?"}


def test_e4_results_find_their_calls_by_the_id_alone(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    message = asked(weather_server, [QUESTION])["message"]
    first, second = message["tool_calls"]
    ids = [first["id"], second["id"]]
    assert all(re.fullmatch(r"call_[A-Za-z0-9]{24}", call) for call in ids)
    first["function"]["arguments"] = '{ "question" : "Which colour?" }'
    replay = [QUESTION, {**message, "content": None}, result(second, "no"), result(first, "blue")]
    assert asked(weather_server, replay)["finish_reason"] == "stop"
    _, assistant, *results = upstream.last["messages"][1:]
    assert assistant["content"] == "One moment."
    answers = {shown["tool_call_id"]: shown["content"] for shown in results}
    assert [answers.pop(call) for call in ids] == ["blue", "no"]
    assert "°C" in answers.popitem()[1], "what our tool found is still known"


def test_e4_a_client_without_a_session_resumes_by_the_id_of_its_call(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(CALLS)
    body = {"model": MODEL, "messages": [QUESTION], "tools": [ASK]}
    first = weather_server.post(body)
    message = first.json()["choices"][0]["message"]
    results = [result(call, "blue") for call in message["tool_calls"]]
    second = weather_server.post({**body, "messages": [QUESTION, message, *results]})
    assert second.headers["X-Session-ID"] == first.headers["X-Session-ID"]
    found = [message["content"] for message in upstream.last["messages"] if message["role"] == "tool"]
    assert "°C" in found[1], "what our tool found is still known"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([QUESTION, {"role": "tool", "tool_call_id": "x", "content": ""}], "messages.[1].role"),
        ([{"role": "system", "content": ""}, QUESTION, calling("a", "b"), answer("a"), QUESTION], "messages.[4].role"),
        ([QUESTION, calling("a")], "messages.[1].role"),
        ([QUESTION, calling("a"), answer("a"), answer("a")], "messages.[3].role"),
    ],
)
@pytest.mark.parametrize("store", [True, False])
def test_b7_calls_and_results_must_pair(
    server: AgentServer, upstream: Upstream, messages: list[Json], param: str, store: bool
) -> None:
    refused = server.post({"model": MODEL, "messages": messages, "store": store})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert upstream.requests == []


def test_b7_a_history_with_tools_needs_no_tools_in_the_request(server: AgentServer) -> None:
    history = [QUESTION, calling("a"), answer("a"), {"role": "assistant", "content": "Blue."}, QUESTION]
    assert server.post({"model": MODEL, "messages": history}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [ASK, ASK]}, "tools[1].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ASK], "tool_choice": "often"}, "tool_choice"),
        ({"tools": [ASK], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [ASK], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [ASK], "tool_choice": allowed("auto", "ask_user", "other")}, "tool_choice"),
        ({"tools": [described(strict="yes")]}, "tools[0].function.strict"),
        ({"tools": [described(parameters="none")]}, "tools[0].function.parameters"),
    ],
)
def test_b8_b9_tools_and_their_choice_must_make_sense(server: AgentServer, fields: Json, param: str) -> None:
    refused = server.post({"model": MODEL, "messages": [QUESTION], **fields})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_b8_tools_of_openai_s_other_kind_are_not_supported(server: AgentServer) -> None:
    tool = {"type": "custom", "custom": {"name": "x"}}
    error = server.post({"model": MODEL, "messages": [QUESTION], "tools": [tool]}).json()["error"]
    assert (error["param"], error["code"]) == ("tools[0].type", "unsupported_value")


def test_b8_a_tool_is_handed_on_as_it_is_described(server: AgentServer, upstream: Upstream) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}}
    tools = [
        {"type": "function", "function": {"name": "a-B_9", "description": "?"}},
        {"type": "function", "function": {"name": "b", "parameters": {}, "strict": None}},
        {"type": "function", "function": {"name": "c", "parameters": schema, "strict": True}},
        *({"type": "function", "function": {"name": f"{n:064}"}} for n in range(125)),
    ]
    assert server.post({"model": MODEL, "messages": [QUESTION], "tools": tools}).status_code == 200
    assert upstream.last["tools"] == tools


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        (
            {"type": "function", "function": {"name": "ask_user"}},
            {"type": "function", "function": {"name": "ask_user"}},
        ),
        (allowed("required", "ask_user"), "required"),
        (allowed("auto", "ask_user"), None),
        ("auto", None),
    ],
)
def test_e6_the_choice_reaches_the_model(
    weather_server: AgentServer, upstream: Upstream, choice: Any, sent: Any
) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(calls=[Call("ask_user", "{}")]))
    assert asked(weather_server, [QUESTION], tool_choice=choice)["finish_reason"] == "tool_calls"
    assert [request.get("tool_choice") for request in upstream.requests] == [sent, None]


def test_e6_only_the_allowed_tools_are_offered(weather_server: AgentServer, upstream: Upstream) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    asked(weather_server, [QUESTION], tools=[ASK, other], tool_choice=allowed("auto", "other"))
    assert {tool["function"]["name"] for tool in upstream.last["tools"]} == {"other", "get_weather", "search_web"}


def test_e7_one_call_at_once_where_the_client_wants_no_more(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION], parallel_tool_calls=False)
    assert upstream.last["parallel_tool_calls"] is False
    (call,) = choice["message"]["tool_calls"]
    asked(weather_server, [QUESTION, choice["message"], result(call, "blue")])
    assert len([message for message in upstream.last["messages"] if message["role"] == "tool"]) == 2, "ours and one"


def test_e8_a_paused_turn_goes_on_though_its_tool_is_gone(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    choice = asked(weather_server, [QUESTION])
    results = [result(call, "blue") for call in choice["message"]["tool_calls"]]
    assert asked(weather_server, [QUESTION, choice["message"], *results], tools=None)["finish_reason"] == "stop"


def test_d9_e10_tool_activity_is_told_to_those_who_ask(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(CALLS)
    body = {"model": MODEL, "messages": [QUESTION], "tools": [ASK], "stream": True}
    asking = weather_server.post({**body, "stream_options": {"include_tool_events": True}})
    frames = [json.loads(line[6:]) for line in asking.text.splitlines() if line.startswith("data: {")]
    started, ended = [frame for frame in frames if frame["object"] == "agent.event"]
    assert started["choices"] == ended["choices"] == []
    assert {frame["id"] for frame in frames} == {started["id"]}
    call = {"type": "tool_call", "id": started["event"]["id"], "name": "get_weather", "arguments": {"city": "Seoul"}}
    assert started["event"] == {**call, "status": "started"}
    duration, size = ended["event"]["duration"], ended["event"]["size"]
    assert ended["event"] == {**call, "status": "succeeded", "duration": duration, "size": size}
    assert 0 <= duration < 10
    assert size > 50
    upstream.script(CALLS)
    assert "agent.event" not in weather_server.post(body).text
