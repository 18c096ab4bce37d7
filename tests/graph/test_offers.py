"""Which tools the model is offered, where the client brings some of its own."""

import json
from typing import Any

import httpx
import pytest
from langchain_core.tools import tool

from graph.offers import offered
from graph.state import TurnContext
from tests.support.agent_server import MODEL, AgentServer, frames_of
from tests.support.client_tools import ASK, QUESTION, allowed, asked, result
from tests.support.open_meteo import OpenMeteo
from tests.support.upstream import Answer, Call, Json, Upstream

THEIRS: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The client's.",
        "parameters": {"type": "object", "properties": {}},
    },
}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
WEATHER = Answer(calls=[Call("get_weather", '{"city": "Seoul"}')])


@tool
def get_weather(city: str) -> str:
    """Ours."""
    return city


@tool
def search_web(query: str) -> str:
    """Ours."""
    return query


OURS = [get_weather, search_web]
BOTH, CLIENTS = ["get_weather", "search_web", "ask_user"], ["ask_user"]


def context(*clients: Any, **fields: Any) -> TurnContext:
    return TurnContext(client_tools=clients, **fields)


@pytest.mark.parametrize(
    ("turn", "rounds", "names", "choice"),
    [
        (context(), 0, ["get_weather", "search_web"], None),
        (context(), 8, [], None),
        (context(ASK), 0, BOTH, None),
        (context(ASK), 8, CLIENTS, None),
        (context(ASK, tool_choice="required"), 0, CLIENTS, "required"),
        (context(ASK, tool_choice="required"), 1, BOTH, None),
        (context(ASK, tool_choice="required"), 8, CLIENTS, None),
        (context(ASK, tool_choice={"type": "function"}), 0, CLIENTS, {"type": "function"}),
        (context(ASK, THEIRS, tool_choice=allowed("required", "ask_user")), 0, CLIENTS, "required"),
        (context(ASK, THEIRS, tool_choice=allowed("required", "ask_user")), 1, ["search_web", "ask_user"], None),
        (context(ASK, THEIRS, tool_choice=allowed("auto", "ask_user")), 0, ["search_web", "ask_user"], None),
        (context(ASK, tool_choice="none"), 0, ["get_weather", "search_web"], None),
        (context(tool_choice="auto"), 0, ["get_weather", "search_web"], None),
        (context(tool_choice="required"), 0, ["get_weather", "search_web"], None),
        (context(THEIRS), 0, ["search_web", "get_weather"], None),
        (context(THEIRS, ASK), 3, ["search_web", "get_weather", "ask_user"], None),
        (context(THEIRS, tool_choice="none"), 0, ["search_web"], None),
    ],
)
def test_c2_c3_what_is_offered(turn: TurnContext, rounds: int, names: list[str], choice: Any) -> None:
    offer = offered(OURS, turn, rounds=rounds, max_rounds=8)
    found = [each["function"]["name"] if isinstance(each, dict) else each.name for each in offer.tools]
    assert (found, offer.choice) == (names, choice)


def offered_to(upstream: Upstream) -> dict[str, str]:
    """The tools of the newest request to the model, by name, with their descriptions."""
    return {each["function"]["name"]: each["function"]["description"] for each in upstream.last.get("tools", [])}


@pytest.mark.parametrize("choice", [None, "auto", "required", NAMED, allowed("auto", "get_weather")])
def test_b8_c2_a_client_s_tool_hides_ours_of_that_name(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo, choice: Any
) -> None:
    upstream.script(WEATHER)
    answer = asked(weather_server, [QUESTION], tools=[THEIRS], tool_choice=choice)
    assert offered_to(upstream)["get_weather"] == "The client's."
    assert len(upstream.last["tools"]) == len(offered_to(upstream))
    (call,) = answer["message"]["tool_calls"]
    assert (answer["finish_reason"], call["function"]["name"]) == ("tool_calls", "get_weather")
    assert asked(weather_server, [QUESTION, answer["message"], result(call, "warm")], tools=[THEIRS])
    assert [message["content"] for message in upstream.last["messages"][-1:]] == ["warm"]
    assert open_meteo.forecasts == []


