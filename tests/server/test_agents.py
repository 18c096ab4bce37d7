"""AGENTS: graphs that people bring, beside ours."""

import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from graph.assembly import open_agents
from graph.brought import AgentsError, load_factory
from server.settings import ServerSettings
from tests.support.agent_server import MODEL, AgentServer, agent_server, frames_of
from tests.support.client_tools import ASK
from tests.support.command import run, serving, without_tools
from tests.support.project import ROOT
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

README = (ROOT / "README.md").read_text()
PROGRAM = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def poet" in block)
COUNTER = """
import operator
from typing import Annotated

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


class State(MessagesState):
    turns: Annotated[int, operator.add]


def count(state):
    return {"messages": [AIMessage(f"{state['turns'] + 1}: {len(state['messages'])}")], "turns": 1}


def counter():
    return StateGraph(State).add_node(count).add_edge(START, "count").compile()


def broken():
    raise RuntimeError("no")


NUMBER = 1
"""
TEAM = """
from dataclasses import dataclass
from enum import Enum

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Overwrite
from pydantic import BaseModel

from graph.state import TurnContext


class Mood(Enum):
    CALM = "calm"


@dataclass
class Plan:
    step: int


class Note(BaseModel):
    text: str


class Team(MessagesState):
    next: str
    mood: Mood
    plan: Plan
    note: Note


def team(model):
    async def worker(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    def supervisor(state):
        seen = (state["plan"].step, state["mood"].name, state["note"].text) if "plan" in state else None
        step = state["plan"].step + 1 if seen else 1
        return {"next": "member", "mood": Mood.CALM, "plan": Plan(step), "note": Note(text="ok")}

    member = StateGraph(MessagesState).add_node(worker).add_edge(START, "worker").compile()
    graph = StateGraph(Team).add_node(supervisor).add_node("member", member).add_edge(START, "supervisor")
    return graph.add_conditional_edges("supervisor", lambda state: state["next"], ["member", END])


def quiet(model):
    async def think(state):
        thought = await model.with_config(tags=["nostream"]).ainvoke(state["messages"])
        return {"messages": [AIMessage(f"I thought of {len(thought.text)} letters.")]}

    return StateGraph(MessagesState).add_node(think).add_edge(START, "think")


def router(model):
    async def route(state):
        note = await model.with_structured_output(Note).ainvoke(state["messages"])
        return {"messages": [AIMessage(note.text, id="note")]}

    return StateGraph(MessagesState).add_node(route).add_edge(START, "route")


def names(tools):
    listed = ", ".join(tool.name for tool in tools)
    graph = StateGraph(MessagesState).add_node("say", lambda state: {"messages": [AIMessage(listed)]})
    return graph.add_edge(START, "say")


def asker(model):
    async def ask(state, runtime):
        bound = model.bind_tools(list(runtime.context.client_tools))
        return {"messages": [await bound.ainvoke(state["messages"])]}

    return StateGraph(MessagesState, context_schema=TurnContext).add_node(ask).add_edge(START, "ask")


def echoes():
    def echo(state):
        return {"messages": [AIMessage(f"Echo {len(state['messages'])}.")]}

    inner = StateGraph(MessagesState).add_node(echo).add_edge(START, "echo").compile()

    def outer(state):
        return {"messages": inner.invoke({"messages": state["messages"]})["messages"][-1:]}

    graph = StateGraph(MessagesState).add_node(outer).add_node("inner", inner).add_edge(START, "outer")
    return graph.add_edge("outer", "inner")


def boss():
    approve = StateGraph(MessagesState).add_node("approval", lambda state: {"messages": [AIMessage("Approved.")]})
    return approve.add_edge(START, "approval")


def shortener():
    return (
        StateGraph(MessagesState)
        .add_node("cut", lambda state: {"messages": Overwrite([AIMessage("All of it, in short.")])})
        .add_edge(START, "cut")
    )
"""
VERSES = """
from typing import TypedDict

from langgraph.graph import START, StateGraph


class Forgetful(TypedDict):
    messages: list


def nothing(): ...


def poet(): ...


def forgetful():
    return StateGraph(Forgetful).add_node("say", lambda state: {"messages": []}).add_edge(START, "say")
"""
SETTINGS: dict[str, Any] = {"use_mcp_tools": False}


