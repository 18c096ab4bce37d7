"""What a request for a response may say: its input, its parameters, and what is refused."""

from typing import Any

import httpx
import openai
import pytest

from server.responses.parameters import PARAMETERS
from server.responses.request import ResponseRequest
from tests.support.agent_server import MODEL, AgentServer
from tests.support.compatibility_page import kinds
from tests.support.responses import ASK, create, output, refused, text_of, user
from tests.support.upstream import Answer, Call, Json, Upstream

PICTURE = "data:image/png;base64,iVBORw0KGgo="


def shown(upstream: Upstream) -> list[Json]:
    """What the model was shown last, without the system message."""
    messages: list[Json] = upstream.last["messages"][1:]
    return messages


def system_text(upstream: Upstream) -> str:
    return str(upstream.last["messages"][0]["content"])


def test_the_table_has_every_parameter() -> None:
    assert PARAMETERS.table.keys() == ResponseRequest.model_fields.keys()
    used = {name: parameter.use.replace("passed on", "honoured") for name, parameter in PARAMETERS.table.items()}
    assert kinds("Parameters of the Responses API") == used


@pytest.mark.parametrize(
    "given",
    [
        "hello",
        [{"role": "user", "content": "hello"}],
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
        [{"type": "message", "role": "user", "content": "hello", "id": "mine", "status": None, "more": {"a": 1}}],
    ],
)
def test_r6_an_input_is_a_text_or_items(server: AgentServer, upstream: Upstream, given: Any) -> None:
    assert text_of(create(server, input=given)) == "You said: hello"
    assert shown(upstream) == [{"role": "user", "content": "hello"}]


def test_r6_images_and_files_reach_the_model(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["A picture."]))
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": PICTURE, "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
    ]
    create(server, input=[{"role": "user", "content": content}])
    text, image, file = shown(upstream)[0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert image["image_url"] == {"url": PICTURE, "detail": "low"}
    assert file["file"] == {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}


def test_r7_an_empty_input_is_answered(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["Ready."])
    assert text_of(create(server, input="", max_output_tokens=1)) == "Ready."
    assert text_of(create(server, input=[])) == "Ready."
    assert shown(upstream) == []


def test_r8_null_is_the_same_as_leaving_out(server: AgentServer) -> None:
    nothing = {name: None for name in PARAMETERS.table if name not in ("model", "input")}
    assert create(server, **nothing)["store"] is True


def test_r8_unknown_fields_are_ignored(server: AgentServer) -> None:
    create(server, background_options={"a": 1}, prompt_cache_options={"mode": "explicit"}, whatever=[1])


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"model": None}, (400, "model", "invalid_type")),
        ({"input": None}, (400, "input", "missing_required_parameter")),
        ({"input": 5}, (400, "input", "invalid_type")),
        ({"input": [{"role": "critic", "content": "x"}]}, (400, "input[0].role", "invalid_value")),
        ({"input": [{"content": "x"}]}, (400, "input[0].role", "missing_required_parameter")),
        ({"input": [{"role": "user"}]}, (400, "input[0].content", "missing_required_parameter")),
        (
            {"input": [{"role": "user", "content": [{"type": "video"}]}]},
            (400, "input[0].content[0].type", "invalid_value"),
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]},
            (400, "input[0].content[0].image_url", "invalid_image_url"),
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
            (400, "input[0].content[0].image_url", "missing_required_parameter"),
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x.test/a"}]}]},
            (400, "input[0].content[0].file_url", "unsupported_parameter"),
        ),
        ({"input": [output("call_1", "blue")]}, (400, "input", None)),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, (404, "input[0].id", "item_not_found")),
        ({"temperature": 3}, (400, "temperature", "decimal_above_max_value")),
        ({"truncation": "some"}, (400, "truncation", "invalid_value")),
        ({"metadata": {"a": "b" * 513}}, (400, "metadata.a", "string_above_max_length")),
        ({"stream_options": {"include_obfuscation": True}}, (400, "stream_options", None)),
        ({"prompt": {"id": "pmpt_1"}}, (400, "prompt", "unsupported_parameter")),
        ({"moderation": {"model": "m"}}, (400, "moderation", "unsupported_parameter")),
        ({"tools": [ASK, ASK]}, (400, "tools[1].name", "invalid_value")),
        ({"tools": [{**ASK, "name": "a b"}]}, (400, "tools[0].name", "invalid_value")),
        ({"tool_choice": "required"}, (400, "tool_choice", None)),
        (
            {"tools": [ASK, {"type": "web_search"}], "tool_choice": {"type": "web_search"}},
            (400, "tool_choice", "invalid_value"),
        ),
        (
            {"tools": [ASK], "tool_choice": {"type": "function", "name": "paint"}},
            (400, "tool_choice", "invalid_value"),
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "a"}}},
            (400, "text.format.schema", "missing_required_parameter"),
        ),
        (
            {"previous_response_id": "resp_1", "conversation": "c"},
            (400, "previous_response_id", "mutually_exclusive_parameters"),
        ),
        ({"previous_response_id": "resp_1"}, (400, "previous_response_id", "previous_response_not_found")),
        ({"conversation": {"id": "unknown"}}, (404, "conversation", "conversation_not_found")),
        ({"conversation": "not valid"}, (400, "conversation", "invalid_value")),
        ({"text": {"format": {"type": "xml"}}}, (400, "text.format.type", "invalid_value")),
        ({"model": "gpt-9"}, (404, None, "model_not_found")),
    ],
)
def test_a_refusal_says_what_is_wrong(server: AgentServer, upstream: Upstream, fields: Json, refusal: object) -> None:
    assert refused(server, **fields) == refusal
    assert upstream.requests == []


