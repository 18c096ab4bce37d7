"""LangServe's doors: the page's own endpoint, and the REST door with RemoteRunnable as its client."""

from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langserve import RemoteRunnable

from tests.agent_server import AgentServer, agent_server
from tests.open_meteo import OpenMeteo
from tests.upstream import Answer, Call, Upstream
from tests.waiting import until

WEATHER_CALL = Answer(calls=[Call("get_weather", '{"city": "Seoul"}')])
QUESTION = {"input": {"messages": [{"type": "human", "content": "hello"}]}, "config": {}}


def remote(server: AgentServer, session: str | None = None) -> Any:
    return RemoteRunnable(f"{server.url}/agent", headers={"X-Session-ID": session} if session else {})


def test_the_page_is_told_the_answer_and_nothing_inner(
    weather_server: AgentServer, upstream: Upstream, open_meteo: OpenMeteo
) -> None:
    # The form that its front-end asks for: one list of messages in, one string out.
    assert httpx.get(f"{weather_server.url}/agent/c/N4XyA/output_schema").json()["type"] == "string"
    assert set(httpx.get(f"{weather_server.url}/agent/c/N4XyA/input_schema").json()["properties"]) == {"messages"}
    upstream.script(WEATHER_CALL, Answer(["It is ", "5.3 °C."]))
    log = httpx.post(f"{weather_server.url}/agent/stream_log", json=QUESTION)
    assert "It is " in log.text
    assert len(open_meteo.forecasts) == 1
    assert "helpful assistant" not in log.text, "the agent's prompt"
    assert "light rain" not in log.text, "a tool's result"


