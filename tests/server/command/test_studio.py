"""LangGraph Studio's server, `langgraph dev`, as its client sees it, and our API in the same process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.errors import BadRequestError, NotFoundError
from langgraph_sdk.schema import Command

from graph.offline.process import MODEL_NAME
from tests.support.agent_server import HELLO, MODEL
from tests.support.approvals import mcp_config
from tests.support.command import without_tools
from tests.support.databases import empty_database
from tests.support.mcp_servers import noted
from tests.support.studio import COMMAND, CONFIG, GRAPH, QUIET, Studio, question, running, texts
from tests.support.upstream import Answer, Call, Json, Upstream, last_text
from tests.support.waiting import until

VERSES = """
from langgraph.graph import START, MessagesState, StateGraph


def poet(model):
    async def write(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node(write).add_edge(START, "write")
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def studio(request: pytest.FixtureRequest, upstream_url: str, open_meteo_url: str) -> Iterator[Studio]:
    with running(
        CHECKPOINT_URL=empty_database(request, request.param),
        OLLAMA_MODEL=MODEL,
        OLLAMA_BASE_URL=upstream_url,
        OPEN_METEO_GEOCODING_URL=open_meteo_url,
        OPEN_METEO_FORECAST_URL=open_meteo_url,
    ) as studio:
        yield studio


def test_a_turn_with_a_tool_is_streamed_and_kept_and_can_be_forked(studio: Studio, upstream: Upstream) -> None:
    upstream.script(
        Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), lambda request: Answer(["It is ", last_text(request)])
    )
    client, thread = studio.client, studio.client.threads.create()["thread_id"]

    said, done = "", []
    for part in client.runs.stream(
        thread, GRAPH, input=question("How is Seoul?"), stream_mode=["messages-tuple", "updates"]
    ):
        if part.event == "messages" and part.data[0]["type"] == "AIMessageChunk":
            said += part.data[0]["content"]
        if part.event == "updates":
            done += list(part.data)
    assert said.startswith("It is Seoul")
    assert "5.3 °C" in said
    assert done == ["model", "tools", "model"]

    history = client.threads.get_history(thread, limit=10)
    assert [state["next"] for state in history] == [[], ["model"], ["tools"], ["model"], ["__start__"]]
    types = [message["type"] for message in cast(Json, history[0]["values"])["messages"]]
    assert types == ["human", "ai", "tool", "ai"]
    asked = history[3]["checkpoint"]
    assert texts(cast(Json, history[3]["values"])) == ["How is Seoul?"]

    assert studio.turn(thread, None, checkpoint=asked) == ["How is Seoul?", "You said: How is Seoul?"]
    other = client.threads.update_state(
        thread, question("And Busan?"), checkpoint_id=asked["checkpoint_id"], as_node="__start__"
    )
    assert studio.turn(thread, None, checkpoint=other["checkpoint"])[-1] == "You said: And Busan?"
    first = history[0]["checkpoint"]["checkpoint_id"]
    assert studio.turn(thread, "Thanks!", checkpoint_id=first)[-2:] == ["Thanks!", "You said: Thanks!"]
    assert texts(cast(Json, client.threads.get_state(thread, checkpoint_id=first)["values"]))[-1] == said


def test_a_tool_waits_in_studio_and_is_run_once_on_all_branches(
    upstream: Upstream, upstream_url: str, tmp_path: Path
) -> None:
    wipe = Call("wipe", '{"path": "/a"}')
    with running(
        OLLAMA_MODEL=MODEL,
        OLLAMA_BASE_URL=upstream_url,
        MCP_CONFIG=str(mcp_config(tmp_path)),
        CHECKPOINT_URL=f"sqlite:///{tmp_path}/studio.db",
    ) as studio:
        runs, session = studio.client.runs, str(uuid4())
        upstream.script(Answer(calls=[wipe]))
        asked = studio.server.ask("Wipe.", session=session)
        assert "needs your approval" in asked
        waiting = studio.client.threads.get_state(session)
        assert waiting["next"] == ["approval"]
        [interrupt] = waiting["interrupts"]
        [action] = interrupt["value"]["action_requests"]
        assert (action["name"], action["args"]) == ("wipe", {"path": "/a"})

        upstream.script(Answer(["In Studio."]), Answer(["Again."]), Answer(["Beside."]), Answer(["Refused."]))
        approved: Command = {"resume": {"decisions": [{"type": "approve"}]}}
        assert texts(cast(Json, runs.wait(session, GRAPH, command=approved)))[-1] == "In Studio."
        again = runs.wait(session, GRAPH, command=approved, checkpoint=waiting["checkpoint"])
        assert texts(cast(Json, again))[-1] == "Again."
        url = f"{studio.server.url}/v1/sessions/{session}/approve"
        beside = httpx.post(url, json={"approved": True}, timeout=30).json()["data"]
        assert [message["content"] for message in beside] == ["wiped /a, call 1", "Beside."]
        refused: Command = {"resume": {"decisions": [{"type": "reject", "message": "No."}]}}
        runs.wait(session, GRAPH, command=refused, checkpoint=waiting["checkpoint"])
        assert noted(tmp_path / "calls", "wipe") == 1