def test_r7_a_missing_model_is_a_400(server: AgentServer) -> None:
    answer = httpx.post(f"{server.url}/v1/responses", json={"input": "hello"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "you must provide a model parameter")


def test_r9_every_item_that_is_ever_sent_is_taken_back(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(
        Answer(["Let me look."], calls=[Call("get_weather", '{"city": "Seoul"}')], reasoning=["hm"]),
        Answer(["Which colour?"], calls=[Call("ask_user", '{"question": "Colour?"}')]),
    )
    asked = create(weather_server, input="Paint the weather.", tools=[ASK], store=False)
    kinds = [item["type"] for item in asked["output"]]
    assert kinds == ["reasoning", "message", "mcp_call", "message", "function_call"]
    call = asked["output"][-1]
    for items in (asked["output"], [without(item, "id", "status") for item in asked["output"]]):
        replayed = [user("Paint the weather."), *items, output(call["call_id"], "Blue.")]
        create(weather_server, input=replayed, tools=[ASK], store=False)
        question, looking, weather, asking, colour = shown(upstream)
        assert question["content"] == "Paint the weather."
        assert (looking["content"], looking["tool_calls"][0]["function"]["name"]) == ("Let me look.", "get_weather")
        assert weather["tool_call_id"] == looking["tool_calls"][0]["id"]
        assert "5.3 °C" in weather["content"]
        assert asking["tool_calls"][0]["function"] == {"name": "ask_user", "arguments": '{"question": "Colour?"}'}
        assert (colour["tool_call_id"], colour["content"]) == (call["call_id"], "Blue.")


def test_calls_of_one_message_stay_together(server: AgentServer, upstream: Upstream) -> None:
    """Of a message that calls the client's tools and the server's, whose items come in the order of the calls."""
    call = {"type": "function_call", "name": "ask_user", "arguments": "{}"}
    mcp = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "look", "arguments": "{}", "output": "Rain."}
    mixed = [{**call, "call_id": "a"}, mcp, {**call, "call_id": "b"}, {"role": "assistant", "content": "Which?"}]
    results = [output("a", "Blue."), output("b", "Dark.")]
    create(server, input=[user("paint"), *mixed, *results], store=False)
    _, calling, *found = shown(upstream)
    assert calling["content"] == "Which?"
    assert [made["id"] for made in calling["tool_calls"]] == ["a", "mcp_1", "b"]
    assert [(made["tool_call_id"], made["content"]) for made in found] == [
        ("a", "Blue."),
        ("mcp_1", "Rain."),
        ("b", "Dark."),
    ]


def without(item: Json, *names: str) -> Json:
    return {name: value for name, value in item.items() if name not in names}


def test_r10_items_of_unknown_types_are_left_out(
    server: AgentServer, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    strangers = [{"type": "shell_call", "output": {"a": [1]}, "content": 5}, {"type": "computer_call", "call_id": 1}]
    with caplog.at_level("INFO"):
        assert text_of(create(server, input=[*strangers, user("hello")])) == "You said: hello"
    assert [message["content"] for message in shown(upstream)] == ["hello"]
    assert "'shell_call' are not known; input[0] is left out" in caplog.text


def test_r11_an_output_is_a_text_or_parts(server: AgentServer, upstream: Upstream) -> None:
    for result in ("Blue.", [{"type": "input_text", "text": "Blue."}]):
        upstream.script(Answer(calls=[Call("ask_user", "{}")]))
        asked = create(server, tools=[ASK])
        call_id = asked["output"][0]["call_id"]
        create(server, input=[output(call_id, result)], previous_response_id=asked["id"])
        assert shown(upstream)[-1] == {"role": "tool", "tool_call_id": call_id, "content": "Blue."}


def test_custom_calls_are_shown_as_calls(server: AgentServer, upstream: Upstream) -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** Begin"}
    result = {"type": "custom_tool_call_output", "call_id": "c", "output": "Done."}
    create(server, input=[user("patch it"), call, result])
    _, calling, done = shown(upstream)
    assert calling["tool_calls"][0]["function"] == {"name": "patch", "arguments": '{"input": "*** Begin"}'}
    assert done["content"] == "Done."


def test_r14_tools_of_other_kinds_are_left_out(server: AgentServer, upstream: Upstream) -> None:
    others = [{"type": "web_search"}, {"type": "custom", "name": "patch"}, {"type": "namespace", "tools": [{}]}]
    response = create(server, tools=[*others, ASK])
    assert [tool["function"] for tool in upstream.last["tools"]] == [without(ASK, "type")]
    assert response["tools"] == [ASK]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "name": "ask_user"}, {"type": "function", "function": {"name": "ask_user"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "ask_user"}]},
            "required",
        ),
    ],
)
def test_r15_a_choice_binds_the_client_s_tools(
    server: AgentServer, upstream: Upstream, choice: object, sent: object
) -> None:
    upstream.script(Answer(calls=[Call("ask_user", "{}")]))
    response = create(server, tools=[ASK, {**ASK, "name": "paint"}], tool_choice=choice)
    assert upstream.last["tool_choice"] == sent
    assert response["tool_choice"] == choice
    assert response["output"][0]["name"] == "ask_user"