def test_a_failure_on_the_page_is_told_as_text(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.otherwise = Answer(status=500, error="secret stack")
    response = httpx.post(f"{server.url}/agent/stream_log", json=QUESTION)
    assert "The model endpoint answered with status 500." in response.text
    assert "event: end" in response.text
    assert "secret" not in response.text + caplog.text


def test_a_remote_runnable_has_a_session(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(WEATHER_CALL, Answer(["It is ", "5.3 °C."]))
    agent = remote(weather_server, "s")
    assert agent.invoke({"messages": [HumanMessage("Weather?")]}) == "It is 5.3 °C."
    upstream.script(Answer(["Take ", "one."]))
    asked = [SystemMessage("Be brief."), HumanMessage("An umbrella?")]
    assert list(agent.stream({"messages": asked})) == ["Take ", "one."]
    roles = [message["role"] for message in upstream.last["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert upstream.last["messages"][0]["content"].endswith("Be brief.")
    session = httpx.get(f"{weather_server.url}/v1/sessions/s").json()
    assert (session["turns"], session["branches"]) == (2, 1)


async def test_a_remote_runnable_may_be_asked_asynchronously(server: AgentServer) -> None:
    agent = remote(server)
    assert await agent.ainvoke({"messages": [HumanMessage("hello")]}) == "You said: hello"
    assert [text async for text in agent.astream({"messages": [HumanMessage("hello")]})] == ["You said: hello"]


def test_an_answer_without_a_session_names_the_one_that_it_began(server: AgentServer) -> None:
    session = httpx.post(f"{server.url}/agent/invoke", json=QUESTION).headers["X-Session-ID"]
    assert remote(server, session).invoke({"messages": [HumanMessage("again")]}) == "You said: again"
    assert httpx.get(f"{server.url}/v1/sessions/{session}").json()["turns"] == 2


def test_a_remote_runnable_is_told_of_failures(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(status=400, error="no such thing")
    refused = httpx.post(f"{server.url}/agent/invoke", json=QUESTION)
    assert refused.status_code == 400
    assert "no such thing" in refused.json()["error"]["message"]
    with pytest.raises(httpx.HTTPStatusError, match="no such thing") as caught:
        list(remote(server).stream({"messages": [HumanMessage("?")]}))
    assert caught.value.response.status_code == 400


@pytest.mark.parametrize("endpoint", ["invoke", "stream", "stream_log"])
def test_a_body_that_is_none_is_refused(server: AgentServer, upstream: Upstream, endpoint: str) -> None:
    for content in ("{", "[]", '{"input": {"messages": []}}', '{"input": {"messages": [{"type": "human"}]}}'):
        kind = {"Content-Type": "application/json"}
        garbled = httpx.post(f"{server.url}/agent/{endpoint}", content=content, headers=kind)
        assert (garbled.status_code, garbled.json()["error"]["type"]) == (400, "invalid_request_error")
    plain = httpx.post(f"{server.url}/agent/{endpoint}", json=QUESTION, headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415, "which a page of others could send"
    assert upstream.requests == []


def test_what_the_door_cannot_take_is_refused(server: AgentServer, upstream: Upstream) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    shown = {"input": {"messages": [{"type": "human", "content": [image]}]}}
    assert httpx.post(f"{server.url}/agent/invoke", json=shown).status_code == 400
    named = httpx.post(f"{server.url}/agent/invoke", json=QUESTION, headers={"X-Session-ID": "a b"})
    assert (named.status_code, named.json()["error"]["param"]) == (400, "X-Session-ID")
    assert upstream.requests == []


def test_an_answer_without_a_word_is_an_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer()
    assert remote(server).invoke({"messages": [HumanMessage("?")]}) == ""


@pytest.mark.parametrize("endpoint", ["invoke", "stream", "stream_log"])
def test_whoever_leaves_before_the_first_word_is_no_defect(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    upstream.script(Answer(hold=True))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/agent/{endpoint}", json=QUESTION, timeout=0.5)
    until(lambda: upstream.closed_early == 1, within=1.0)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_remote_runnable_is_told_of_a_failure_in_the_middle(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.otherwise = Answer(["It ", "is"], finish_reason="", usage=None)
    heard = remote(server).stream({"messages": [HumanMessage("?")]})
    assert [next(heard), next(heard)] == ["It ", "is"]
    with pytest.raises(httpx.HTTPStatusError, match="ended in the middle") as caught:
        next(heard)
    assert caught.value.response.status_code == 502
    assert "Traceback" not in caplog.text


def test_whoever_leaves_an_invocation_stops_the_model(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once "], hold=True))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/agent/invoke", json=QUESTION, timeout=0.5)
    until(lambda: upstream.closed_early == 1, within=1.0)


@pytest.mark.parametrize("endpoint", ["stream", "stream_log"])
def test_whoever_leaves_a_stream_stops_the_model(server: AgentServer, upstream: Upstream, endpoint: str) -> None:
    upstream.script(Answer(["Once ", "upon ", "a time"], hold=True))
    with httpx.stream("POST", f"{server.url}/agent/{endpoint}", json=QUESTION) as response:
        received = ""
        for part in response.iter_text():
            received += part
            if "a time" in received:
                break
    until(lambda: upstream.closed_early == 1, within=1.0)


def test_nothing_else_of_langserve_answers(server: AgentServer) -> None:
    for endpoint in ("batch", "stream_events", "feedback", "token_feedback", "public_trace_link", "c/N4Xy/invoke"):
        assert httpx.post(f"{server.url}/agent/{endpoint}", json=QUESTION).status_code == 404
    page = httpx.get(f"{server.url}/agent/playground/", params={"config_hash": "not a hash"})
    assert page.status_code == 200, "a hash is not looked at"
    for file in ("assets", "nope", "%00", "x" * 300):
        missing = httpx.get(f"{server.url}/agent/playground/{file}")
        assert (missing.status_code, list(missing.json())) == (404, ["error"]), file


def test_all_of_it_can_be_left_out(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, playground=False) as server:
        for path in ("playground/", "input_schema", "c/N4XyA/input_schema"):
            assert httpx.get(f"{server.url}/agent/{path}").status_code == 404
        assert httpx.post(f"{server.url}/agent/invoke", json=QUESTION).status_code == 404