@pytest.fixture
def agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The value of AGENTS for the program of the README, and for one that counts its turns and messages."""
    (tmp_path / "my_agents.py").write_text(PROGRAM)
    (tmp_path / "counters.py").write_text(COUNTER)
    (tmp_path / "teams.py").write_text(TEAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_agents:poet, counters:counter"


def say(server: AgentServer, model: str, text: str, **fields: Any) -> str:
    """Say something to a model in the session `s`, and return the answer."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "session_id": "s", **fields}
    response = server.post(body, headers={"X-Session-Mode": "append"})
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def stored(server: AgentServer, **params: Any) -> list[str]:
    """What the session `s` holds."""
    data = httpx.get(f"{server.url}/v1/sessions/s/messages", params=params).json()["data"]
    return [message["content"] for message in data]


def test_a_graph_is_a_model_under_its_function_s_name(agents: str, upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents=agents, model_aliases="bard=poet", **SETTINGS) as server:
        listed = [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]]
        assert listed == [MODEL, "poet", "counter", "bard"]
        for name in ("poet", "bard"):
            assert say(server, name, f"hello {name}", store=False) == f"You said: hello {name}"
            assert upstream.last["messages"][0] == {"role": "system", "content": "Answer in verse."}
            assert upstream.last["model"] == MODEL
        upstream.script(Answer(["Roses ", "are ", "red."]))
        *chunks, done = frames_of(server, model="poet")
        texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
        assert ("".join(text or "" for text in texts), done) == ("Roses are red.", "[DONE]")


def test_a_graph_remembers_its_own_state(agents: str, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents=agents, **SETTINGS) as server:
        assert [say(server, "counter", text) for text in ("a", "b")] == ["1: 1", "2: 3"]
        assert stored(server) == ["a", "1: 1", "b", "2: 3"]
    with agent_server(ollama_base_url=upstream_url, agents=agents, **SETTINGS) as server:
        assert say(server, "counter", "c") == "3: 5"


@pytest.mark.usefixtures("agents")
def test_a_node_may_have_a_name_that_ours_have(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents="teams:boss", **SETTINGS) as server:
        assert say(server, "boss", "May I?") == "Approved."


def test_a_session_goes_from_one_agent_to_another(agents: str, upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents=agents, **SETTINGS) as server:
        assert say(server, MODEL, "one") == "You said: one"
        assert say(server, "counter", "two") == "1: 3"
        assert say(server, "counter", "three") == "2: 5"
        assert say(server, MODEL, "four") == "You said: four"
        said = ["one", "You said: one", "two", "1: 3", "three", "2: 5", "four"]
        assert [message["content"] for message in upstream.last["messages"][1:]] == said
        assert stored(server) == [*said, "You said: four"]
        upstream.script(Answer(status=400, error="No."))
        body = {"model": MODEL, "messages": [{"role": "user", "content": "five"}], "session_id": "s"}
        assert server.post(body, headers={"X-Session-Mode": "append"}).status_code == 400
        assert stored(server) == [*said, "You said: four"], "a turn that fails leaves nothing"
        assert httpx.get(f"{server.url}/v1/sessions/s").json()["branches"] == 1


