"""What must not go wrong with state: sessions deleted meanwhile, quotas, repeated items, lost and failed turns."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.responses.test_background import begin, cancel, ended, replayed
from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.databases import change, select
from tests.support.responses import ASK, create, events_of, get, output, post, reference, refused, text_of, user
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

# What differs between the kinds of databases is tried in test_chains.py and test_background.py with each change.
pytestmark = [
    pytest.mark.usefixtures("every_database"),
    pytest.mark.parametrize(
        "every_database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)], indirect=True
    ),
]


def texts(upstream: Upstream) -> list[str]:
    """What the model was shown last, without the system message."""
    return [message["content"] for message in upstream.last["messages"][1:]]


def session_of(server: AgentServer, response: Json) -> str:
    return get(server, response["id"]).headers["x-session-id"]


def conversation(server: AgentServer, **fields: Any) -> str:
    return str(httpx.post(f"{server.url}/v1/conversations", json=fields).json()["id"])


def items_of(server: AgentServer, name: str) -> list[Json]:
    items: list[Json] = httpx.get(f"{server.url}/v1/conversations/{name}/items?order=asc&limit=100").json()["data"]
    return items


def test_what_failed_in_the_background_is_counted_once(server: AgentServer, upstream: Upstream) -> None:
    first = create(server)
    name = session_of(server, first)

    def stored() -> int:
        return int(httpx.get(f"{server.url}/v1/sessions/{name}").json()["bytes"])

    before = stored()
    upstream.script(Answer(status=400, error="no"))
    failed = ended(server, begin(server, previous_response_id=first["id"], instructions="x" * 10_000))
    until(lambda: stored() > before + 10_000, within=5.0)
    httpx.delete(f"{server.url}/v1/responses/{failed['id']}")
    assert stored() == before


def test_a_key_at_its_quota_begins_nothing(upstream_url: str) -> None:
    key = {"Authorization": "Bearer one"}
    Path("keys.toml").write_text('[mina]\nkey = "one"\nstored_bytes = 3000\n')
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys_file="keys.toml") as server:
        create(server, headers=key, input="x" * 4000)
        for fields in ({}, {"background": True}):
            assert refused(server, headers=key, **fields) == (429, None, "insufficient_quota")
        made = httpx.post(f"{server.url}/v1/conversations", json={}, headers=key)
        assert made.json()["error"]["code"] == "insufficient_quota"


def test_events_that_nobody_can_ask_for_are_not_kept(server: AgentServer, every_database: str) -> None:
    ended(server, begin(server))
    until(lambda: select(every_database, "SELECT count(*) FROM response_events") == [(0,)], within=5.0)


def test_a_follower_is_told_that_the_session_was_deleted(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once "], hold=True))
    body = {"model": MODEL, "input": "hello", "stream": True, "background": True}
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=30) as answer:
        name = answer.headers["x-session-id"]
        lines = answer.iter_lines()
        while "Once" not in next(lines):
            pass
        assert httpx.delete(f"{server.url}/v1/sessions/{name}").status_code == 200
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert sum(line.startswith("event: response.failed") for line in rest) == 1


def test_what_comes_after_the_last_event_is_nothing(server: AgentServer) -> None:
    events = events_of(server, background=True)
    assert replayed(server, events[0]["response"]["id"], 1000) == []


def test_an_item_is_taken_out_after_the_turn_that_runs(server: AgentServer, upstream: Upstream) -> None:
    name = conversation(server, items=[user("one"), user("two")])
    upstream.script(Answer(["slow"], pause=0.5))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(create, server, input="three", conversation=name)
        until(lambda: upstream.streaming == 1, within=5.0)
        first = items_of(server, name)[0]["id"]
        assert httpx.delete(f"{server.url}/v1/conversations/{name}/items/{first}", timeout=30).status_code == 200
        running.result()
    assert [item["content"][0]["text"] for item in items_of(server, name)] == ["two", "three", "slow"]


def test_the_same_words_can_be_added_twice(server: AgentServer) -> None:
    name = conversation(server, items=[user("hi")])
    added = httpx.post(f"{server.url}/v1/conversations/{name}/items", json={"items": [user("hi")]}).json()["data"]
    assert [item["id"] for item in items_of(server, name)][1:] == [item["id"] for item in added]


def test_what_system_messages_said_stands_whatever_comes_after(server: AgentServer, upstream: Upstream) -> None:
    def told() -> int:
        return str(upstream.last["messages"][0]["content"]).count("Be kind.")

    name = conversation(server, items=[{"role": "developer", "content": "Be kind."}])
    second = create(server, input="one", conversation=name)
    httpx.delete(f"{server.url}/v1/responses/{second['id']}")
    create(server, input="two", conversation=name)
    assert told() == 1
    server.ask("three", session=name)
    assert told() == 0, "in chat completions they are of one request"
    last = create(server, input="four", conversation=name)
    assert told() == 1
    again = [{"role": "developer", "content": "Be kind."}, user("five")]
    create(server, input=again, previous_response_id=last["id"])
    assert told() == 1, "said again, it stands once"


def test_r13_items_are_merged_by_their_ids(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="one")
    second = create(server, input="two", previous_response_id=first["id"])
    asked = get(server, second["id"] + "/input_items").json()["data"][0]
    repeated = [asked, *second["output"], user("three")]
    third = create(server, input=repeated, previous_response_id=second["id"])
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]
    listed = get(server, third["id"] + "/input_items", order="asc", limit=100).json()["data"]
    assert len({item["id"] for item in listed}) == len(listed) == 5


def test_r13_a_call_of_the_server_s_tool_goes_with_its_result(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(["5 °C."]))
    first = create(weather_server, input="weather?")
    repeated = [*first["output"][:1], user("and now?")]
    create(weather_server, input=repeated, previous_response_id=first["id"])
    assert [message["role"] for message in upstream.last["messages"][1:]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]


def test_ids_that_clients_made_up_are_replaced(server: AgentServer) -> None:
    same = [{**user(text), "id": "m1"} for text in ("a", "b", "c")]
    name = conversation(server, items=same)
    listed = items_of(server, name)
    assert len({item["id"] for item in listed}) == 3


@pytest.mark.parametrize("path", ["items", "messages"])
def test_an_agent_that_is_gone_is_named(server: AgentServer, every_database: str, path: str) -> None:
    server.ask("one", session="s")
    change(every_database, "UPDATE turns SET agent = 'gone'")
    where = "conversations" if path == "items" else "sessions"
    answer = httpx.get(f"{server.url}/v1/{where}/s/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "agent_not_found")


def test_without_its_checkpoint_a_turn_cannot_be_continued(server: AgentServer, every_database: str) -> None:
    first = create(server)
    change(every_database, "DELETE FROM checkpoints")
    for store in (False, True):
        found = refused(server, previous_response_id=first["id"], store=store)
        assert found == (400, "previous_response_id", "previous_response_not_found")


def test_the_input_of_a_response_is_known_while_it_runs(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once"], hold=True))
    begun = begin(server, input="hello")
    path = f"{begun['id']}/input_items"
    assert [item["content"][0]["text"] for item in get(server, path).json()["data"]] == ["hello"]
    assert cancel(server, begun).json()["usage"] is None
    assert [item["content"][0]["text"] for item in get(server, path).json()["data"]] == ["hello"]


def test_what_a_tool_said_when_it_failed_is_known_again(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Nowhere"}')]), Answer(["Sorry."]))
    first = create(weather_server, input="weather?")
    [failed] = [item for item in first["output"] if item["type"] == "mcp_call"]
    said = failed["error"]["content"][0]["text"]
    second = create(weather_server, input=[user("weather?"), *first["output"], user("why?")], store=False)
    assert second["status"] == "completed"
    assert texts(upstream)[2] == said
    name = session_of(weather_server, first)
    message = next(item for item in items_of(weather_server, name) if item["type"] == "message")
    httpx.delete(f"{weather_server.url}/v1/conversations/{name}/items/{message['id']}")
    assert [item for item in items_of(weather_server, name) if item["type"] == "mcp_call"] == [failed]


def test_reasoning_can_be_sent_back_where_nothing_is_stored(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Yes."], reasoning=["hm"]))
    response = create(server, store=False, include=["reasoning.encrypted_content"])
    assert response["output"][0]["encrypted_content"]
    create(server, input=[user("x"), *response["output"], user("y")], store=False)
    assert texts(upstream) == ["x", "Yes.", "y"]


def test_what_was_stopped_just_now_is_there(server: AgentServer, upstream: Upstream) -> None:
    for _ in range(5):
        upstream.script(Answer(["Once ", "upon"], hold=True))
        body = {"model": MODEL, "input": "hello", "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/responses", json=body) as answer:
            lines = answer.iter_lines()
            first = next(line for line in lines if line.startswith("data: "))
            while "upon" not in next(lines):
                pass
            del lines
        response_id = first.split('"id":"')[1].split('"')[0]
        until(lambda: upstream.streaming == 0, within=5.0)
        assert get(server, response_id).status_code == 200


def test_a_question_that_is_repeated_before_its_results_does_not_hide_them(
    server: AgentServer, upstream: Upstream
) -> None:
    """As the AI SDK sends them in a conversation, where it leaves out what has an id."""
    name = conversation(server)
    upstream.script(Answer(calls=[Call("ask_user", "{}")]))
    asked = create(server, input=[user("paint")], conversation=name, tools=[ASK])
    again = [user("paint"), output(asked["output"][0]["call_id"], "Blue.")]
    create(server, input=again, conversation=name, tools=[ASK])
    assert texts(upstream) == ["paint", None, "Blue.", "paint"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_tokens": 5}, "max_tokens", "max_output_tokens"),
        ({"response_format": {"type": "json_object"}}, "response_format", "text.format"),
        ({"messages": [user("x")]}, "messages", "input"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice", "'web_search'"),
        ({"tools": [ASK], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice.name", ""),
    ],
)
def test_what_is_meant_for_chat_completions_is_named(server: AgentServer, fields: Json, param: str, words: str) -> None:
    error = post(server, **fields).json()["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_what_is_not_known_is_not_told_back(server: AgentServer) -> None:
    assert create(server, frequency_penalty="abc", presence_penalty=[1])["frequency_penalty"] == 0.0


def test_a_conversation_that_is_too_long_is_an_input_that_is(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(status=400, error="This model's maximum context length is 4096 tokens."))
    assert refused(server) == (400, "input", "context_length_exceeded")


def test_what_is_not_kept_is_not_said_to_be(server: AgentServer) -> None:
    title = create(server, input="### Task:\nTitle?", headers={"X-OpenWebUI-Chat-Id": "c"}, background=True)
    assert (title["store"], title["background"], title["status"]) == (False, False, "completed")


def test_outputs_of_calls_that_are_left_out_are_left_out(server: AgentServer, upstream: Upstream) -> None:
    create(server, input=[{"type": "local_shell_call", "call_id": "c", "action": {}}, output("c", "x"), user("go on")])
    assert texts(upstream) == ["go on"]


def test_references_may_be_added_to_a_conversation(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="one")
    name = conversation(server, items=[user("one"), reference(first["output"][0])])
    create(server, input="two", conversation=name)
    assert texts(upstream) == ["one", "You said: one", "two"]
    unknown = {"items": [{"type": "item_reference", "id": "msg_1"}]}
    answer = httpx.post(f"{server.url}/v1/conversations/{name}/items", json=unknown)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "items[0].id")


def test_responses_are_kept_for_as_long_as_long_sessions(upstream_url: str) -> None:
    times = {"session_ttl_single": 1.0, "session_ttl": 3600.0}
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, **times) as server:
        server.ask("gone soon", session="chat")
        response, name = create(server), conversation(server)
        until(lambda: httpx.get(f"{server.url}/v1/sessions/chat").status_code == 404, within=15.0)
        assert get(server, response["id"]).status_code == 200
        assert httpx.get(f"{server.url}/v1/conversations/{name}").status_code == 200
        assert text_of(create(server, previous_response_id=response["id"])) == "You said: hello"
