"""The agent in front of endpoints with the habits of real ones, from end to end. What is read is in test_answer.py."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from graph.model.client import open_model
from graph.model.endpoint import addresses, load_names
from graph.model.failures import ModelFailure
from graph.settings import AgentSettings
from tests.support.agent_server import HELLO, MODEL, AgentServer, agent_server, frames_of
from tests.support.loopback import served
from tests.support.mcp_servers import PIXEL
from tests.support.upstream import Answer, Call, Json, Raw, Upstream, data, frame
from tests.support.waiting import until

WEATHER = Call("get_weather", '{"city": "Seoul"}')
DONE = "data: [DONE]\n\n"
BODY: Json = {"model": MODEL, "messages": [HELLO]}


def error_of(response: httpx.Response) -> tuple[int, str | None, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]


def fragment(**call: Any) -> str:
    return frame({"tool_calls": [call]})


def test_e1_e2_e3_a_call_in_odd_fragments_is_run_once(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(
        Raw(
            [
                fragment(index=0, id=7, function=None),
                fragment(index=0, function={"name": "get_"}),
                fragment(index=0, id="8", function={"name": "weather"}),
                fragment(index=1, id="7", function={"arguments": {"city": "Seoul"}}),
                frame({}, "tool_calls"),
                DONE,
            ]
        ),
        lambda request: Answer([request["messages"][-1]["content"]]),
    )
    assert "5.3 °C" in weather_server.ask("weather?")
    (call,) = upstream.last["messages"][2]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("get_weather", {"city": "Seoul"})


def test_e4_usage_in_every_chunk_is_not_summed(server: AgentServer, upstream: Upstream) -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": usage(n)} for n in range(51)]
    upstream.script(Raw([*map(data, chunks), frame({}, "stop"), DONE]))
    answered = server.post(BODY).json()["usage"]
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (10, 50)


def usage(written: int) -> Json:
    return {"prompt_tokens": 10, "completion_tokens": written, "total_tokens": 10 + written}


def test_e5_keep_alives_of_any_form_are_passed_over(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Raw(["data:\n\n", frame({"content": "Hel"}), "event: ping\n\n", frame({"content": "lo"}, "stop")]))
    assert server.ask("hello") == "Hello"


@pytest.mark.parametrize("stream", [True, False])
def test_e6_an_answer_that_was_cut_by_its_length_says_so(server: AgentServer, upstream: Upstream, stream: bool) -> None:
    for reasons in (["length", "length"], ["MAX_TOKENS"]):
        upstream.script(Raw([frame({"content": "x"}), *(frame({}, reason) for reason in reasons), DONE]))
        if stream:
            assert frames_of(server)[-2]["choices"][0]["finish_reason"] == "length"
        else:
            assert server.post(BODY).json()["choices"][0]["finish_reason"] == "length"


def test_e6_an_answer_that_ended_in_an_error_is_one(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Raw([frame({"content": "x"}), frame({}, "error"), DONE])
    assert error_of(server.post(BODY))[:2] == (502, "upstream_error")


def test_e7_content_in_parts_is_kept_as_one_text(server: AgentServer, upstream: Upstream) -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    upstream.script(Raw([frame({"content": thinking}), frame({"content": "Hello"}, "stop"), DONE]))
    message = server.post({**BODY, "session_id": "s"}).json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], message["reasoning"]) == ("Hello", "Hm.", "Hm.")
    server.ask("again", session="s")
    assert upstream.last["messages"][2]["content"] == "Hello"


def test_e8_a_null_delta_ends_an_answer(server: AgentServer, upstream: Upstream) -> None:
    last = data({"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]})
    upstream.script(Raw([frame({"content": "Hello"}), last, DONE]))
    assert server.ask("hello") == "Hello"


@pytest.mark.parametrize("stream", [True, False])
def test_e8_a_refusal_is_told_as_one(server: AgentServer, upstream: Upstream, stream: bool) -> None:
    upstream.script(Raw([frame({"refusal": "I ca"}), frame({"refusal": "n't."}), frame({}, "stop"), DONE]))
    with server.client(session="s") as client:
        if stream:
            with client.chat.completions.stream(model=MODEL, messages=[HELLO]) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model=MODEL, messages=[HELLO]).choices[0].message  # type: ignore[assignment]
    assert message.refusal == "I can't."
    assert not message.content
    stored = httpx.get(f"{server.url}/v1/sessions/s/messages").json()["data"][1]
    assert stored == {"role": "assistant", "content": None, "refusal": "I can't."}
    why = {"role": "user", "content": "Why?"}
    assert server.post({**BODY, "messages": [HELLO, stored, why], "session_id": "s"}).status_code == 200
    assert [m["content"] for m in upstream.last["messages"][1:]] == ["hello", "I can't.", "Why?"]
    assert httpx.get(f"{server.url}/v1/sessions/s").json()["branches"] == 1, "the client that resends it goes on"


def test_e9_the_endpoint_s_own_words_are_told(server: AgentServer, upstream: Upstream, caplog: Any) -> None:
    upstream.script(Raw(['{"detail":"Too hot to think"}'], "application/json"))
    with caplog.at_level(logging.WARNING):
        assert "Too hot to think" in error_of(server.post(BODY))[2]
    assert "Too hot to think" in caplog.text


def test_e10_an_error_in_a_stream_is_told_by_its_meaning_and_asked_once(
    server: AgentServer, upstream: Upstream
) -> None:
    error = {"error": {"message": "greater than the context length", "type": "invalid_request_error"}}
    upstream.otherwise = Raw([f"data: {json.dumps(error)}\n\n"])
    with server.client(retries=2) as client, pytest.raises(Exception, match="longer than the model's context"):
        client.chat.completions.create(model=MODEL, messages=[HELLO])
    assert len(upstream.requests) == 1
    assert error_of(server.post(BODY))[:2] == (400, "context_length_exceeded")
    upstream.otherwise = Raw(['data: {"error":{"message":"busy","code":429}}\n\n'])
    assert error_of(server.post(BODY))[:2] == (429, "upstream_rate_limited")


def test_e11_json_in_answer_to_stream_is_read(server: AgentServer, upstream: Upstream) -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
    upstream.script(Raw([json.dumps(whole)], "application/json"))
    assert server.ask("hello") == "Hello"
    upstream.script(Raw(['{"error":"Unexpected endpoint or method. (POST /x)"}'], "application/json"))
    status, _, message = error_of(server.post(BODY))
    assert (status, "Unexpected endpoint" in message, "OLLAMA_BASE_URL" in message) == (502, True, True)


@pytest.mark.parametrize(("status", "told"), [(402, 402), (413, 413), (422, 400), (409, 400), (418, 400)])
def test_e12_a_refusal_is_asked_once(server: AgentServer, upstream: Upstream, status: int, told: int) -> None:
    upstream.otherwise = Answer(status=status, error="the endpoint's words", headers={"x-should-retry": "false"})
    with server.client(retries=2) as client, pytest.raises(Exception, match="the endpoint's words") as error:
        client.chat.completions.create(model=MODEL, messages=[HELLO])
    assert (getattr(error.value, "status_code", None), len(upstream.requests)) == (told, 1)


def test_e12_too_long_under_another_status_is_too_long(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(status=422, error="`inputs` tokens + `max_new_tokens` must be <= 4096")
    assert error_of(server.post(BODY))[:2] == (400, "context_length_exceeded")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_e13_a_connection_that_breaks_in_an_answer_broke_off(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(
        Raw([frame({"content": "one "}), frame({"content": "two "}), frame({"content": "three"})], cut=True)
    )
    *_, last, error, done = frames_of(server, session_id="s")
    assert (last["choices"][0]["delta"], done) == ({"content": "three"}, "[DONE]")
    assert error["error"]["message"] == "The connection to the model endpoint broke off."
    upstream.script(Raw([frame({"content": "whole"}, "stop")], cut=True))
    assert server.ask("hello") == "whole", "only what comes behind the end is missing"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
        ([{"id": "a", "type": "chat"}, {"id": "b"}], ["a", "b"]),
        ({"models": [{"name": "a:latest", "model": "a:latest"}]}, ["a:latest"]),
        (["a", "b", "a"], ["a", "b"]),
        ({"data": [{"id": "a"}, None, {"id": None}, {"id": 5}, {"id": ""}, 7]}, ["a"]),
        ({"data": []}, []),
        ({"data": None}, None),
        ({"data": {"id": "a"}}, None),
        ({"error": "no"}, None),
        ("<html>", None),
        (None, None),
    ],
)
def test_e14_models_are_listed_in_several_forms(body: Any, names: list[str] | None) -> None:
    assert load_names(body) == names


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (JSONResponse([{"id": "one"}, {"id": MODEL}]), [MODEL, "one"]),
        (HTMLResponse("<html>Hi</html>"), [MODEL]),
        (JSONResponse({"data": None}), [MODEL]),
        (PlainTextResponse("", 404), [MODEL]),
        (JSONResponse({"error": "no"}), [MODEL]),
    ],
    ids=["a bare list", "a page", "null", "404", "an error under 200"],
)
def test_e14_an_endpoint_without_a_list_is_ready(
    upstream: Upstream, upstream_url: str, answer: Response, names: list[str]
) -> None:
    upstream.list = answer
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        listed = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert [model["id"] for model in listed] == names
        assert httpx.get(f"{server.url}/ready").status_code == 200


NO_TOOLS = Answer(status=400, error=f"registry.ollama.ai/library/{MODEL} does not support tools")


def test_e15_a_model_that_takes_no_tools_answers_without(
    weather_server: AgentServer, upstream: Upstream, caplog: Any
) -> None:
    upstream.otherwise = lambda request: NO_TOOLS if request.get("tools") else Answer(["Hello."])
    with caplog.at_level(logging.WARNING):
        assert [weather_server.ask(text, session="s") for text in ("one", "two")] == ["Hello.", "Hello."]
    assert [bool(request.get("tools")) for request in upstream.requests] == [True, False, False]
    warnings = [record.getMessage() for record in caplog.records if "USE_MCP_TOOLS" in record.getMessage()]
    assert len(warnings) == 1
    assert MODEL in warnings[0]


async def test_e15_requests_at_once_all_go_on_without(upstream: Upstream, upstream_url: str) -> None:
    upstream.otherwise = lambda request: NO_TOOLS if request.get("tools") else Answer(["Hello."])
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    async with open_model(AgentSettings(ollama_model=MODEL, ollama_base_url=upstream_url)) as model:
        asked = [model.answer([HumanMessage("hello")], tools=[tool], parameters={}) for _ in range(5)]
        assert {str(answer.text) for answer in await asyncio.gather(*asked)} == {"Hello."}


def test_e15_it_is_remembered_for_that_model_alone_and_said_where_a_call_is_forced(
    upstream: Upstream, upstream_url: str
) -> None:
    upstream.models = [MODEL, "other"]
    upstream.otherwise = lambda request: (
        NO_TOOLS if request.get("tools") and request["model"] == MODEL else Answer(["Hello."])
    )
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        assert server.post({**BODY, "tools": [tool]}).status_code == 200
        assert server.post({**BODY, "tools": [tool], "model": "other"}).status_code == 200
        assert upstream.last["tools"]
        status, _, message = error_of(server.post({**BODY, "tools": [tool], "tool_choice": "required"}))
    assert (status, "does not support tools" in message) == (400, True)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature"),
        ("Unrecognized request argument supplied: stream_options", "stream_options"),
    ],
)
def test_e15_what_we_added_ourselves_is_left_out_where_it_is_refused(
    server: AgentServer, upstream: Upstream, words: str, field: str
) -> None:
    upstream.otherwise = lambda request: Answer(status=400, error=words) if field in request else Answer(["Hello."])
    assert [server.ask("one"), server.ask("two")] == ["Hello.", "Hello."]
    assert [field in request for request in upstream.requests] == [True, False, False]
    if field == "temperature":  # one that the client asks for is not
        assert error_of(server.post({**BODY, "temperature": 1}))[0] == 400


def test_m13_images_of_tools_are_shown_in_a_message_behind_the_results(server: AgentServer, upstream: Upstream) -> None:
    answer = server.post({**BODY, "messages": with_image()})
    assert answer.status_code == 200
    *_, tool, shown = upstream.last["messages"]
    assert (tool["role"], tool["content"], shown["role"]) == ("tool", "Here it is:", "user")
    assert shown["content"][-1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"


def test_m13_a_model_that_takes_no_images_is_told_that_one_is_left_out(server: AgentServer, upstream: Upstream) -> None:
    refusal = Answer(status=400, error="This model does not support image inputs.")
    upstream.otherwise = lambda request: refusal if "image_url" in json.dumps(request) else Answer(["Hello."])
    for _ in range(2):
        assert server.post({**BODY, "messages": with_image()}).json()["choices"][0]["message"]["content"] == "Hello."
    assert len(upstream.requests) == 3
    assert "left out" in upstream.last["messages"][-1]["content"]
    mine = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}
    assert error_of(server.post({**BODY, "messages": [mine]}))[1] == "unsupported_value"


def with_image() -> list[Json]:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    parts = [{"type": "text", "text": "Here it is:"}, image]
    return [
        dict(HELLO),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": parts},
    ]


NOT_PULLED = 'model "llama9" not found, try pulling it first'


def test_e16_a_model_that_is_not_there_is_said_at_the_start_in_ready_and_in_the_answer(
    upstream: Upstream, upstream_url: str, caplog: Any
) -> None:
    upstream.models = ["llama3.2:latest", "qwen3:8b"]
    upstream.otherwise = Answer(status=404, error=NOT_PULLED)
    with caplog.at_level(logging.WARNING):
        with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, ollama_model="llama9") as server:
            until(lambda: "llama9" in caplog.text)
            ready = httpx.get(f"{server.url}/ready")
            answer = server.post({**BODY, "model": "llama9"})
    for said in (caplog.text, ready.text, answer.text):
        assert "llama3.2:latest, qwen3:8b" in said
        assert "OLLAMA_MODEL" in said
    assert (ready.status_code, answer.status_code, answer.headers["x-should-retry"]) == (503, 502, "false")
    assert "try pulling it first" in error_of(answer)[2]


def test_e16_a_model_that_answers_though_it_is_not_listed_is_ready(upstream: Upstream, upstream_url: str) -> None:
    upstream.models = ["something/else"]
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        assert httpx.get(f"{server.url}/ready").status_code == 503
        assert server.ask("hello") == "You said: hello"
        assert httpx.get(f"{server.url}/ready").status_code == 200


@pytest.mark.parametrize(
    ("configured", "listed", "asked"),
    [
        ("llama3.2", "llama3.2:latest", ["llama3.2", "llama3.2:latest"]),
        ("llama3.2:latest", "llama3.2", ["llama3.2", "llama3.2:latest"]),
        ("other", "llama3.2:latest", ["llama3.2", "llama3.2:latest"]),
    ],
)
def test_c9_a_model_is_known_with_and_without_latest_and_listed_once(
    upstream: Upstream, upstream_url: str, configured: str, listed: str, asked: list[str]
) -> None:
    upstream.models = [listed, "qwen3:8b", "other"]
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, ollama_model=configured) as server:
        for name in asked:
            assert server.post({**BODY, "model": name}).json()["model"] == name
        names = [model["id"] for model in httpx.get(f"{server.url}/v1/models").json()["data"]]
        status, code, message = error_of(server.post({**BODY, "model": "gpt-4o" + "x" * 5000}))
    assert len([name for name in names if name.startswith("llama3.2")]) == 1
    assert (status, code) == (404, "model_not_found")
    assert "qwen3:8b" in message
    assert "MODEL_ALIASES" in message
    assert len(message) < 500


def test_of_an_endpoint_s_words_500_characters_are_told(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(status=400, error="x" * 900))
    status, _, message = error_of(server.post(BODY))
    assert (status, message.count("x")) == (400, 500)


@pytest.mark.parametrize(
    ("given", "candidates"),
    [
        ("http://h:1/v1", ["http://h:1/v1"]),
        ("http://h:1/v1/", ["http://h:1/v1"]),
        ("http://h:1", ["http://h:1", "http://h:1/v1"]),
        ("http://h:1/", ["http://h:1", "http://h:1/v1"]),
        ("http://h:1/api", ["http://h:1/api", "http://h:1/v1"]),
        ("http://h:1/api/chat", ["http://h:1", "http://h:1/v1"]),
        ("http://h:1/v1/chat/completions", ["http://h:1/v1"]),
        ("http://h:1/v1/models", ["http://h:1/v1"]),
        ("http://h:1/chat/completions", ["http://h:1", "http://h:1/v1"]),
        ("http://h:1/ollama", ["http://h:1/ollama", "http://h:1/ollama/v1"]),
        ("https://h/api/v1", ["https://h/api/v1"]),
        ("https://h/v1beta/openai/", ["https://h/v1beta/openai", "https://h/v1beta/openai/v1"]),
    ],
)
def test_f1_an_address_may_mean_several(given: str, candidates: list[str]) -> None:
    assert addresses(given) == candidates


@contextmanager
def ollama(upstream: Upstream) -> Iterator[str]:
    """An endpoint that answers under /v1, and under other addresses as Ollama or LM Studio does."""

    def elsewhere(request: Any) -> Response:
        if request.url.path.startswith("/api"):
            return PlainTextResponse("404 page not found", 404)
        return JSONResponse({"error": f"Unexpected endpoint or method. ({request.method} {request.url.path})"})

    routes = [Mount("/v1", upstream.v1), Route("/{path:path}", elsewhere, methods=["GET", "POST"])]
    with served(Starlette(routes=routes)) as url:
        yield url


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/api", "/api/", "/api/chat", "/v1/chat/completions"])
def test_f1_the_api_is_found_wherever_the_address_points(upstream: Upstream, caplog: Any, path: str) -> None:
    with ollama(upstream) as url, caplog.at_level(logging.INFO):
        with agent_server(ollama_base_url=url + path, use_mcp_tools=False) as server:
            assert server.ask("hello") == "You said: hello"
            assert httpx.get(f"{server.url}/ready").status_code == 200
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("OLLAMA_BASE_URL")]
    assert said == ([] if path == "/v1" else [f"OLLAMA_BASE_URL: using {url}/v1"])


def test_f1_an_endpoint_that_comes_later_is_found_then(upstream: Upstream) -> None:
    with ollama(upstream) as url:
        port = url.rpartition(":")[2]
    with agent_server(ollama_base_url=f"http://127.0.0.1:{port}", use_mcp_tools=False) as server:
        assert error_of(server.post(BODY))[2].startswith("The model endpoint cannot be reached")
        with served(upstream.app, port=int(port)):
            assert server.ask("hello") == "You said: hello"


def test_a_request_has_its_parameters_and_nothing_else(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
        server.post({**BODY, "seed": 3})
    assert upstream.last.keys() == {"model", "messages", "temperature", "seed", "stream", "stream_options"}


async def test_a_list_of_models_that_breaks_off_in_a_malformed_chunk_is_not_waited_for() -> None:
    writers = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        await asyncio.sleep(0.2)  # so that it comes in a packet of its own
        writer.write(b"no length\r\n")

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(20):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with open_model(AgentSettings(ollama_model="m", ollama_base_url=url)) as model:
            with pytest.raises(ModelFailure):
                await model.check()
        for writer in writers:
            writer.close()
            await writer.wait_closed()
