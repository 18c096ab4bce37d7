"""LangServe's doors: the page's own endpoint, and the REST door with RemoteRunnable as its client."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langserve import RemoteRunnable

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.open_meteo import OpenMeteo
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import auntil, until

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


@pytest.mark.parametrize("headers", [{}, {"X-Session-ID": "s"}], ids=["the page", "a named session"])
@pytest.mark.parametrize(
    ("answer", "status"),
    [(Answer(status=500, error="secret stack"), 502), (Answer(["Half an"], finish_reason="", usage=None), 502)],
    ids=["at once", "in the middle"],
)
def test_c11_f13_a_failure_is_an_error_and_no_answer(
    server: AgentServer,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    answer: Answer,
    status: int,
) -> None:
    upstream.otherwise = answer
    response = httpx.post(f"{server.url}/agent/stream_log", json=QUESTION, headers=headers)
    *events, end = response.text.removesuffix("\n\n").split("\n\n")
    assert end.startswith("event: error\ndata: {")
    told = json.loads(end.split("data: ")[1])
    assert told["status_code"] == status
    assert "model" in told["message"]
    assert "model" not in "".join(events)
    assert "secret" not in response.text + caplog.text
    assert "Traceback" not in caplog.text
    assert httpx.get(f"{server.url}/v1/sessions").json()["data"] == []


async def test_c11_a_session_is_named_on_the_log_too(server: AgentServer, upstream: Upstream) -> None:
    agent = remote(server, "s")
    for number in (1, 2):
        patches = [patch async for patch in agent.astream_log({"messages": [HumanMessage(f"hello {number}")]})]
        assert patches[-1].ops
    texts = [message["content"] for message in upstream.last["messages"][1:]]
    assert texts == ["hello 1", "You said: hello 1", "hello 2"]
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/v1/sessions/s")).json()["turns"] == 2
    upstream.otherwise = Answer(status=400, error="no such thing")
    with pytest.raises(httpx.HTTPStatusError, match="no such thing"):
        _ = [patch async for patch in agent.astream_log({"messages": [HumanMessage("?")]})]


@pytest.mark.parametrize("endpoint", ["invoke", "stream", "stream_log"])
def test_c11_a_session_that_cannot_be_one_is_refused_before_the_answer(server: AgentServer, endpoint: str) -> None:
    refused = httpx.post(f"{server.url}/agent/{endpoint}", json=QUESTION, headers={"X-Session-ID": "a b"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "X-Session-ID")


LINES = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\r\nj"


async def test_c8_no_reader_finds_the_end_of_a_line_in_an_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer([LINES], reasoning=[LINES])
    agent = remote(server)
    assert "".join(agent.stream({"messages": [HumanMessage("?")]})) == LINES
    assert [text async for text in agent.astream({"messages": [HumanMessage("?")]})] == [LINES]
    patches = [patch async for patch in agent.astream_log({"messages": [HumanMessage("?")]})]
    assert LINES in strings([patch.ops for patch in patches])


@pytest.mark.parametrize("path", ["v1/chat/completions", "agent/stream", "agent/stream_log"])
def test_c8_every_line_of_a_stream_is_one_to_all_readers(server: AgentServer, upstream: Upstream, path: str) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    call = Call("f", json.dumps({LINES: LINES}, ensure_ascii=False))
    upstream.otherwise = Answer([LINES], reasoning=[LINES], calls=[call] if path.startswith("v1") else [])
    hello = {"role": "user", "content": LINES}
    body = {"model": MODEL, "messages": [hello], "stream": True, "tools": [tool], "input": {"messages": [hello]}}
    with httpx.stream("POST", f"{server.url}/{path}", json=body, timeout=30) as response:
        lines = list(response.iter_lines())
    whole = httpx.post(f"{server.url}/{path}", json=body, timeout=30)
    assert not set(whole.text) & set("\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r"), "not in the bytes"
    assert all(line == "" or line.startswith(("data: ", "event: ", ": ")) for line in lines)
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
    assert LINES in strings(data)


def strings(value: Any) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in strings(item)]


def test_a_remote_runnable_has_a_session(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(WEATHER_CALL, Answer(["It is ", "5.3 °C."]))
    agent = remote(weather_server, "s")
    assert agent.invoke({"messages": [HumanMessage("Weather?")]}) == "It is 5.3 °C."
    upstream.script(Answer(["Take one."]))
    asked = [SystemMessage("Be brief."), HumanMessage("An umbrella?")]
    assert list(agent.stream({"messages": asked})) == ["Take one."]
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


def leave_while_asked(server: AgentServer, upstream: Upstream, endpoint: str) -> None:
    """Ask, and leave when the model has been asked."""

    async def leave() -> None:
        async with httpx.AsyncClient() as client:
            asking = asyncio.create_task(client.post(f"{server.url}/agent/{endpoint}", json=QUESTION))
            await auntil(lambda: upstream.requests)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    asyncio.run(leave())


@pytest.mark.parametrize("endpoint", ["invoke", "stream", "stream_log"])
def test_whoever_leaves_before_the_first_word_is_no_defect(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture, endpoint: str
) -> None:
    upstream.script(Answer(hold=True))
    leave_while_asked(server, upstream, endpoint)
    until(lambda: upstream.closed_early == 1, within=1.0)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_remote_runnable_is_told_of_a_failure_in_the_middle(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.otherwise = Answer(["It is"], finish_reason="", usage=None)
    heard = remote(server).stream({"messages": [HumanMessage("?")]})
    assert next(heard) == "It is"
    with pytest.raises(httpx.HTTPStatusError, match="ended in the middle") as caught:
        next(heard)
    assert caught.value.response.status_code == 502
    assert "Traceback" not in caplog.text


def test_whoever_leaves_an_invocation_stops_the_model(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once "], hold=True))
    leave_while_asked(server, upstream, "invoke")
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
