"""Conversations are sessions: made before their first turn, continued in both protocols, read and changed by item."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.agent_server import CERTIFICATES, MODEL, AgentServer, ClosedWhenUnused, agent_server
from tests.support.responses import ASK, create, get, refused, text_of, user
from tests.support.upstream import Answer, Call, Json, Upstream

# What differs between the kinds of databases is tried in test_chains.py and test_background.py with each change.
pytestmark = [
    pytest.mark.usefixtures("every_database"),
    pytest.mark.parametrize(
        "every_database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)], indirect=True
    ),
]


@pytest.fixture
def client(server: AgentServer) -> Iterator[openai.OpenAI]:
    """The SDK, which holds every answer against its types."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=ClosedWhenUnused(verify=CERTIFICATES),
        _strict_response_validation=True,
    ) as made:
        yield made


def call(server: AgentServer, method: str, path: str, **body: Any) -> httpx.Response:
    url = f"{server.url}/v1/conversations{path}"
    return httpx.request(method, url, json=body or None, verify=CERTIFICATES)


def texts(upstream: Upstream) -> list[str]:
    """What the model was shown last, without the system message."""
    return [message["content"] for message in upstream.last["messages"][1:]]


def said(items: list[Json]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


def test_a_conversation_s_life_with_the_sdk(client: openai.OpenAI, upstream: Upstream) -> None:
    made = client.conversations.create(metadata={"topic": "a"}, items=[{"role": "user", "content": "one"}])
    assert (made.object, made.metadata) == ("conversation", {"topic": "a"})
    assert client.conversations.retrieve(made.id) == made
    response = client.responses.create(model=MODEL, input="two", conversation=made.id)
    assert texts(upstream) == ["one", "two"]
    assert response.conversation
    assert response.conversation.id == made.id
    added = client.conversations.items.create(
        made.id,
        items=[{"role": "assistant", "content": "From elsewhere."}, {"role": "user", "content": "three"}],
    )
    assert len(added.data) == 2
    client.responses.create(model=MODEL, input="four", conversation=made.id)
    # What the assistant says twice in a row is one message.
    assert texts(upstream) == ["one", "two", "You said: two", "From elsewhere.", "three", "four"]
    listed = list(client.conversations.items.list(made.id, order="asc", limit=2))
    assert [item.type for item in listed] == ["message"] * 7
    ids = [str(item.id) for item in listed if item.type == "message"]
    assert len(set(ids)) == 7
    assert [str(item.id) for item in client.conversations.items.list(made.id) if item.type == "message"] == ids[::-1]
    assert client.conversations.items.retrieve(ids[3], conversation_id=made.id) == listed[3]
    changed = client.conversations.items.delete(ids[3], conversation_id=made.id)
    assert (changed.id, changed.metadata) == (made.id, {"topic": "a"})
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(ids[3], conversation_id=made.id)
    client.responses.create(model=MODEL, input="five", conversation=made.id)
    assert "From elsewhere." not in texts(upstream)
    assert texts(upstream)[-3:] == ["four", "You said: four", "five"]
    assert client.conversations.update(made.id, metadata={"topic": "b"}).metadata == {"topic": "b"}
    gone = client.conversations.delete(made.id)
    assert (gone.deleted, gone.object) == (True, "conversation.deleted")
    with pytest.raises(openai.NotFoundError) as raised:
        client.conversations.retrieve(made.id)
    assert raised.value.code == "conversation_not_found"


def test_a_session_is_a_conversation(server: AgentServer, upstream: Upstream) -> None:
    server.ask("one", session="mine")
    described = call(server, "GET", "/mine").json()
    assert (described["id"], described["object"], described["metadata"]) == ("mine", "conversation", {})
    items = call(server, "GET", "/mine/items?order=asc").json()["data"]
    assert said(items) == ["one", "You said: one"]
    first = items[0]["id"]
    assert call(server, "GET", f"/mine/items/{first}").json() == items[0]
    assert call(server, "DELETE", f"/mine/items/{first}").status_code == 200
    create(server, input="two", conversation="mine")
    assert texts(upstream) == ["You said: one", "two"]


def test_an_empty_conversation_is_listed_among_the_sessions(server: AgentServer) -> None:
    made = call(server, "POST", "", metadata={}).json()
    [listed] = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    assert (listed["id"], listed["turns"], listed["status"]) == (made["id"], 0, "idle")
    empty = call(server, "GET", f"/{made['id']}/items").json()
    assert empty == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
    response = create(server, input="one", conversation=made["id"])
    assert text_of(response) == "You said: one"


def test_system_messages_of_a_conversation_stand(server: AgentServer, upstream: Upstream) -> None:
    made = call(server, "POST", "", items=[{"role": "developer", "content": "Be kind."}]).json()
    create(server, input="one", conversation=made["id"], instructions="Be brief.")
    create(server, input="two", conversation=made["id"])
    assert upstream.last["messages"][0]["content"].endswith("\n\nBe kind.")
    items = call(server, "GET", f"/{made['id']}/items?order=asc").json()["data"]
    assert [item["role"] for item in items] == ["developer", "user", "assistant", "user", "assistant"]
    assert call(server, "DELETE", f"/{made['id']}/items/{items[0]['id']}").status_code == 200
    create(server, input="three", conversation=made["id"])
    assert "Be kind." not in upstream.last["messages"][0]["content"]
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]


