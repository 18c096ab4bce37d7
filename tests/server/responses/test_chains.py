"""State: a response id is a place in a session. Whatever was answered can be continued, in this protocol or another."""

from typing import Any

import httpx
import pytest

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.databases import select
from tests.support.responses import ASK, create, events_of, get, output, post, refused, text_of, user
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("every_database")


def texts(upstream: Upstream) -> list[str]:
    """What the model was shown last, without the system message."""
    return [message["content"] for message in upstream.last["messages"][1:]]


def session(server: AgentServer, name: str) -> Json:
    described: Json = httpx.get(f"{server.url}/v1/sessions/{name}").json()
    return described


def session_of(answer: httpx.Response) -> str:
    return answer.headers["x-session-id"]


def replay(*responses: tuple[str, Json]) -> list[Json]:
    """The items of a client that sends everything again."""
    return [item for text, response in responses for item in (user(text), *response["output"])]


def test_r42_a_response_continues_the_whole_chain(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="one")
    second = create(server, input="two", previous_response_id=first["id"])
    third = create(server, input="three", previous_response_id=second["id"])
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]
    assert third["previous_response_id"] == second["id"]


def test_r44_an_old_response_forks_and_every_branch_stays(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="one")
    left = create(server, input="left", previous_response_id=first["id"])
    right = create(server, input="right", previous_response_id=first["id"])
    again = create(server, input="right", previous_response_id=first["id"])
    assert texts(upstream) == ["one", "You said: one", "right"]
    create(server, input="more", previous_response_id=left["id"])
    assert texts(upstream) == ["one", "You said: one", "left", "You said: left", "more"]
    create(server, input="more", previous_response_id=right["id"])
    assert texts(upstream) == ["one", "You said: one", "right", "You said: right", "more"]
    [told] = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    assert (told["branches"], told["status"]) == (3, "idle")
    assert get(server, again["id"]).json() == again


def test_r47_a_chain_is_a_session_that_chat_continues(server: AgentServer, upstream: Upstream) -> None:
    answer = post(server, input="one")
    name = session_of(answer)
    second = post(server, input="two", previous_response_id=answer.json()["id"])
    assert session_of(second) == name
    assert session(server, name)["turns"] == 2
    assert server.ask("three", session=name) == "You said: three"
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]
    assert session_of(get(server, second.json()["id"])) == name


def test_a_chat_session_is_continued_as_a_conversation(server: AgentServer, upstream: Upstream) -> None:
    server.ask("one", session="mine")
    first = create(server, input="two", conversation="mine")
    assert texts(upstream) == ["one", "You said: one", "two"]
    assert first["conversation"] == {"id": "mine"}
    create(server, input="three", conversation={"id": "mine"})
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]
    create(server, input="fork", previous_response_id=first["id"])
    create(server, input="four", conversation="mine")
    assert texts(upstream)[-3:] == ["fork", "You said: fork", "four"], "the newest turn is the fork"
    server.ask("five", session="mine")
    listed = get(server, create(server, input="six", conversation="mine")["id"] + "/input_items", order="asc").json()
    said = [(item["role"], item["content"][0]["text"]) for item in listed["data"]]
    numbers = ["one", "two", "fork", "four", "five"]
    assert said == [
        *(line for text in numbers for line in (("user", text), ("assistant", f"You said: {text}"))),
        ("user", "six"),
    ]


def test_a_session_s_header_is_a_session_here_too(server: AgentServer, upstream: Upstream) -> None:
    create(server, input="one", headers={"X-Session-ID": "s"})
    create(server, input="two", headers={"X-Session-ID": "s"})
    assert texts(upstream) == ["one", "You said: one", "two"]
    create(server, input="three", metadata={"session_id": "s"})
    assert texts(upstream)[-1] == "three"
    assert len(texts(upstream)) == 5