def test_the_graph_is_drawn_and_what_can_be_set_is_described(studio: Studio, upstream: Upstream) -> None:
    (assistant,) = studio.client.assistants.search()
    assert assistant["name"] == GRAPH
    drawn = studio.client.assistants.get_graph(assistant["assistant_id"])
    assert {node["id"] for node in drawn["nodes"]} == {"__start__", "model", "approval", "tools", "__end__"}
    edges = {(edge["source"], edge["target"]) for edge in drawn["edges"]}
    assert {("__start__", "model"), ("model", "tools"), ("tools", "model"), ("model", "__end__")} <= edges

    schemas = cast(Json, studio.client.assistants.get_schemas(assistant["assistant_id"]))
    titles = {name: schemas[f"{name}_schema"]["title"] for name in ("input", "output", "config", "context")}
    assert titles == {"input": "Thread", "output": "Thread", "config": "Turn", "context": "Turn"}
    assert set(schemas["context_schema"]["properties"]) == {
        "instructions",
        "client_tools",
        "tool_choice",
        "max_tool_calls",
        "truncation",
        "compact_threshold",
        "decisions",
        "parameters",
    }
    for name in ("input", "output", "state", "config", "context"):
        for field, described in schemas[f"{name}_schema"]["properties"].items():
            assert described["title"], (name, field)
            assert described.get("description"), (name, field, described)
    for name in ("input", "state"):
        assert {"$ref": "#/$defs/HumanMessage"} in schemas[f"{name}_schema"]["properties"]["messages"]["items"]["oneOf"]

    thread = studio.client.threads.create()["thread_id"]
    studio.turn(thread, "Hi", context={"instructions": ["Rhyme."], "parameters": {"temperature": 0.1}})
    assert upstream.last["messages"][0]["content"].endswith("\n\nRhyme.")
    assert upstream.last["temperature"] == 0.1


def test_a_session_of_the_api_is_a_thread_of_studio(studio: Studio, upstream: Upstream) -> None:
    session, named = str(uuid4()), "a.named-session"
    assert studio.server.ask("One", session=session) == "You said: One"
    assert studio.server.ask("Uno", session=named) == "You said: Uno"
    upstream.script(Answer(status=400))
    assert studio.server.post({"model": MODEL, "messages": [HELLO], "session_id": "failed"}).status_code == 400

    listed = studio.threads()
    assert listed[session] == {"graph_id": GRAPH, "session_id": session}
    assert {metadata["session_id"] for metadata in listed.values()} == {session, named}
    assert studio.state(session) == ["One", "You said: One"]
    assert studio.turn(session, "Two")[-1] == "You said: Two"

    # What Studio adds is a branch that the API does not know: its session goes on where its client left it.
    assert studio.server.ask("Three", session=session) == "You said: Three"
    assert studio.state(session) == ["One", "You said: One", "Three", "You said: Three"]
    assert ["Two" in texts(cast(Json, state["values"])) for state in studio.client.threads.get_history(session)][2]

    studio.client.threads.delete(session)
    assert session not in studio.threads()
    earlier = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "You said: One"}]
    again = studio.server.post(
        {"model": MODEL, "messages": [*earlier, {"role": "user", "content": "Four"}]}, headers={"X-Session-ID": session}
    )
    assert again.is_success
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["One", "You said: One", "Four"]
    assert session in studio.threads(), "with what was said since"