def test_c2_the_name_is_the_client_s_for_that_request_alone(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    upstream.script(WEATHER, Answer(["5.3 °C"]))
    first = asked(weather_server, [QUESTION], tools=None)  # ours is called
    assert len(open_meteo.forecasts) == 1
    history = [QUESTION, first["message"], QUESTION]
    upstream.script(WEATHER)
    second = asked(weather_server, history, tools=[THEIRS])  # theirs, beside calls of ours in the history
    assert second["finish_reason"] == "tool_calls"
    (call,) = second["message"]["tool_calls"]
    upstream.script(WEATHER, Answer(["6 °C"]))
    third = asked(weather_server, [*history, second["message"], result(call, "warm")], tools=None)  # ours again
    assert third["message"]["content"] == "6 °C"
    assert len(open_meteo.forecasts) == 2
    results = [message["content"] for message in upstream.last["messages"] if message["role"] == "tool"]
    assert [("warm" in text, "°C" in text) for text in results] == [(False, True), (True, False), (False, True)]
    again = asked(weather_server, history, tools=[ASK])  # the second turn again, without their tool
    assert again["finish_reason"] == "stop"
    assert set(offered_to(upstream)) == {"get_weather", "search_web", "ask_user"}


def test_c2_calls_of_both_sides_in_one_message_find_their_sides(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    search = {"type": "function", "function": {"name": "search_web", "description": "Open WebUI's."}}
    upstream.script(
        Answer(
            calls=[
                Call("search_web", '{"query": "a"}', id="a", index=0),
                Call("get_weather", '{"city": "Seoul"}', id="b", index=1),
                Call("search_web", '{"query": "b"}', id="c", index=2),
            ]
        )
    )
    frames = frames_of(weather_server, tools=[search], stream_options={"include_tool_events": True})
    events = [frame["event"]["name"] for frame in frames[:-1] if frame["object"] == "agent.event"]
    assert events == ["get_weather", "get_weather"], "begun and ended; the client's calls are no activity of ours"
    deltas = [
        delta for frame in frames[:-1] for choice in frame["choices"] for delta in choice["delta"].get("tool_calls", [])
    ]
    assert [delta["function"]["name"] for delta in deltas] == ["search_web", "search_web"]
    assert len(open_meteo.forecasts) == 1


def test_c2_a_hidden_tool_is_not_run_where_the_client_wants_no_call(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    upstream.script(WEATHER, Answer(["I cannot know."]))
    answer = asked(weather_server, [QUESTION], tools=[THEIRS], tool_choice="none")
    assert answer["finish_reason"] == "stop"
    assert set(offered_to(upstream)) == {"search_web"}
    assert open_meteo.forecasts == []


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "ask_user"}}, allowed("required", "ask_user")]
)
@pytest.mark.parametrize("stored", [True, False])
def test_e6_c3_while_a_call_is_demanded_only_the_client_s_tools_are_offered(
    weather_server: AgentServer, upstream: Upstream, choice: Any, stored: bool
) -> None:
    upstream.script(Answer(calls=[Call("ask_user", "{}")]))
    answer = asked(weather_server, [QUESTION], tool_choice=choice, store=stored)
    assert set(offered_to(upstream)) == {"ask_user"}
    assert upstream.last["tool_choice"]
    (call,) = answer["message"]["tool_calls"]
    replay = [QUESTION, answer["message"], result(call, "blue")]
    asked(weather_server, replay, store=stored)  # which demands nothing
    assert set(offered_to(upstream)) == {"ask_user", "get_weather", "search_web"}
    assert "tool_choice" not in upstream.last


def test_c3_a_model_that_calls_another_tool_first_is_not_forced_again(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(WEATHER, Answer(["5.3 °C"]))
    assert asked(weather_server, [QUESTION], tool_choice="required")["finish_reason"] == "stop"
    first, second = upstream.requests
    assert [each["function"]["name"] for each in first["tools"]] == ["ask_user"]
    assert len(second["tools"]) == 3
    assert "tool_choice" not in second


def test_c3_a_demanded_call_comes_before_the_format_of_the_answer(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(Answer(calls=[Call("ask_user", "{}")]), Answer(["no call"]), Answer(['{"a": 1}']))
    fields: dict[str, Any] = {
        "response_format": {"type": "json_object"},
        "session_id": "s",
        "tools": [ASK],
        "model": MODEL,
    }
    first = weather_server.post({**fields, "messages": [QUESTION], "tool_choice": "required"}).json()["choices"][0]
    assert first["finish_reason"] == "tool_calls"
    assert ("response_format" in upstream.last, upstream.last["tool_choice"]) == (False, "required")
    results = [result(call, "blue") for call in first["message"]["tool_calls"]]
    second = httpx.post(f"{weather_server.url}/v1/chat/completions", json={**fields, "messages": results}, timeout=30)
    assert json.loads(second.json()["choices"][0]["message"]["content"]) == {"a": 1}
    assert [len(request.get("tools", [])) for request in upstream.requests] == [1, 3, 0]
    assert [request.get("tool_choice") for request in upstream.requests] == ["required", None, None]
