"""A question and its answer, through the OpenAI SDK and over the wire, streamed and not."""

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionUserMessageParam
from pydantic import SecretStr

from tests.agent_server import MODEL, AgentServer, agent_server
from tests.open_meteo import OpenMeteo
from tests.upstream import Answer, Call, Upstream

HELLO: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}
WEATHER_CALL = Answer(calls=[Call("get_weather", '{"city": "서울"}')], usage=(20, 8))


def frames_of(server: AgentServer, **fields: Any) -> list[Any]:
    """The data of every frame of a streamed answer; [DONE] stays a string."""
    response = server.post({"model": MODEL, "messages": [HELLO], "stream": True, **fields})
    lines = response.text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines), "nothing but data lines"
    texts = [line.removeprefix("data: ") for line in lines]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def test_an_answer_is_a_chat_completion(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["안녕", "하세요"], usage=(7, 3)))
    with server.client() as client:
        completion = client.chat.completions.create(model=MODEL, messages=[HELLO])
    choice, usage = completion.choices[0], completion.usage
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "안녕하세요", "stop")
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)


def test_a_stream_is_role_then_text_then_finish_then_done(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["He", "llo"]))
    *chunks, done = frames_of(server)
    assert done == "[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "He"},
        {"content": "llo"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_is_the_last_chunk_where_it_is_asked_for(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hello"], usage=(7, 3)))
    *chunks, last, _ = frames_of(server, stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 10)


def test_streamed_and_not_streamed_say_the_same(weather_server: AgentServer, upstream: Upstream) -> None:
    answers: list[tuple[object, ...]] = []
    for stream in (False, True):
        upstream.script(WEATHER_CALL, Answer(["서울은 ", "5.3 °C입니다."], finish_reason="length", usage=(40, 9)))
        with weather_server.client() as client:
            if stream:
                chunks = list(
                    client.chat.completions.create(
                        model=MODEL, messages=[HELLO], stream=True, stream_options={"include_usage": True}
                    )
                )
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
                answers.append((text, chunks[-2].choices[0].finish_reason, chunks[-1].usage))
            else:
                completion = client.chat.completions.create(model=MODEL, messages=[HELLO])
                choice = completion.choices[0]
                answers.append((choice.message.content, choice.finish_reason, completion.usage))
    assert answers[0] == answers[1]
    assert answers[0][0] == "서울은 5.3 °C입니다."


@pytest.mark.parametrize("stream", [False, True])
def test_an_emoji_that_the_endpoint_cut_in_two_is_whole(server: AgentServer, upstream: Upstream, stream: bool) -> None:
    upstream.script(Answer(["Hi \ud83d", "\ude00!", " \ud83d"]))
    if stream:
        *chunks, _ = frames_of(server)
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    else:
        text = server.ask("hello", session="s")
        server.ask("again", session="s")
        assert upstream.last["messages"][2]["content"] == "Hi 😀! "
    assert text == "Hi 😀! "


def test_the_model_calls_a_tool_over_mcp_and_answers_from_its_result(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    upstream.script(WEATHER_CALL, lambda request: Answer([request["messages"][-1]["content"]]))
    answer = weather_server.ask("서울 날씨 알려줘")
    assert "5.3 °C" in answer
    assert "light rain" in answer
    assert [search["name"] for search in open_meteo.searches] == ["서울"]
    roles = [message["role"] for message in upstream.last["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]


def test_server_tools_never_reach_the_client(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(WEATHER_CALL, Answer(["5.3 °C"]))
    *chunks, _ = frames_of(weather_server)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert all("tool_calls" not in choice["delta"] for choice in choices)
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]


def test_usage_is_the_sum_of_the_turns_model_calls(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(WEATHER_CALL, Answer(["5.3 °C"], usage=(50, 12)))
    with weather_server.client() as client:
        usage = client.chat.completions.create(model=MODEL, messages=[HELLO]).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (70, 20)


def test_usage_is_estimated_where_the_endpoint_reports_none(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hello, how are you today?"], usage=None))
    with server.client() as client:
        usage = client.chat.completions.create(model=MODEL, messages=[HELLO]).usage
    assert usage is not None
    assert usage.prompt_tokens > 20, "the agent's prompt counts too"
    assert 5 <= usage.completion_tokens <= 8


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
        "user": "mina",
    }
    server.ask("hello", max_completion_tokens=20, max_tokens=10, **fields)
    assert {name: upstream.last[name] for name in fields} == fields
    assert upstream.last["max_tokens"] == 20, "the newer name wins, and endpoints other than OpenAI know the older"
    assert "max_completion_tokens" not in upstream.last


def test_a_requests_system_messages_follow_the_agents_prompt_and_are_not_kept(
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


def test_content_parts_pass_through(server: AgentServer, upstream: Upstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    parts = [{"type": "text", "text": "What is this?"}, image]
    server.post({"model": MODEL, "messages": [{"role": "user", "content": parts}]})
    assert upstream.last["messages"][-1]["content"] == parts
    texts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    server.post({"model": MODEL, "messages": [{"role": "user", "content": texts}]})
    assert upstream.last["messages"][-1]["content"] == "one\ntwo"


def test_langchain_asks_streamed_and_not(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["안녕", "하세요"], usage=(7, 3))
    client = ChatOpenAI(base_url=f"{server.url}/v1", api_key=SecretStr("none"), model=MODEL)
    answer = client.invoke("hello")
    assert (answer.text, answer.response_metadata["finish_reason"]) == ("안녕하세요", "stop")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 10
    assert [chunk.text for chunk in client.stream("hello") if chunk.text] == ["안녕", "하세요"]


def test_a_folder_with_a_name_of_ours_is_not_taken_for_ours(
    tmp_path: Path, upstream: Upstream, upstream_url: str
) -> None:
    for name in ("graph", "tools"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('somebody else')")
    with agent_server(ollama_base_url=upstream_url) as server:
        server.ask("hello")
    assert {offered["function"]["name"] for offered in upstream.last["tools"]} == {"get_weather", "search_web"}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_streamed_beside_the_answer_and_never_kept(
    server: AgentServer, upstream: Upstream, field: str
) -> None:
    upstream.script(Answer(["Blue."], reasoning=["The sky ", "is …"], reasoning_field=field))
    with server.client(session="s") as client:
        question: ChatCompletionUserMessageParam = {"role": "user", "content": "What colour?"}
        chunks = list(client.chat.completions.create(model=MODEL, messages=[question], stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [getattr(delta, "reasoning_content", None) for delta in deltas[1:4]] == ["The sky ", "is …", None]
    assert [delta.content for delta in deltas[:4]] == ["", None, None, "Blue."]
    server.ask("And now?", session="s")
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["What colour?", "Blue.", "And now?"]
    assert "sky" not in json.dumps(upstream.last)


def test_reasoning_is_a_field_of_a_whole_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Blue."], reasoning=["The sky."]), Answer(["Blue."]))
    body = {"model": MODEL, "messages": [{"role": "user", "content": "What colour?"}]}
    message = server.post(body).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Blue.", "The sky.")
    assert "reasoning_content" not in server.post(body).json()["choices"][0]["message"]
