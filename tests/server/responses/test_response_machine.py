"""Any tree of responses, gone on with in any of the ways that clients have, shows the model what was said on its way.

A client goes on after any response that was ever answered: by its id, by references, by replaying its items, as a
conversation, or over chat. What must hold is checked after every step.
"""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from tests.server.sessions.test_session_machine import (
    ANSWERS,
    EXAMPLES,
    KINDS,
    QUESTIONS,
    STEPS,
    World,
    assert_paired,
    transcript,
)
from tests.support.agent_server import MODEL
from tests.support.responses import ASK, event_of, output, reference, user
from tests.support.upstream import Answer, Call, Json, Upstream

Way = Literal["id", "id and items", "references", "items", "bare items"]
WAYS = st.sampled_from(["id", "id and items", "references", "items", "bare items"])


@dataclass
class Node:
    """A response that was answered."""

    session: str
    response: Json
    items: list[Json]
    """Everything that was said up to and with it."""
    said: list[Json]
    """The same as messages, as their client knows them."""
    found: int
    """How many results of the server's tools are on the way."""
    is_gone: bool = False
    given_up: int = 0
    """How many calls of the client's on the way were given up; the server adds a result for each."""


class Responses(RuleBasedStateMachine):
    """One client, which remembers all that it was answered."""

    nodes = Bundle("nodes")
    paused = Bundle("paused")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.newest: dict[str, Node] = {}
        self.turns = 0

    @rule(target=nodes, question=QUESTIONS, answer=ANSWERS, kind=KINDS, streamed=st.booleans())
    def begin(self, question: str, answer: str, kind: str, streamed: bool) -> Node:
        return self.ask(None, question, answer, kind, streamed, input=question)

    @rule(target=nodes, node=nodes, question=QUESTIONS, answer=ANSWERS, kind=KINDS, way=WAYS, streamed=st.booleans())
    def go_on(self, node: Node, question: str, answer: str, kind: str, way: Way, streamed: bool) -> Node:
        if node.is_gone and way in ("id", "id and items", "references"):
            return node
        new = user(question)
        match way:
            case "id":
                return self.ask(
                    node, question, answer, kind, streamed, previous_response_id=node.response["id"], input=[new]
                )
            case "id and items":
                items = [*node.items, new]
                return self.ask(
                    node, question, answer, kind, streamed, previous_response_id=node.response["id"], input=items
                )
            case "references":
                items = [*node.items[: -len(node.response["output"])], *map(reference, node.response["output"]), new]
            case "items":
                items = [*node.items, new]
            case "bare items":
                items = [*map(bare, node.items), new]
        return self.ask(node, question, answer, kind, streamed, session=node.session, input=items)

    @rule(target=nodes, node=nodes, question=QUESTIONS, answer=ANSWERS, kind=KINDS)
    def go_on_with_the_conversation(self, node: Node, question: str, answer: str, kind: str) -> Node:
        newest = self.newest[node.session]
        return self.ask(newest, question, answer, kind, False, conversation=newest.session, input=question)

    @rule(target=nodes, node=nodes, question=QUESTIONS, answer=ANSWERS)
    def go_on_over_chat(self, node: Node, question: str, answer: str) -> Node:
        """The newest turn of the session is one of chat then; its response is that before it."""
        said = [*node.said, {"role": "user", "content": question}]
        self.world.upstream.script(Answer([answer]))
        start = len(self.world.upstream.requests)
        headers = {"X-Session-ID": node.session, "X-Session-Mode": "full"}
        answered = self.world.client.post(
            "/v1/chat/completions", json={"model": MODEL, "messages": said}, headers=headers
        )
        text = answered.json()["choices"][0]["message"]["content"]
        self.check_shown(said, node.found, start)
        self.turns += 1
        items = [*node.items, user(question), {"type": "message", "role": "assistant", "content": text}]
        over = Node(
            node.session,
            {"output": []},
            items,
            [*said, {"role": "assistant", "content": text}],
            node.found,
            is_gone=True,
        )
        self.newest[node.session] = over
        return over

    @rule(target=paused, node=nodes, question=QUESTIONS, both=st.booleans())
    def need_the_client(self, node: Node, question: str, both: bool) -> Node:
        ours = [Call("get_weather", '{"city": "Seoul"}', id="a", index=0)] if both else []
        self.world.upstream.script(Answer(["Well."], [*ours, Call("ask_user", '{"question":"?"}', id="b", index=1)]))
        start = len(self.world.upstream.requests)
        after = {} if node.is_gone else {"previous_response_id": node.response["id"]}
        items = [*node.items, user(question)] if node.is_gone else [user(question)]
        response = self.post(False, session=node.session, input=items, tools=[ASK], **after)
        self.check_shown([*node.said, {"role": "user", "content": question}], node.found, start)
        return self.answered(node, question, response, int(both))

    @rule(target=nodes, node=consumes(paused), answer=ANSWERS, way=st.sampled_from(["outputs", "calls", "everything"]))
    def resume(self, node: Node, answer: str, way: str) -> Node:
        call = next(item for item in node.response["output"] if item["type"] == "function_call")
        result = output(call["call_id"], "blue")
        items = {"outputs": [result], "calls": [*node.response["output"], result], "everything": [*node.items, result]}
        self.world.upstream.script(Answer([answer]))
        start = len(self.world.upstream.requests)
        response = self.post(False, input=items[way], previous_response_id=node.response["id"], tools=[ASK])
        said = [*node.said, {"role": "tool", "tool_call_id": call["call_id"], "content": "blue"}]
        self.check_shown(said, node.found, start)
        return self.enter(node, [result], said, response, 0)

    @rule(node=consumes(nodes))
    def delete(self, node: Node) -> None:
        if not node.is_gone:
            assert self.world.client.delete(f"/v1/responses/{node.response['id']}").status_code == 200
            node.is_gone = True

    @rule(chance=st.integers(0, 9))
    def restart(self, chance: int) -> None:
        if chance == 0:
            self.world.start()

    def ask(self, node: Node | None, question: str, answer: str, kind: str, streamed: bool, **fields: Any) -> Node:
        """Ask a question, check what the model was shown, and return the response."""
        if kind == "tool":
            self.world.upstream.script(Answer(["Let me see."], [Call("get_weather", '{"city": "Seoul"}')]))
        self.world.upstream.script(Answer([answer]))
        start = len(self.world.upstream.requests)
        response = self.post(streamed, **fields)
        assert len(self.world.upstream.requests) == start + 1 + (kind == "tool"), response["output"]
        said = [*(node.said if node else []), {"role": "user", "content": question}]
        self.check_shown(said, node.found if node else 0, start)
        return self.answered(node, question, response, int(kind == "tool"))

    def answered(self, node: Node | None, question: str, response: Json, found: int) -> Node:
        said = [*(node.said if node else []), {"role": "user", "content": question}]
        return self.enter(node, [user(question)], said, response, found)

    def enter(self, node: Node | None, new: list[Json], said: list[Json], response: Json, found: int) -> Node:
        """Note a response, and check what is told of it and of its session."""
        texts = [item["content"][0]["text"] for item in response["output"] if item["type"] == "message"]
        calls = [
            {
                "id": item["call_id"],
                "function": {"name": item["name"], "arguments": item["arguments"]},
                "type": "function",
            }
            for item in response["output"]
            if item["type"] == "function_call"
        ]
        spoken: Json = {"role": "assistant", "content": "\n\n".join(texts)} | ({"tool_calls": calls} if calls else {})
        session = self.world.client.get(f"/v1/responses/{response['id']}").headers["x-session-id"]
        if node:
            assert session == node.session
        given_up = node.given_up + ("tool_calls" in node.said[-1] and new[0]["type"] == "message") if node else 0
        entered = Node(
            session,
            response,
            [*(node.items if node else []), *new, *response["output"]],
            [*said, spoken],
            (node.found if node else 0) + found,
            given_up=given_up,
        )
        self.newest[session] = entered
        self.turns += 1
        assert self.world.client.get(f"/v1/responses/{response['id']}").json() == response
        listed = self.world.client.get(
            f"/v1/conversations/{session}/items", params={"order": "asc", "limit": 100}
        ).json()
        if (length := len(entered.items) + given_up) <= 100:
            assert len(listed["data"]) == length
            assert listed["data"][-len(response["output"]) :] == response["output"]
        return entered

    def post(self, streamed: bool, *, session: str | None = None, **fields: Any) -> Json:
        headers = {"X-Session-ID": session, "X-Session-Mode": "full"} if session else {}
        body = {"model": MODEL, "stream": streamed, **fields}
        answer = self.world.client.post("/v1/responses", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        if not streamed:
            response: Json = answer.json()
            return response
        *_, last, _, _ = answer.text.split("\n\n")
        final: Json = event_of(last)["response"]
        return final

    def check_shown(self, said: list[Json], found: int, start: int) -> None:
        shown = self.world.upstream.requests[start]["messages"]
        assert_paired(shown)
        assert transcript(shown) == transcript(said)
        calls = [call for message in shown for call in message.get("tool_calls") or ()]
        assert [call["function"]["name"] for call in calls].count("get_weather") == found


def bare(item: Json) -> Json:
    """An item as Open WebUI sends it again."""
    return {name: value for name, value in item.items() if name not in ("id", "status")}


@pytest.mark.parametrize(
    "every_database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)], indirect=True
)
@pytest.mark.timeout(STEPS * max(EXAMPLES.values()))
def test_responses_are_what_they_should_be_after_any_sequence_of_requests(
    upstream: Upstream,
    upstream_url: str,
    open_meteo_url: str,
    every_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPEN_METEO_GEOCODING_URL", open_meteo_url)
    monkeypatch.setenv("OPEN_METEO_FORECAST_URL", open_meteo_url)
    world = World(upstream, {"ollama_base_url": upstream_url})
    with world.stack:
        world.start()
        tried = settings(
            max_examples=EXAMPLES[every_database.partition(":")[0]] // 2,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        run_state_machine_as_test(lambda: Responses(world), settings=tried)  # type: ignore[arg-type]  # a factory will do