def test_calls_and_outputs_may_be_added_one_by_one(server: AgentServer, upstream: Upstream) -> None:
    """As the sessions of openai-agents do, where a tool waits for approval."""
    name = call(server, "POST", "", items=[user("paint")]).json()["id"]
    made = {"type": "function_call", "call_id": "c", "name": "ask_user", "arguments": "{}"}
    found = {"type": "function_call_output", "call_id": "c", "output": "Blue."}
    for item in (made, found):
        assert call(server, "POST", f"/{name}/items", items=[item]).status_code == 200
    assert call(server, "POST", f"/{name}/items", items=[found]).status_code == 400, "without a call"
    create(server, input="now", conversation=name)
    assert [message["role"] for message in upstream.last["messages"][1:]] == ["user", "assistant", "tool", "user"]


def test_a_call_and_its_output_are_taken_out_together(server: AgentServer) -> None:
    made = {"type": "function_call", "call_id": "c", "name": "ask_user", "arguments": "{}"}
    found = {"type": "function_call_output", "call_id": "c", "output": "Blue."}
    for which, left in ((1, ["message"]), (2, ["message", "function_call"])):
        name = call(server, "POST", "", items=[user("paint"), made, found]).json()["id"]
        listed = call(server, "GET", f"/{name}/items?order=asc").json()["data"]
        assert call(server, "DELETE", f"/{name}/items/{listed[which]['id']}").status_code == 200
        now = call(server, "GET", f"/{name}/items?order=asc").json()["data"]
        assert [item["type"] for item in now] == left


def test_calls_of_the_server_s_tools_are_added_with_their_results(server: AgentServer, upstream: Upstream) -> None:
    found = {
        "type": "mcp_call",
        "id": "mcp_1",
        "server_label": "s",
        "name": "look",
        "arguments": "{}",
        "output": "Rain.",
    }
    made = call(server, "POST", "", items=[user("weather?"), found]).json()
    items = call(server, "GET", f"/{made['id']}/items?order=asc").json()["data"]
    assert [item["type"] for item in items] == ["message", "mcp_call"]
    create(server, input="and now?", conversation=made["id"])
    assert texts(upstream)[2:] == ["Rain.", "and now?"]


def test_a_waiting_call_is_answered_over_the_conversation(server: AgentServer, upstream: Upstream) -> None:
    made = call(server, "POST", "", metadata={}).json()
    upstream.script(Answer(calls=[Call("ask_user", "{}")]))
    asked = create(server, input="paint", tools=[ASK], conversation=made["id"])
    output = {"type": "function_call_output", "call_id": asked["output"][0]["call_id"], "output": "Blue."}
    assert text_of(create(server, input=[output], conversation=made["id"])) == "You said: Blue."