@pytest.mark.parametrize(("most", "run"), [(0, 0), (1, 1), (2, 2), (5, 3)])
def test_r16_calls_beyond_the_limit_are_ignored(
    weather_server: AgentServer, upstream: Upstream, most: int, run: int
) -> None:
    def model(request: Json) -> Answer:
        """Call tools for as long as there are some: two at once, then one."""
        results = [message for message in request["messages"] if message["role"] == "tool"]
        if "tools" not in request or len(results) > 2:
            return Answer([f"{len(results)} results"])
        calls = [
            Call("get_weather", '{"city": "Seoul"}', id=f"c{index}", index=index)
            for index in range(2 - len(results) // 2)
        ]
        return Answer(calls=calls)

    upstream.otherwise = model
    response = create(weather_server, max_tool_calls=most)
    assert [item["type"] for item in response["output"]] == [*["mcp_call"] * run, "message"]
    assert (text_of(response), response["status"]) == (f"{run} results", "completed")


def test_r17_instructions_are_of_one_response(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, instructions="Be brief.", input=[{"role": "developer", "content": "Be kind."}, user("one")])
    assert first["instructions"] == "Be brief."
    assert system_text(upstream).endswith("Be brief.\n\nBe kind.")
    second = create(server, input="two", previous_response_id=first["id"])
    assert second["instructions"] is None
    assert system_text(upstream).endswith("\n\nBe kind."), "a message of the chain stands"
    assert "Be brief." not in system_text(upstream)
    assert [message["content"] for message in shown(upstream)] == ["one", "You said: one", "two"]


def test_parameters_reach_the_model_in_its_names(server: AgentServer, upstream: Upstream) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    text = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
    reasoning = {"effort": "low", "summary": "auto"}
    upstream.script(Answer(['{"a": 1}']))
    response = create(
        server, temperature=0.5, top_p=0.9, max_output_tokens=50, text=text, reasoning=reasoning, user="u"
    )
    sent = upstream.last
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["user"]) == (0.5, 0.9, 50, "u")
    assert sent["reasoning_effort"] == "low"
    assert sent["response_format"]["json_schema"] == {"name": "answer", "schema": schema, "strict": True}
    echoed = {name: response[name] for name in ("temperature", "top_p", "max_output_tokens", "text", "reasoning")}
    assert echoed == {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 50, "text": text, "reasoning": reasoning}


