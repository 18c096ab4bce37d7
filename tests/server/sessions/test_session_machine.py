"""Any sequence of sends, regenerates, edits, stops, tool turns and restarts leaves a session that is what it should be.

A replaying client and a delta client talk to a real server, which is started anew in between; the model endpoint
records what it was shown. What must hold is checked after every step.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.agent_server import MODEL, agent_server
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

Json = dict[str, Any]

# Examples and steps of each; HYPOTHESIS_PROFILE=nightly looks further than there is time for in CI.
STEPS, EXAMPLES = {
    "ci": (12, {"sqlite": 15, "postgresql": 8}),
    "nightly": (30, {"sqlite": 3000, "postgresql": 2000}),
}[os.environ.get("HYPOTHESIS_PROFILE", "ci")]

# Few, so that people say the same thing twice; and with the white space that clients change.
QUESTIONS = st.sampled_from(["hi", "again", " hi\r\nthere ", "hi\nthere", "서울"])
ANSWERS = st.sampled_from(["yes", "no", "yes\n", "어쩌면"])
KINDS = st.sampled_from(["plain", "tool"])
CLIENT_TOOL = {"type": "function", "function": {"name": "ask_user", "parameters": {"type": "object"}}}

CANCELLED = "This tool call was cancelled by the user."
SYSTEM = {"role": "system", "content": "Be brief."}

Item = tuple[str, str, tuple[str, ...]]
Transcript = tuple[Item, ...]


def transcript(messages: Sequence[Json], server_tools: Sequence[str] = ("get_weather",)) -> Transcript:
    """Messages as their client knows them: server tool calls and their results out, answers in a row joined."""
    hidden = {
        call["id"]
        for message in messages
        for call in message.get("tool_calls") or ()
        if call["function"]["name"] in server_tools
    }
    items: list[Item] = []
    for message in messages:
        if message["role"] == "system" or message.get("tool_call_id") in hidden or message["content"] == CANCELLED:
            continue
        calls = tuple(call["id"] for call in message.get("tool_calls") or () if call["id"] not in hidden)
        if message["role"] == "tool":
            calls = (message["tool_call_id"],)
        item = (message["role"], "".join(str(message["content"] or "").split()), calls)
        if items and item[0] == items[-1][0] == "assistant":
            item = ("assistant", items.pop()[1] + item[1], calls)
        if item != ("assistant", "", ()):
            items.append(item)
    return tuple(items)


def assert_paired(messages: Sequence[Json]) -> None:
    """Every tool call is followed by its result, and every result follows its call, as strict endpoints demand."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert waiting == []
            waiting = [call["id"] for call in message.get("tool_calls") or ()]
    assert waiting == []


@dataclass
class World:
    """The model endpoint and the agent, which can be started anew on its database."""

    upstream: Upstream
    options: Json
    stack: ExitStack = field(default_factory=ExitStack)
    client: httpx.Client = field(init=False)

    def start(self) -> None:
        """Start the agent, after an end of the one before."""
        self.stack.close()
        server = self.stack.enter_context(agent_server(**self.options))
        self.client = self.stack.enter_context(httpx.Client(base_url=server.url, timeout=30))
        until(lambda: self.client.get("/ready").json()["status"] == "ready", within=30.0)  # with the server's tools


@dataclass
class Turn:
    """What is known of an answered request: what the server's tools found up to it, and where it is in the tree."""

    found: list[str]
    branch: int
    is_followed: bool = False