def test_what_a_tool_found_is_known_to_the_next_agent(
    agents: str, upstream: Upstream, upstream_url: str, open_meteo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPEN_METEO_GEOCODING_URL", "OPEN_METEO_FORECAST_URL"):
        monkeypatch.setenv(name, open_meteo_url)
    with agent_server(ollama_base_url=upstream_url, agents=agents) as server:
        upstream.script(Answer(calls=[Call("get_weather", '{"city": "서울"}')]), Answer(["5.3 °C"]))
        assert say(server, MODEL, "weather?") == "5.3 °C"
        say(server, "poet", "in verse")
    roles = [message["role"] for message in upstream.last["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]


def test_a_turn_of_another_agent_that_is_stopped_keeps_what_was_said(
    agents: str, upstream: Upstream, upstream_url: str
) -> None:
    with agent_server(ollama_base_url=upstream_url, agents=agents, **SETTINGS) as server:
        say(server, MODEL, "one")
        upstream.script(Answer(["Ro", "ses"], hold=True))
        body = {"model": "poet", "messages": [{"role": "user", "content": "two"}], "session_id": "s", "stream": True}
        headers = {"X-Session-Mode": "append"}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers) as response:
            assert any("ses" in line for line in response.iter_lines())
        assert say(server, MODEL, "three") == "You said: three"
        assert stored(server) == ["one", "You said: one", "two", "Roses", "three", "You said: three"]


@pytest.mark.usefixtures("agents")
def test_graphs_within_a_graph_go_on_and_fork(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents="teams:echoes", **SETTINGS) as server:
        first = "Echo 1.\n\nEcho 2."
        assert [say(server, "echoes", text) for text in ("one", "two")] == [first, "Echo 4.\n\nEcho 5."]
        history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": first}]
        edited = {"model": "echoes", "messages": [*history, {"role": "user", "content": "three"}], "session_id": "s"}
        answered = server.post(edited)
        assert answered.json()["choices"][0]["message"]["content"] == "Echo 4.\n\nEcho 5."
        assert stored(server, branch=2)[-3] == "three"


def test_an_agent_that_is_gone_is_named(agents: str, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents=agents, **SETTINGS) as server:
        say(server, "counter", "one")
    with agent_server(ollama_base_url=upstream_url, **SETTINGS) as server:
        gone = httpx.get(f"{server.url}/v1/sessions/s/messages")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "agent_not_found")
        body = {"model": MODEL, "messages": [{"role": "user", "content": "two"}], "session_id": "s"}
        refused = server.post(body, headers={"X-Session-Mode": "append"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "agent_not_found")
        assert "counter" in refused.json()["error"]["message"]


def test_tools_of_the_client_are_refused_where_a_graph_does_not_know_them(agents: str, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, agents=agents, **SETTINGS) as server:
        refused = server.post({"model": "poet", "messages": [{"role": "user", "content": "hi"}], "tools": [ASK]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")


def test_the_command_serves_a_graph_from_its_working_folder(upstream_url: str) -> None:
    Path("my_agents.py").write_text(PROGRAM)
    settings = without_tools(upstream_url)
    with serving("serve", AGENTS="my_agents:poet", **settings) as (command, server):
        assert say(server, "poet", "hello") == "You said: hello"
        assert command.end(signal.SIGINT) == 0


@pytest.mark.parametrize("value", ["poet", "my-agents:poet", ":poet", "my_agents:", "a b:c"])
def test_a_value_that_names_no_function_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="module:function"):
        ServerSettings(ollama_model=MODEL, ollama_base_url="http://127.0.0.1:1", agents=value)


@pytest.mark.parametrize("path", ["nowhere:poet", "my_agents:nobody", "counters:NUMBER"])
def test_what_cannot_be_loaded_is_named(agents: str, path: str) -> None:
    assert agents
    with pytest.raises(AgentsError, match=f"AGENTS: {path}"):
        load_factory(path)


def test_serve_says_in_one_sentence_what_cannot_be_loaded() -> None:
    settings = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1", "AGENTS": "nowhere:poet"}
    ended = run("serve", **settings)
    sentence = "ERROR: AGENTS: nowhere:poet cannot be loaded: No module named 'nowhere'.\n"
    assert (ended.returncode, ended.stderr) == (1, sentence)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("counters:broken", "counters:broken failed: no"),
        ("my_agents:poet,verses:poet", "two functions are called poet"),
        ("verses:forgetful", "with the state of MessagesState"),
        ("verses:nothing", "verses:nothing must return a LangGraph graph with the state of MessagesState"),
    ],
)
async def test_what_is_no_agent_is_named(agents: str, tmp_path: Path, value: str, words: str) -> None:
    assert agents
    (tmp_path / "verses.py").write_text(VERSES)
    settings = ServerSettings(
        ollama_model=MODEL,
        ollama_base_url="http://127.0.0.1:1/v1",
        use_mcp_tools=False,
        checkpoint_url="memory://",
        agents=value,
    )
    with pytest.raises(AgentsError, match=words):
        async with open_agents(settings):
            pass


def test_a_model_in_a_graph_within_another_is_not_waited_for(
    agents: str, upstream: Upstream, upstream_url: str
) -> None:
    assert agents
    upstream.otherwise = Answer(["word "] * 100)
    with agent_server(ollama_base_url=upstream_url, agents="teams:team,teams:quiet", **SETTINGS) as server:
        assert say(server, "team", "go") == "word " * 100
        assert say(server, "quiet", "go", store=False) == "I thought of 500 letters."


def test_a_graph_s_state_keeps_its_types(agents: str, upstream_url: str) -> None:
    assert agents
    with agent_server(ollama_base_url=upstream_url, agents="teams:team", **SETTINGS) as server:
        assert [say(server, "team", text) for text in ("one", "two", "three")] == [
            f"You said: {text}" for text in ("one", "two", "three")
        ]


def test_a_turn_of_a_graph_with_ways_of_its_own_is_kept_when_it_is_stopped(
    agents: str, upstream: Upstream, upstream_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert agents
    with agent_server(ollama_base_url=upstream_url, agents="teams:team", **SETTINGS) as server:
        upstream.script(Answer(["Never "], hold=True))
        body = {"model": "team", "messages": [{"role": "user", "content": "one"}], "session_id": "s", "stream": True}
        with pytest.raises(httpx.ReadTimeout):  # the client leaves
            httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=1)
        until(lambda: not upstream.streaming)
        assert say(server, "team", "two") == "You said: two"
        assert [text for text in stored(server) if text] == ["one", "two", "You said: two"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # langchain-openai's own, for what it parsed
def test_a_graph_may_ask_for_an_object(agents: str, upstream: Upstream, upstream_url: str) -> None:
    assert agents
    upstream.otherwise = Answer(['{"text": ', '"weather"}'])
    with agent_server(ollama_base_url=upstream_url, agents="teams:router", **SETTINGS) as server:
        assert say(server, "router", "which?").endswith("weather")
    assert upstream.last["response_format"]["type"] == "json_schema"


def test_a_graph_is_built_with_the_tools_there_are(agents: str, upstream_url: str) -> None:
    assert agents
    with agent_server(ollama_base_url=upstream_url, agents="teams:names") as server:
        assert say(server, "names", "which tools?") == "get_weather, search_web"


def test_a_graph_that_knows_of_the_client_s_tools_may_call_them(
    agents: str, upstream: Upstream, upstream_url: str
) -> None:
    assert agents
    with agent_server(ollama_base_url=upstream_url, agents="teams:asker", **SETTINGS) as server:
        upstream.script(Answer(calls=[Call("ask_user", "{}", id="a")]))
        body = {"model": "asker", "messages": [{"role": "user", "content": "hi"}], "tools": [ASK], "session_id": "s"}
        choice = server.post(body).json()["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "ask_user")
        assert httpx.get(f"{server.url}/v1/sessions/s").json()["status"] == "waiting"
        result = {"role": "tool", "tool_call_id": call["id"], "content": "blue"}
        answer = server.post({"model": "asker", "messages": [result], "tools": [ASK], "session_id": "s"})
        assert answer.json()["choices"][0]["message"]["content"] == "You said: blue"


def test_a_graph_may_write_its_messages_anew(agents: str, upstream_url: str) -> None:
    assert agents
    with agent_server(ollama_base_url=upstream_url, agents="teams:shortener", **SETTINGS) as server:
        assert say(server, "shortener", "a long story") == "All of it, in short."
        assert stored(server) == ["All of it, in short."]