def test_r24_all_keys_are_there(server: AgentServer) -> None:
    response = create(server, metadata={"a": "b"}, prompt_cache_key="k", safety_identifier="s")
    assert {**response, "id": "", "created_at": 0, "completed_at": 0, "output": []} == {
        "id": "",
        "object": "response",
        "created_at": 0,
        "completed_at": 0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": MODEL,
        "output": [],
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 15,
        },
        "previous_response_id": None,
        "conversation": None,
        "instructions": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": None, "summary": None},
        "truncation": "auto",
        "background": False,
        "store": True,
        "service_tier": "default",
        "metadata": {"a": "b"},
        "safety_identifier": "s",
        "prompt_cache_key": "k",
    }


def test_numbers_of_any_size_come_back(server: AgentServer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 10**30}}}
    message = {**user("hello"), "more": 10**30}
    response = create(server, input=[message], tools=[{**ASK, "parameters": schema}])
    assert response["tools"][0]["parameters"] == schema


@pytest.mark.parametrize(("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_r40_an_answer_that_is_cut_is_incomplete(
    server: AgentServer, upstream: Upstream, reason: str, told: str
) -> None:
    upstream.script(Answer(["Once upon"], finish_reason=reason))
    response = create(server)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": told})
    assert response["completed_at"] is None
    assert response["output"][-1]["status"] == "incomplete"
    upstream.script(Answer([" a time."]))
    create(server, input="go on", previous_response_id=response["id"])
    assert [message["content"] for message in shown(upstream)] == ["hello", "Once upon", "go on"]


def test_r1_the_tokens_of_a_request_are_counted_and_nobody_is_asked(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    first = create(weather_server, input="I live in Seoul. " * 50)
    asked = len(upstream.requests)
    with weather_server.client() as client:

        def counted(**fields: Any) -> int:
            told = client.responses.input_tokens.count(**{"model": MODEL, "input": "hello", **fields})
            assert told.object == "response.input_tokens"
            return told.input_tokens

        alone = counted()
        assert alone > 100, "with the prompt and the tools"
        assert counted(input="hello " * 100) > alone + 90
        assert counted(instructions="Answer in rhymes. " * 50) > alone + 90
        assert counted(tools=[ASK]) > alone
        assert counted(previous_response_id=first["id"]) > alone + 200
        with pytest.raises(openai.BadRequestError, match="not found"):
            counted(previous_response_id="resp_1")
    assert len(upstream.requests) == asked


def compacted(server: AgentServer, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/responses/compact", json={"model": MODEL, **fields})


def test_r61_a_conversation_becomes_an_item(server: AgentServer, upstream: Upstream) -> None:
    first = create(server, input="My name is Mina.")
    upstream.script(Answer(["Her name is ", "Mina."]))
    answer = compacted(server, previous_response_id=first["id"], input="I live in Seoul.", instructions="Be short.")
    system, told = upstream.last["messages"]
    assert system["content"].endswith("\n\nBe short.")
    expected = "User: My name is Mina.\nAssistant: You said: My name is Mina.\nUser: I live in Seoul."
    assert told["content"] == expected
    assert "tools" not in upstream.last
    window = answer.json()
    assert (window["object"], window["usage"]["output_tokens"]) == ("response.compaction", 5)
    [item] = window["output"]
    assert (item["type"], set(item)) == ("compaction", {"type", "id", "encrypted_content"})
    create(server, input=[item, user("Who am I?")])
    assert [message["content"] for message in shown(upstream)] == [
        "Summary of the conversation so far:\nHer name is Mina.",
        "Who am I?",
    ]
    create(server, input=[item, user("Who am I?")], previous_response_id=first["id"])
    assert len(shown(upstream)) == 2, "the summary stands for the chain"


def test_r61_what_cannot_be_compacted(server: AgentServer, upstream: Upstream) -> None:
    assert httpx.post(f"{server.url}/v1/responses/compact", json={"input": "x"}).status_code == 400
    assert compacted(server).json()["error"]["param"] == "input"
    assert compacted(server, previous_response_id="resp_1").json()["error"]["code"] == "previous_response_not_found"
    upstream.script(Answer(status=400, error="This model's maximum context length is 4096 tokens."))
    assert compacted(server, input="x").json()["error"]["code"] == "context_length_exceeded"
    foreign = {"type": "compaction", "encrypted_content": "gAAAAA=not ours"}
    assert refused(server, input=[foreign]) == (400, "input[0].encrypted_content", "invalid_value")
