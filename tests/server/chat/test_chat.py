"""The agent behind the API: the model, its tools and its prompt. What the API promises is in test_contract_*.py."""

from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server
from tests.support.open_meteo import OpenMeteo
from tests.support.upstream import Answer, Call, Upstream

WEATHER_CALL = Answer(calls=[Call("get_weather", '{"city": "서울"}')], usage=(20, 8))


def test_e2_the_model_calls_a_tool_over_mcp_and_answers_from_its_result(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    upstream.script(WEATHER_CALL, lambda request: Answer([request["messages"][-1]["content"]]))
    answer = weather_server.ask("서울 날씨 알려줘")
    assert "5.3 °C" in answer
    assert "약한 비" in answer
    assert [search["name"] for search in open_meteo.searches] == ["서울"]
    roles = [message["role"] for message in upstream.last["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]


def test_texts_before_and_after_a_tool_call_are_set_apart(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Let me look."], calls=WEATHER_CALL.calls), Answer(["It is ", "5.3 °C."]))
    assert weather_server.ask("weather?") == "Let me look.\n\nIt is 5.3 °C."


def test_parallel_tool_calls_are_all_answered(weather_server: AgentServer, upstream: Upstream) -> None:
    # As Ollama sent them: one index and one id for all.
    calls = [Call("get_weather", '{"city": "Seoul"}', id=f"call_{n}", index=0) for n in range(3)]
    upstream.script(Answer(calls=calls), Answer(["Three times the same."]))
    assert weather_server.ask("weather?") == "Three times the same."
    *_, assistant, first, second, third = upstream.last["messages"]
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert len(set(ids)) == 3
    assert [message["tool_call_id"] for message in (first, second, third)] == ids
    assert all("5.3 °C" in message["content"] for message in (first, second, third))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (Call("get_weather", '{"city": '), "The arguments of this tool call are not valid JSON."),
        (Call("get_stars", "{}"), "There is no tool called 'get_stars'."),
        (Call("get_weather", '{"city": "Atlantis"}'), "No city called 'Atlantis' was found. Try its English name."),
    ],
)
def test_a_tool_call_that_fails_is_told_to_the_model(
    weather_server: AgentServer, upstream: Upstream, call: Call, sentence: str
) -> None:
    upstream.script(Answer(calls=[call]), Answer(["Sorry."]))
    assert weather_server.ask("weather?") == "Sorry."
    assert upstream.last["messages"][-1]["content"] == sentence


def test_a_model_that_only_calls_tools_must_answer_in_the_last_round(
    upstream: Upstream, upstream_url: str, open_meteo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_METEO_GEOCODING_URL", open_meteo_url)
    monkeypatch.setenv("OPEN_METEO_FORECAST_URL", open_meteo_url)
    upstream.otherwise = lambda request: WEATHER_CALL if request.get("tools") else Answer(["Enough."])
    with agent_server(ollama_base_url=upstream_url, max_tool_rounds=3) as server:
        assert server.ask("weather?") == "Enough."
    assert len(upstream.requests) == 4
    assert [bool(request.get("tools")) for request in upstream.requests] == [True, True, True, False]


def test_a_model_that_calls_tools_without_having_any_ends_the_turn(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["I would look it up."], calls=[Call("get_weather", "{}")]))
    assert server.ask("weather?", session="s") == "I would look it up."
    server.ask("and now?", session="s")
    assert "tool_calls" not in upstream.last["messages"][2]


def test_parameters_reach_the_model_and_the_agents_own_are_the_default(server: AgentServer, upstream: Upstream) -> None:
    server.ask("hello")
    assert upstream.last["temperature"] == 0.7
    fields: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["END"],
        "seed": 7,
        "presence_penalty": 1,
        "frequency_penalty": -1,
    }
    server.ask("hello", **fields)
    assert {name: upstream.last[name] for name in fields} == fields


def test_e9_a_requests_system_messages_follow_the_agents_prompt_and_are_not_kept(
    upstream: Upstream, upstream_url: str
) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, system_prompt="I am the agent.") as server:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}, HELLO]
        server.post({"model": MODEL, "messages": messages}, headers={"X-Session-ID": "s"})
        first = upstream.last["messages"][0]
        server.ask("again", session="s")
    assert first["role"] == "system"
    assert first["content"].startswith("I am the agent.\nToday is ")
    assert first["content"].endswith("\n\nBe brief.\n\nBe kind.")
    assert "Be brief." not in upstream.last["messages"][0]["content"]


def test_langchain_asks_streamed_and_not(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["안녕", "하세요"], usage=(7, 3))
    client = ChatOpenAI(base_url=f"{server.url}/v1", api_key=SecretStr("none"), model=MODEL)
    answer = client.invoke("hello")
    assert (answer.text, answer.response_metadata["finish_reason"]) == ("안녕하세요", "stop")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 10
    assert "".join(chunk.text for chunk in client.stream("hello")) == "안녕하세요"


def test_a_folder_with_a_name_of_ours_is_not_taken_for_ours(
    tmp_path: Path, upstream: Upstream, upstream_url: str
) -> None:
    for name in ("graph", "tools"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('somebody else')")
    with agent_server(ollama_base_url=upstream_url) as server:
        server.ask("hello")
    assert {offered["function"]["name"] for offered in upstream.last["tools"]} == {"get_weather", "search_web"}