def test_what_was_added_is_no_response(server: AgentServer) -> None:
    made = call(server, "POST", "", items=[user("one")]).json()
    [item] = call(server, "GET", f"/{made['id']}/items").json()["data"]
    response_id = f"resp_{item['id'].split('_')[1]}"
    assert get(server, response_id).status_code == 404
    assert refused(server, previous_response_id=response_id)[2] == "previous_response_not_found"
    assert text_of(create(server, input=[{"type": "item_reference", "id": item["id"]}])) == "You said: one"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/unknown", {}),
        ("POST", "/unknown", {"metadata": {}}),
        ("DELETE", "/unknown", {}),
        ("GET", "/unknown/items", {}),
        ("POST", "/unknown/items", {"items": []}),
        ("GET", "/unknown/items/msg_1", {}),
        ("DELETE", "/unknown/items/msg_1", {}),
    ],
)
def test_an_unknown_conversation_is_a_404(server: AgentServer, method: str, path: str, body: Json) -> None:
    answer = call(server, method, path, **body)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [user("x")] * 21}, "items"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"items": [{"role": "user", "content": [{"type": "video"}]}]}, "items[0].content[0].type"),
    ],
)
def test_what_a_conversation_cannot_begin_with(server: AgentServer, body: Json, param: str) -> None:
    answer = call(server, "POST", "", **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert httpx.get(f"{server.url}/v1/sessions").json()["data"] == []


def test_another_principal_s_conversation_is_unknown(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="one,two") as server:
        mine, theirs = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
        url = f"{server.url}/v1/conversations"
        made = httpx.post(url, json={"items": [user("one")]}, headers=mine).json()
        assert httpx.get(f"{url}/{made['id']}/items", headers=mine).status_code == 200
        for path in ("", "/items"):
            assert httpx.get(f"{url}/{made['id']}{path}", headers=theirs).status_code == 404
        assert httpx.delete(f"{url}/{made['id']}", headers=theirs).status_code == 404


@given(steps=st.lists(st.tuples(st.sampled_from(["add", "answer", "take out"]), st.integers(0, 20)), max_size=6))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_items_are_what_the_model_is_shown(
    server: AgentServer, upstream: Upstream, steps: list[tuple[str, int]]
) -> None:
    """Whatever is added, answered and taken out."""
    name = call(server, "POST", "", metadata={}).json()["id"]
    expected: list[str] = []
    for number, (what, which) in enumerate(steps):
        if what == "add":
            call(server, "POST", f"/{name}/items", items=[user(f"added {number}")])
            expected.append(f"added {number}")
        elif what == "answer":
            create(server, input=f"asked {number}", conversation=name)
            expected += [f"asked {number}", f"You said: asked {number}"]
        elif expected:
            items = call(server, "GET", f"/{name}/items?order=asc&limit=100").json()["data"]
            assert call(server, "DELETE", f"/{name}/items/{items[which % len(items)]['id']}").status_code == 200
            del expected[which % len(expected)]
        listed = call(server, "GET", f"/{name}/items?order=asc&limit=100").json()["data"]
        assert said(listed) == expected
    create(server, input="the last", conversation=name)
    assert "\n\n".join(texts(upstream)) == "\n\n".join([*expected, "the last"])


@pytest.mark.parametrize(("detail", "listed"), [("low", "low"), ("AAA", "auto"), (None, "auto")])
def test_r26_an_image_is_listed_with_a_detail_that_openai_knows(
    server: AgentServer, detail: str | None, listed: str
) -> None:
    image = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": detail}
    made = call(server, "POST", "", items=[{"role": "user", "content": [image]}]).json()
    [item] = call(server, "GET", f"/{made['id']}/items").json()["data"]
    assert item["content"] == [{**image, "detail": listed}]


FAILED = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no"}]}


@pytest.mark.parametrize(
    ("error", "listed"),
    [(None, None), ({}, None), ([None], None), ("no", "no"), ({"message": "no"}, "no"), (FAILED, FAILED)],
)
def test_r28_the_error_of_a_call_is_listed_in_openai_s_forms(
    server: AgentServer, error: object, listed: object
) -> None:
    call = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "look", "arguments": "{}", "error": error}
    made = httpx.post(f"{server.url}/v1/conversations", json={"items": [call]}).json()
    [item] = httpx.get(f"{server.url}/v1/conversations/{made['id']}/items").json()["data"]
    assert item["error"] == listed
    assert item["status"] == ("failed" if listed else "completed")