def test_each_api_has_its_own_errors_keys_and_origins(upstream_url: str) -> None:
    settings = without_tools(upstream_url, API_KEYS="secret")
    with running(**settings) as studio:
        assert httpx.get(f"{studio.server.url}/v1/models").status_code == 401
        assert studio.client.threads.search() == []
        missing = httpx.get(f"{studio.server.url}/threads/{uuid4()}")
        assert (missing.status_code, list(missing.json())) == (404, ["detail"])
        with studio.server.client(key="secret") as client:
            assert client.models.list().data[0].id == MODEL
        assert studio.threads() == {}, "a session belongs to its key"

        for origin, status in (("https://smith.langchain.com", 200), ("https://example.com", 400)):
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            assert httpx.options(f"{studio.server.url}/threads/search", headers=asked).status_code == status
        assert studio.command.end(signal.SIGINT) == 0
    assert "Traceback" not in studio.command.output


def test_pages_of_other_sites_run_and_read_nothing(studio: Studio, upstream: Upstream) -> None:
    """The platform takes JSON that says it is text, and any Host."""
    url, run = studio.server.url, json.dumps({"assistant_id": GRAPH, "input": question("hello")})
    as_text = {"Content-Type": "text/plain"}
    for headers in (
        {"Origin": "https://evil.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evilsmith.langchain.com"},
    ):
        assert httpx.post(f"{url}/runs/wait", content=run, headers={**as_text, **headers}).status_code == 403
    for path in ("/v1/sessions", "/assistants/search", "/threads/search", "/docs"):
        assert httpx.post(url + path, json={}, headers={"Host": "evil.com"}).status_code == 421
    assert upstream.requests == []
    for origin in ("https://smith.langchain.com", "https://eu.smith.langchain.com"):
        cross = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        assert httpx.post(f"{url}/threads/search", json={}, headers=cross).status_code == 200, "Studio's own pages"


def test_every_door_of_ours_is_open_beside_it(studio: Studio) -> None:
    asked = {"input": {"messages": [{"type": "human", "content": "Hi"}]}}
    answer = httpx.post(f"{studio.server.url}/agent/invoke", json=asked, headers={"X-Session-ID": "s"}, timeout=20)
    assert answer.json()["output"] == "You said: Hi"
    streamed = httpx.post(f"{studio.server.url}/agent/stream", json=asked, timeout=20)
    assert '"You said: Hi"' in streamed.text
    assert httpx.get(f"{studio.server.url}/agent/playground/").is_success
    for path in ("/agent/input_schema", "/health", "/ready", "/v1/sessions/s"):
        assert httpx.get(f"{studio.server.url}{path}").is_success, path


@pytest.mark.nightly
@pytest.mark.xdist_group("the offline model")  # which takes a core and two gigabytes
@pytest.mark.timeout(200)
def test_without_a_model_of_its_own_it_has_the_embedded_one() -> None:
    with running(USE_MCP_TOOLS="false") as studio:
        thread = studio.client.threads.create()["thread_id"]
        asked, answer = studio.turn(thread, "Say hello.")
        with studio.server.client() as client:
            assert [model.id for model in client.models.list()] == [MODEL_NAME]
        assert studio.command.end(signal.SIGINT) == 0
    assert (asked, bool(answer)) == ("Say hello.", True)
    assert "Traceback" not in studio.command.output