class Sessions(RuleBasedStateMachine):
    """One replaying client and one delta client, each with a session of its own."""

    branches = Bundle("branches")
    paused = Bundle("paused")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.turns: dict[Transcript, Turn] = {}
        """The newest turn for each transcript that was answered."""
        self.ends: dict[int, list[Json]] = {}
        """The newest messages of each branch, by its number."""
        self.delta: list[Json] = []
        self.delta_habit = "unknown"
        self.delta_exists = False

    @initialize(target=branches, third_party=st.booleans())
    def begin(self, third_party: bool) -> list[Json]:
        self.replaying_id = str(uuid4())
        if third_party:
            self.replaying = {"X-OpenWebUI-Chat-Id": self.replaying_id}
        else:
            self.replaying = {"X-Session-ID": self.replaying_id, "X-Session-Mode": "full"}
        self.appending = {"X-Session-ID": str(uuid4())}
        return []

    # --- The replaying client ---

    @rule(target=branches, branch=branches, question=QUESTIONS, answer=ANSWERS, kind=KINDS)
    def say(self, branch: list[Json], question: str, answer: str, kind: str) -> list[Json]:
        """Continue, go on with another branch, or go on from an earlier turn, which is an edit of what followed."""
        return self.replay([*branch, {"role": "user", "content": question}], answer, kind)

    @precondition(lambda self: self.turns)
    @rule(target=branches, branch=branches, answer=ANSWERS, kind=KINDS)
    def regenerate(self, branch: list[Json], answer: str, kind: str) -> list[Json]:
        asked = max((at for at, message in enumerate(branch) if message["role"] == "user"), default=None)
        return branch if asked is None else self.replay(branch[: asked + 1], answer, kind)

    @rule(target=branches, branch=branches, answer=ANSWERS)
    def edit_an_answer(self, branch: list[Json], answer: str) -> list[Json]:
        """The client changed what the assistant said; it is the client who knows what was said."""
        changed = {"assistant": {"content": "changed"}}
        edited = [{**message, **changed.get(message["role"], {})} for message in branch]
        return self.replay([*edited, {"role": "user", "content": "go on"}], answer, "plain")

    @rule(target=branches, branch=branches, answer=ANSWERS)
    def prefill(self, branch: list[Json], answer: str) -> list[Json]:
        messages = [*branch, {"role": "user", "content": "poem"}, {"role": "assistant", "content": "Roses "}]
        return self.replay(messages, answer, "plain")

    @rule(target=branches, branch=branches, answer=ANSWERS, kind=KINDS)
    def continue_an_answer(self, branch: list[Json], answer: str, kind: str) -> list[Json]:
        """Send all that there is; it ends with an answer, such as one that was stopped."""
        return self.replay(branch, answer, kind) if branch else branch

    @rule(target=branches, answer=ANSWERS, kind=KINDS)
    def say_nothing(self, answer: str, kind: str) -> list[Json]:
        """Send system messages alone: the beginning of all that was said, before the first turn."""
        return self.replay([], answer, kind, sent=[SYSTEM])

    @rule(branch=branches, question=QUESTIONS, failures=st.integers(1, 2))
    def fail(self, branch: list[Json], question: str, failures: int) -> None:
        """The model endpoint is down; nothing of the request is kept."""
        before = self.stored(self.replaying_id)
        self.world.upstream.script(*[Answer(status=500)] * 2 * failures)
        for _ in range(failures):
            body = {"model": MODEL, "messages": [*branch, {"role": "user", "content": question}]}
            assert self.world.client.post("/v1/chat/completions", json=body, headers=self.replaying).status_code == 502
        assert self.stored(self.replaying_id) == before

    @rule(target=branches, branch=branches, question=QUESTIONS, pieces=st.integers(0, 3), kind=KINDS)
    def stop(self, branch: list[Json], question: str, pieces: int, kind: str) -> list[Json]:
        """The client leaves after some chunks and keeps what it got."""
        messages = [*branch, {"role": "user", "content": question}]
        found = self.script(Answer([f"piece{n} " for n in range(pieces)], hold=True), kind)
        base, start, got = self.base(messages), len(self.world.upstream.requests), ""
        known = list(base.found) if base else []
        body = {"model": MODEL, "stream": True, "messages": messages}
        with self.world.client.stream("POST", "/v1/chat/completions", json=body, headers=self.replaying) as response:
            lines = response.iter_lines()
            while got.count("piece") < pieces or got.count("see.") < len(found):
                line = next(lines)
                if line.startswith("data: {"):
                    got += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            until(lambda: len(self.world.upstream.requests) == start + len(found) + 1)
        until(lambda: self.status() != "running")
        self.check_shown(messages, known, start)
        return self.answered([*messages, {"role": "assistant", "content": got}], base, found)

    @rule(target=paused, branch=branches, question=QUESTIONS, both=st.booleans(), said=st.sampled_from(["", "Well."]))
    def need_the_client(self, branch: list[Json], question: str, both: bool, said: str) -> list[Json]:
        """The model calls a tool of the client, and perhaps one of ours at the same time."""
        messages = [*branch, {"role": "user", "content": question}]
        ours = [Call("get_weather", '{"city": "Seoul"}', id="a", index=0)] if both else []
        theirs = Call("ask_user", '{"a":1}', id="b", index=1)
        self.world.upstream.script(Answer([said] if said else [], [*ours, theirs]))
        base, start = self.base(messages), len(self.world.upstream.requests)
        reply = self.send(messages, self.replaying, tools=[CLIENT_TOOL])
        self.check_shown(messages, base.found if base else [], start)
        assert reply["finish_reason"] == "tool_calls"
        (call,) = reply["message"]["tool_calls"]
        assert call["function"] == {"name": "ask_user", "arguments": '{"a":1}'}, "as the model wrote them"
        spoken = {"role": "assistant", "content": reply["message"]["content"], "tool_calls": [call]}
        return self.answered([*messages, spoken], base, ["get_weather"] if both else [])

    @rule(target=branches, branch=paused, answer=ANSWERS, alone=st.booleans())
    def resume(self, branch: list[Json], answer: str, alone: bool) -> list[Json]:
        """Clients serialise arguments anew, and thin ones send the results alone."""
        call = branch[-1]["tool_calls"][0]
        again = {**call, "function": {**call["function"], "arguments": '{ "a": 1 }'}}
        result = {"role": "tool", "tool_call_id": call["id"], "content": "blue"}
        whole = [*branch[:-1], {**branch[-1], "tool_calls": [again]}, result]
        if alone and self.turns[transcript(branch)].is_followed:  # the calls wait no more
            body = {"model": MODEL, "messages": [result]}
            assert self.world.client.post("/v1/chat/completions", json=body, headers=self.replaying).status_code == 400
            alone = False
        return self.replay(whole, answer, "plain", sent=[result] if alone else whole)

    @rule(target=branches, branch=consumes(paused), question=QUESTIONS, answer=ANSWERS)
    def move_on(self, branch: list[Json], question: str, answer: str) -> list[Json]:
        """The user says something else instead of waiting for the client's tool."""
        start = len(self.world.upstream.requests)
        moved = self.replay([*branch, {"role": "user", "content": question}], answer, "plain")
        shown = self.world.upstream.requests[start]["messages"]
        results = [
            message["content"] for message in shown if message.get("tool_call_id") == branch[-1]["tool_calls"][0]["id"]
        ]
        assert results == [CANCELLED]
        return moved

    @rule()
    def ask_for_a_title(self) -> None:
        """Open WebUI asks for titles under the chat's id; nothing of that is kept."""
        before = self.stored(self.replaying_id)
        headers = {"X-OpenWebUI-Chat-Id": self.replaying_id}
        self.send([{"role": "user", "content": "### Task:\nGenerate a title."}], headers)
        assert self.stored(self.replaying_id) == before

    # --- The delta client ---

    @rule(question=QUESTIONS, answer=ANSWERS, kind=KINDS)
    def say_only_what_is_new(self, question: str, answer: str, kind: str) -> None:
        new = {"role": "user", "content": question}
        second = len(self.delta) == 2 and self.delta_habit == "unknown"
        if second and transcript([new]) == transcript(self.delta[:1]):  # asked again: the one ambiguous form
            self.delta = []
        elif self.delta:
            self.delta_habit = "append"
        self.script(Answer([answer]), kind)
        start = len(self.world.upstream.requests)
        reply = self.send([new], self.appending)
        self.delta_exists = True
        shown = self.world.upstream.requests[start]["messages"]
        assert_paired(shown)
        assert transcript(shown) == transcript([*self.delta, new])
        self.delta += [new, {"role": "assistant", "content": reply["message"]["content"]}]
        assert transcript(self.stored(self.appending["X-Session-ID"])) == transcript(self.delta)

    @rule(answer=ANSWERS, kind=KINDS)
    def say_nothing_in_the_delta_session(self, answer: str, kind: str) -> None:
        """Nothing is new, so it is no delta; it is the beginning of all that was said."""
        self.script(Answer([answer]), kind)
        start = len(self.world.upstream.requests)
        reply = self.send([SYSTEM], self.appending)
        self.delta_exists = True
        assert transcript(self.world.upstream.requests[start]["messages"]) == ()
        self.delta = [{"role": "assistant", "content": reply["message"]["content"]}]
        assert transcript(self.stored(self.appending["X-Session-ID"])) == transcript(self.delta)

    @rule(which=st.sampled_from(["reset", "delete"]))
    def forget_the_delta_session(self, which: str) -> None:
        url = f"/v1/sessions/{self.appending['X-Session-ID']}"
        response = self.world.client.delete(url) if which == "delete" else self.world.client.post(f"{url}/reset")
        assert response.status_code == (200 if self.delta_exists else 404)
        self.delta, self.delta_habit, self.delta_exists = [], "unknown", self.delta_exists and which == "reset"

    # --- Both ---

    @rule(chance=st.integers(0, 9))
    def restart(self, chance: int) -> None:
        if chance == 0:
            self.world.start()

    def replay(self, messages: list[Json], answer: str, kind: str, sent: list[Json] | None = None) -> list[Json]:
        """Send all that was said, check what the model was shown and what is stored, and return the new branch."""
        found = self.script(Answer([answer]), kind)
        base, start = self.base(messages), len(self.world.upstream.requests)
        reply = self.send(sent or messages, self.replaying)
        self.check_shown(messages, base.found if base else [], start)
        return self.answered([*messages, {"role": "assistant", "content": reply["message"]["content"]}], base, found)

    def answered(self, branch: list[Json], base: Turn | None, found: list[str]) -> list[Json]:
        """Note a turn that followed another one, or none, and check what is stored of it."""
        if base and not base.is_followed:
            number, base.is_followed = base.branch, True
        else:
            number = len(self.ends) + 1
        self.turns[transcript(branch)] = Turn([*(base.found if base else []), *found], number)
        self.ends[number] = branch
        self.check_stored(branch)
        return branch

    def script(self, answer: Answer, kind: str) -> list[str]:
        """Queue the turn's answers; return which tools of the server it calls."""
        if kind == "tool":
            self.world.upstream.script(Answer(["Let me see."], [Call("get_weather", '{"city": "Seoul"}')]))
        self.world.upstream.script(answer)
        return ["get_weather"] if kind == "tool" else []

    def base(self, messages: list[Json]) -> Turn | None:
        """Return the turn that messages go on after: that of the longest transcript they begin with."""
        if not messages:
            return None
        whole = transcript(messages)
        continued = messages[-1]["role"] == "assistant"
        longest = len(whole) if continued else len(whole) - 1
        beginnings = (whole[:length] for length in range(longest, 0, -1))
        return next((self.turns[known] for known in beginnings if known in self.turns), None)

    def send(self, messages: list[Json], headers: dict[str, str], **fields: Any) -> Json:
        response = self.world.client.post(
            "/v1/chat/completions", json={"model": MODEL, "messages": messages, **fields}, headers=headers
        )
        assert response.status_code == 200, response.text
        choice: Json = response.json()["choices"][0]
        return choice

    def check_shown(self, messages: list[Json], base: list[str], start: int) -> None:
        shown = self.world.upstream.requests[start]["messages"]
        assert_paired(shown)
        assert transcript(shown) == transcript(messages)
        found = [call["function"]["name"] for message in shown for call in message.get("tool_calls") or ()]
        assert [name for name in found if name == "get_weather"] == base

    def check_stored(self, branch: list[Json]) -> None:
        stored = self.stored(self.replaying_id)
        if "tool_calls" not in branch[-1]:
            assert_paired(stored)
        assert transcript(stored) == transcript(branch)
        session = self.world.client.get(f"/v1/sessions/{self.replaying_id}").json()
        assert session["branches"] == len(self.ends)
        oldest = next(iter(self.ends))
        assert transcript(self.stored(self.replaying_id, branch=oldest)) == transcript(self.ends[oldest])

    def status(self) -> str:
        status: str = self.world.client.get(f"/v1/sessions/{self.replaying_id}").json()["status"]
        return status

    def stored(self, session: str, branch: int | None = None) -> list[Json]:
        params = {"branch": branch} if branch else {}
        response = self.world.client.get(f"/v1/sessions/{session}/messages", params=params)
        return response.json()["data"] if response.status_code == 200 else []


@pytest.mark.timeout(STEPS * max(EXAMPLES.values()))
def test_sessions_are_what_they_should_be_after_any_sequence_of_requests(
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
            max_examples=EXAMPLES[every_database.partition(":")[0]],
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # an example takes half a second, and to shrink one takes hundreds
        )
        run_state_machine_as_test(lambda: Sessions(world), settings=tried)  # type: ignore[arg-type]  # a factory will do