def test_a_client_that_sends_everything_again_is_reconciled(weather_server: AgentServer, upstream: Upstream) -> None:
    """As Open WebUI does, under the id of its chat: without ids and status."""
    headers = {"X-OpenWebUI-Chat-Id": "chat"}
    upstream.script(Answer(["Let me look."], calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(["5 °C."]))
    first = create(weather_server, input="weather?", headers=headers)
    sent = [{name: item[name] for name in item if name not in ("id", "status")} for item in first["output"]]
    again = [user("weather?"), *sent, user("and now?")]
    second = create(weather_server, input=again, headers=headers)
    shown = upstream.last["messages"][1:]
    assert [message["role"] for message in shown] == ["user", "assistant", "tool", "assistant", "user"]
    assert shown[1]["tool_calls"][0]["id"].startswith("call_"), "from the checkpoint, not from the client's items"
    described = session(weather_server, "chat")
    assert (described["turns"], described["branches"]) == (2, 1)

    create(weather_server, input=again, headers=headers)
    assert session(weather_server, "chat")["branches"] == 2, "regenerated"
    create(weather_server, input=[*again, *second["output"], user("bye")], headers=headers)
    assert session(weather_server, "chat")["turns"] == 3
    create(
        weather_server,
        input=[user("weather?"), {"role": "assistant", "content": "Let me look.\n\n5 °C."}, user("x")],
        headers=headers,
    )
    assert session(weather_server, "chat")["branches"] == 3, "a client that keeps the text alone is on the same tree"


def test_r12_references_are_the_items(server: AgentServer, upstream: Upstream) -> None:
    """As the AI SDK does, with nothing else to say which conversation it is."""
    upstream.script(Answer(["First."], reasoning=["hm"]))
    answer = post(server, input="one")
    first = answer.json()
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    second = post(server, input=[user("one"), *references, user("two")])
    assert texts(upstream) == ["one", "First.", "two"]
    assert session_of(second) == session_of(answer)
    assert session(server, session_of(answer))["turns"] == 2
    listed = get(server, second.json()["id"] + "/input_items").json()["data"]
    own = listed[0]["id"]
    third = post(server, input=[user("one"), *references, {"id": own}, user("three")])
    assert texts(upstream) == ["one", "First.", "two", "three"]
    assert session_of(third) == session_of(answer)


def test_r12_an_unknown_reference_is_named(server: AgentServer) -> None:
    unstored = create(server, store=False)["output"][0]["id"]
    answer = post(server, input=[{"type": "item_reference", "id": unstored}])
    assert answer.status_code == 404
    assert unstored in answer.json()["error"]["message"]


def test_r13_what_the_chain_has_is_not_appended_again(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="one")
    second = create(server, input=[*replay(("one", first)), user("two")], previous_response_id=first["id"])
    assert texts(upstream) == ["one", "You said: one", "two"]
    create(server, input=[*second["output"], user("three")], previous_response_id=second["id"])
    expected = ["one", "You said: one", "two", "You said: two", "three"]
    assert texts(upstream) == expected
    create(server, input=[*replay(("one", first), ("two", second)), user("three")], previous_response_id=second["id"])
    assert texts(upstream) == expected


@pytest.mark.parametrize("repeated", [True, False])
def test_r13_calls_and_outputs_of_a_tool_loop_are_merged(
    server: AgentServer, upstream: Upstream, repeated: bool
) -> None:
    upstream.script(Answer(["Wait."], calls=[Call("ask_user", '{"question": "Colour?"}')]))
    asked = create(server, input="paint", tools=[ASK])
    message, call = asked["output"]
    results = [output(call["call_id"], "Blue.")]
    for items in ([message, call, *results], [call, *results]) if repeated else (results,):
        create(server, input=items, previous_response_id=asked["id"], tools=[ASK])
        roles = [shown["role"] for shown in upstream.last["messages"][1:]]
        assert roles == ["user", "assistant", "tool"]
    name = httpx.get(f"{server.url}/v1/sessions").json()["data"][0]["id"]
    answer = post(
        server,
        input=[*replay(("paint", asked)), *results, {"role": "assistant", "content": "You said: Blue."}, user("x")],
        headers={"X-Session-ID": name},
    )
    assert session(server, name)["turns"] == 3, answer.text


def test_results_alone_find_the_session_that_waits_for_them(server: AgentServer, upstream: Upstream) -> None:
    """As the AI SDK's tool loop does, whose calls have no ids."""
    upstream.script(Answer(calls=[Call("ask_user", "{}")]))
    answer = post(server, input="paint", tools=[ASK])
    call = answer.json()["output"][0]
    replayed = [user("paint"), {**call, "id": None}, output(call["call_id"], "Blue.")]
    second = post(server, input=replayed, tools=[ASK])
    assert session_of(second) == session_of(answer)
    assert text_of(second.json()) == "You said: Blue."


def test_calls_that_the_user_gave_up_get_a_result(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("ask_user", "{}")]))
    asked = create(server, input="paint", tools=[ASK])
    second = create(server, input="never mind", previous_response_id=asked["id"])
    assert texts(upstream)[1:] == [None, "This tool call was cancelled by the user.", "never mind"]
    items = get(
        server, create(server, input="x", previous_response_id=second["id"])["id"] + "/input_items", order="asc"
    )
    kinds = [item["type"] for item in items.json()["data"]]
    assert kinds == ["message", "function_call", "function_call_output", "message", "message", "message"]