def test_with_half_of_a_model_it_says_what_is_missing() -> None:
    ended = subprocess.run(
        [sys.executable, *COMMAND, "dev", "--config", str(CONFIG), "--no-browser", "--no-reload"],
        env=os.environ | QUIET | {"OLLAMA_MODEL": MODEL},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "  - OLLAMA_BASE_URL: " in ended.stderr
    assert "Traceback" not in ended.stderr


def in_progress(studio: Studio, upstream: Upstream, thread: str, text: str) -> str:
    """Start a run that goes on until it is stopped, and return its id once the model speaks."""
    upstream.script(Answer(["Well, "], hold=True))
    run = studio.client.runs.create(thread, GRAPH, input=question(text))
    until(lambda: upstream.streaming == 1, within=20)
    return run["run_id"]


def newest_run(studio: Studio, thread: str) -> str:
    """Return the id of a thread's last run."""
    return studio.client.runs.list(thread)[0]["run_id"]


def test_m23_a_run_that_is_rolled_back_leaves_its_thread_as_it_was(studio: Studio, upstream: Upstream) -> None:
    client = studio.client
    session, fresh = str(uuid4()), client.threads.create()["thread_id"]
    assert studio.server.ask("One", session=session) == "You said: One"
    assert session in studio.threads()
    one = ["One", "You said: One"]

    in_progress(studio, upstream, session, "Never mind")
    assert studio.turn(session, "Two", multitask_strategy="rollback") == [*one, "Two", "You said: Two"]
    assert [run["status"] for run in client.runs.list(session)] == ["success"]

    client.runs.cancel(session, in_progress(studio, upstream, session, "Nor this"), action="rollback", wait=True)
    until(lambda: len(client.runs.list(session)) == 1, within=20)
    assert studio.state(session) == [*one, "Two", "You said: Two"]

    client.runs.cancel(fresh, in_progress(studio, upstream, fresh, "The first"), action="rollback", wait=True)
    until(lambda: client.runs.list(fresh) == [], within=20)
    assert client.threads.get_state(fresh)["values"] in ({}, [], None, {"messages": []})
    assert studio.turn(fresh, "Hello") == ["Hello", "You said: Hello"]
    assert studio.server.ask("Three", session=session) == "You said: Three"
    assert [message["content"] for message in upstream.last["messages"][1:]] == [*one, "Three"]


@pytest.mark.parametrize(
    "durability",
    ["async", *(pytest.param(other, marks=pytest.mark.nightly) for other in ("sync", "exit"))],
)
def test_m23_the_newest_run_is_deleted_and_an_older_one_is_refused(studio: Studio, durability: str) -> None:
    client, thread = studio.client, studio.client.threads.create()["thread_id"]
    runs = []
    for text in ("One", "Two", "Three"):
        studio.turn(thread, text, durability=durability)
        runs.append(newest_run(studio, thread))

    for older in runs[:2]:
        with pytest.raises(BadRequestError, match="later ones in its thread are stored as what they changed since"):
            client.runs.delete(thread, older)
    assert studio.turn(thread, "Four", durability=durability)[-1] == "You said: Four", "the queue goes on"
    for newest in (newest_run(studio, thread), runs[2], runs[1]):
        client.runs.delete(thread, newest)
    assert studio.state(thread) == ["One", "You said: One"]
    assert studio.turn(thread, "Zwei", durability=durability) == ["One", "You said: One", "Zwei", "You said: Zwei"]
    with pytest.raises(NotFoundError):
        client.runs.delete(thread, str(uuid4()))


def test_m23_a_thread_is_copied_whole_and_pruned(studio: Studio) -> None:
    client, session = studio.client, str(uuid4())
    studio.server.ask("One", session=session)
    studio.server.ask("Two", session=session)
    assert session in studio.threads()
    said = studio.state(session)
    copied = str(cast(Json, client.threads.copy(session))["thread_id"])
    assert studio.state(copied) == said
    assert len(client.threads.get_history(copied)) == len(client.threads.get_history(session))
    assert studio.turn(copied, "Three") == [*said, "Three", "You said: Three"]
    assert studio.state(session) == said

    assert client.threads.prune([copied])["pruned_count"] == 1
    with pytest.raises(NotFoundError):
        client.threads.get_state(copied)
    assert studio.server.ask("Three", session=session) == "You said: Three"


def test_graphs_that_people_bring_are_shown_beside_ours(upstream_url: str) -> None:
    Path("verses.py").write_text(VERSES)
    with running(
        AGENTS="verses:poet", OLLAMA_MODEL=MODEL, OLLAMA_BASE_URL=upstream_url, USE_MCP_TOOLS="false"
    ) as studio:
        assert {assistant["graph_id"] for assistant in studio.client.assistants.search()} == {GRAPH, "poet"}
        thread = studio.client.threads.create()["thread_id"]
        ended = cast(Json, studio.client.runs.wait(thread, "poet", input=question("hello")))
        assert texts(ended) == ["hello", "You said: hello"]
        assert studio.server.ask("hello", session="s") == "You said: hello"