def test_r45_what_cannot_be_continued(server: AgentServer, upstream: Upstream) -> None:
    unknown = (400, "previous_response_id", "previous_response_not_found")
    unstored = create(server, store=False)
    assert refused(server, previous_response_id=unstored["id"]) == unknown
    deleted = create(server)
    assert httpx.delete(f"{server.url}/v1/responses/{deleted['id']}").json() == {
        "id": deleted["id"],
        "object": "response",
        "deleted": True,
    }
    assert refused(server, previous_response_id=deleted["id"]) == unknown
    asked = len(upstream.requests)
    first = create(server)
    answer = post(server, previous_response_id=first["id"], headers={"X-Session-ID": "another"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "previous_response_id")
    assert len(upstream.requests) == asked + 1


def test_r46_without_store_nothing_is_written(server: AgentServer, upstream: Upstream, every_database: str) -> None:
    first = create(server, input="one")
    counts = [
        select(every_database, f"SELECT count(*) FROM {table}") for table in ("turns", "responses", "checkpoints")
    ]
    unstored = create(server, input="two", previous_response_id=first["id"], store=False)
    assert texts(upstream) == ["one", "You said: one", "two"]
    assert unstored["store"] is False
    assert get(server, unstored["id"]).status_code == 404
    now = [select(every_database, f"SELECT count(*) FROM {table}") for table in ("turns", "responses", "checkpoints")]
    assert now == counts


def test_r49_a_deleted_response_leaves_its_children(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="one")
    second = create(server, input="two", previous_response_id=first["id"])
    httpx.delete(f"{server.url}/v1/responses/{first['id']}")
    assert get(server, first["id"]).status_code == 404
    create(server, input="three", previous_response_id=second["id"])
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]
    listed = get(server, second["id"] + "/input_items", order="asc").json()["data"]
    assert [item["content"][0]["text"] for item in listed] == ["one", "You said: one", "two"]


def test_a_deleted_session_takes_its_responses_with_it(server: AgentServer, every_database: str) -> None:
    answer = post(server, input="a secret")
    assert httpx.delete(f"{server.url}/v1/sessions/{session_of(answer)}").status_code == 200
    assert get(server, answer.json()["id"]).status_code == 404
    assert select(every_database, "SELECT count(*) FROM responses") == [(0,)]


def test_r3_another_principal_s_response_is_unknown(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="one,two") as server:
        mine, theirs = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
        response = create(server, headers=mine)
        url = f"{server.url}/v1/responses/{response['id']}"
        assert httpx.get(url, headers=mine).json() == response
        unknown = httpx.get(f"{server.url}/v1/responses/resp_1", headers=theirs).json()["error"]
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            answer = httpx.request(method, url + path, headers=theirs)
            assert answer.status_code == 404
            assert {**answer.json()["error"], "message": ""} == {**unknown, "message": ""}
        assert refused(server, headers=theirs, previous_response_id=response["id"])[0] == 400
        reference = {"type": "item_reference", "id": response["output"][0]["id"]}
        assert refused(server, headers=theirs, input=[reference])[0] == 404
        assert httpx.get(url, headers=mine).status_code == 200


def test_r26_ids_are_the_same_everywhere(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hello."], reasoning=["hm"], calls=[Call("ask_user", "{}")]))
    events = events_of(server, tools=[ASK])
    final = events[-1]["response"]
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == final["output"]
    assert added == [item["id"] for item in done]
    assert get(server, final["id"]).json() == final


def test_r43_a_response_is_stored_before_its_last_event(upstream_url: str, every_database: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        body = {"model": MODEL, "input": "hello", "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/responses", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: response.completed"):
                    stored = select(every_database, "SELECT count(*) FROM responses JOIN turns ON response = id")
                    break
    assert stored == [(1,)]


def test_a_client_that_leaves_cancels_its_response(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once ", "upon"], hold=True))
    body = {"model": MODEL, "input": "hello", "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body) as answer:
        lines = answer.iter_lines()  # which closes the stream when it is gone
        for line in lines:
            if 'upon"' in line:
                break
            if line.startswith("data:") and "response.created" in line:
                name, response_id = session_of(answer), line.split('"id":"')[1].split('"')[0]
        assert get(server, response_id).status_code == 404, "it is not stored before its end"
        del lines
    until(lambda: get(server, response_id).status_code == 200, within=5.0)
    kept = get(server, response_id).json()
    assert (kept["status"], text_of(kept)) == ("cancelled", "Once upon")
    assert kept["output"][-1]["status"] == "incomplete"
    assert refused(server, previous_response_id=response_id) == (400, "previous_response_id", "invalid_value")
    assert session(server, name)["turns"] == 1
    assert httpx.post(f"{server.url}/v1/responses/{response_id}/cancel").status_code == 400


@pytest.mark.parametrize(
    ("params", "status"),
    [({"limit": 0}, 400), ({"limit": 101}, 400), ({"order": "up"}, 400), ({"after": "msg_1"}, 400)],
)
def test_r4_pages_have_bounds(server: AgentServer, params: Json, status: int) -> None:
    response = create(server)
    assert get(server, response["id"] + "/input_items", **params).status_code == status


def test_r4_items_come_in_pages(server: AgentServer) -> None:
    response = create(server, input=[user(str(number)) for number in range(5)])
    path = response["id"] + "/input_items"
    newest = get(server, path, limit=2).json()
    assert [item["content"][0]["text"] for item in newest["data"]] == ["4", "3"]
    assert (newest["has_more"], newest["last_id"]) == (True, newest["data"][-1]["id"])
    rest = get(server, path, limit=100, after=newest["last_id"]).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["2", "1", "0"]
    assert rest["has_more"] is False


@pytest.mark.parametrize(
    "params", [{"starting_after": "x"}, {"stream": "true"}, {"stream": "true", "starting_after": 1}]
)
def test_only_what_was_made_in_the_background_is_streamed_again(server: AgentServer, params: Any) -> None:
    response = create(server)
    answer = get(server, response["id"], **params)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == ("starting_after" if params == {"starting_after": "x"} else "stream")


def test_what_responses_store_counts(server: AgentServer) -> None:
    answer = post(server, input="x" * 10_000)
    name = session_of(answer)
    counted = session(server, name)["bytes"]
    assert counted > 20_000, "in the checkpoint and in the response"
    httpx.delete(f"{server.url}/v1/responses/{answer.json()['id']}")
    assert 10_000 < session(server, name)["bytes"] < counted - 10_000


def test_a_chain_stores_each_item_once(server: AgentServer, every_database: str) -> None:
    headers, history = {"X-Session-ID": "long"}, list[Json]()
    for number in range(5):
        history.append(user(f"{number}" * 1000))
        history += create(server, input=history, headers=headers)["output"]
    [(stored,)] = select(every_database, "SELECT sum(length(input)) FROM responses")
    assert stored < 5 * 1500
