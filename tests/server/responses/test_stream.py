"""The stream of a response, event by event, as it is on the wire."""

import json

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.support.agent_server import MODEL, AgentServer
from tests.support.responses import ASK, create, events_of, get, post, reference, user
from tests.support.upstream import Answer, Call, Json, Upstream

WEATHER = Answer(["Let me look."], calls=[Call("get_weather", '{"city": "Seoul"}')])


def kinds(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_r31_a_frame_is_a_name_and_one_line_and_the_last_says_done(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["a\nb\u2028c\x85"]))
    answer = post(server, stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = answer.text.split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    for frame in frames[:-2]:
        name, data = frame.splitlines()
        assert name.startswith("event: response.")
        assert data.startswith('data: {"type":"' + name.removeprefix("event: "))


def test_r32_r33_r34_text_comes_in_order_and_numbered(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hel", "lo."], pause=0.05))
    events = events_of(server)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    expected = ["created", "in_progress", "output_item.added", "content_part.added"]
    ending = ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert kinds(events)[:4] == expected
    assert kinds(events)[-4:] == ending
    assert set(kinds(events)[4:-4]) == {"output_text.delta"}
    created, _, added, part, *_, done, part_done, item_done, completed = events
    assert (created["response"]["status"], created["response"]["output"]) == ("in_progress", [])
    assert created["response"]["usage"] is None
    assert (added["item"]["content"], added["item"]["status"]) == ([], "in_progress")
    assert part["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    deltas = [event for event in events if event["type"].endswith("text.delta")]
    assert "".join(event["delta"] for event in deltas) == done["text"] == part_done["part"]["text"] == "Hello."
    assert all(event["logprobs"] == [] for event in [*deltas, done])
    assert [item_done["item"]] == completed["response"]["output"]
    assert {event["response"]["id"] for event in events if "response" in event} == {created["response"]["id"]}


def test_r35_a_call_of_the_client_s_tool_comes_with_its_name(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(
        Answer(calls=[Call("ask_user", '{"question": "Colour?"}', id="a"), Call("ask_user", "{}", id="b", index=1)])
    )
    events = events_of(server, tools=[ASK])
    first = [event for event in events if event.get("output_index") == 0]
    assert list(dict.fromkeys(kinds(first))) == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    added, *deltas, done, item = first
    assert {name: added["item"][name] for name in ("type", "name", "arguments")} == {
        "type": "function_call",
        "name": "ask_user",
        "arguments": "",
    }
    assert added["item"]["call_id"].startswith("call_")
    said = "".join(delta["delta"] for delta in deltas)
    assert said == done["arguments"] == item["item"]["arguments"] == '{"question": "Colour?"}'
    assert events[-1]["response"]["status"] == "completed"


def test_r35_the_arguments_are_streamed_while_the_model_writes_them(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("ask_user", '{"question": "Which ')], hold=True))
    body = {"model": MODEL, "input": "Paint it.", "stream": True, "background": True, "tools": [ASK]}
    events: list[Json] = []
    said = ""
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=30) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            events.append(json.loads(line.removeprefix("data: ")))
            said += events[-1]["delta"] if events[-1]["type"].endswith("arguments.delta") else ""
            if events[-1]["type"].endswith("arguments.delta") and said == '{"question": "Which ':
                cancelled = httpx.post(f"{server.url}/v1/responses/{events[0]['response']['id']}/cancel")
                assert cancelled.status_code == 200
    [call] = events[-1]["response"]["output"]
    assert (call["type"], call["status"], call["arguments"]) == ("function_call", "incomplete", said)
    assert kinds(events)[-3:] == ["function_call_arguments.done", "output_item.done", "failed"]
    answered = create(server, input=[user("Paint it."), call, user("Go on.")], store=False)
    assert answered["status"] == "completed"
    assert upstream.last["messages"][-1]["content"] == "Go on."


def test_r36_what_the_model_thinks_is_a_summary(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Yes."], reasoning=["hm"]))
    events = events_of(server)
    thinking = ["reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.done"]
    expected = ["output_item.added", *thinking, "reasoning_summary_part.done", "output_item.done", "output_item.added"]
    assert kinds(events)[2:9] == expected
    assert events[7]["item"]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert events[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}


def test_r28_r37_a_tool_of_the_server_s_is_a_call_with_its_output(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(WEATHER, Answer(["5.3 °C."]))
    events = events_of(weather_server)
    begin = kinds(events).index("mcp_call.in_progress") - 1
    told = ["in_progress", "arguments.delta", "arguments.done", "completed"]
    calls = [f"mcp_call.{name}" if "." not in name else f"mcp_call_{name}" for name in told]
    assert kinds(events)[begin : begin + 6] == ["output_item.added", *calls, "output_item.done"]
    item = events[begin + 5]["item"]
    assert (item["server_label"], item["name"], item["status"]) == ("bundled", "get_weather", "completed")
    assert "5.3 °C" in item["output"]
    assert item["error"] is None
    messages = [item for item in events[-1]["response"]["output"] if item["type"] == "message"]
    assert [message["phase"] for message in messages] == ["commentary", "final_answer"]


def test_r37_a_tool_that_fails_is_an_item_with_an_error(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("nowhere", "{}")]), Answer(["It failed."]))
    events = events_of(weather_server)
    assert "mcp_call.failed" in kinds(events)
    item = events[-1]["response"]["output"][0]
    assert (item["status"], item["output"]) == ("failed", None)
    assert item["error"]["content"] == [{"type": "text", "text": "There is no tool called 'nowhere'."}]
    assert events[-1]["type"] == "response.completed"


def test_r38_a_failure_in_the_middle_is_a_response_that_failed(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Half an "], finish_reason=""))
    events = events_of(server)
    failed = events[-1]
    assert failed["type"] == "response.failed"
    assert "error" not in failed
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert "ended in the middle" in failed["response"]["error"]["message"]
    assert failed["response"]["output"][0]["status"] == "incomplete"
    stored = get(server, failed["response"]["id"]).json()
    assert (stored["status"], stored["output"]) == ("failed", failed["response"]["output"])
    again = create(server, input=[user("hello"), reference(stored["output"][0]), user("and?")])
    assert again["status"] == "completed"
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["hello", "Half an ", "and?"]


@pytest.mark.parametrize("stream", [True, False])
def test_r2_r39_a_failure_before_the_first_event_is_a_status(
    server: AgentServer, upstream: Upstream, stream: bool
) -> None:
    upstream.script(Answer(status=400, error="This model's maximum context length is 4096 tokens."))
    answer = post(server, stream=stream)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.nightly
def test_r41_silence_is_broken_by_comments(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hel", "lo."], pause=16))
    text = post(server, stream=True, timeout=60).text
    assert ": ping\n\n" in text


def test_r25_r40_a_cut_answer_s_last_item_is_incomplete(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once upon"], finish_reason="length"))
    events = events_of(server)
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-2]["item"]["status"] == "incomplete"


def test_r51_a_second_run_in_a_session_waits(server: AgentServer, upstream: Upstream) -> None:
    first = create(server)
    upstream.script(Answer(["slow"], pause=0.5))
    with httpx.stream(
        "POST",
        f"{server.url}/v1/responses",
        json={"model": MODEL, "input": "one", "previous_response_id": first["id"], "stream": True},
    ) as running:
        lines = running.iter_lines()
        next(lines)
        second = create(server, input="two", previous_response_id=first["id"])
        del lines
    assert second["status"] == "completed"
    name = httpx.get(f"{server.url}/v1/sessions").json()["data"][0]
    assert (name["turns"], name["branches"]) == (2, 2)


def test_structured_output_with_the_sdk(server: AgentServer, upstream: Upstream) -> None:
    class Weather(BaseModel):
        celsius: float

    upstream.script(Answer(['{"celsius": 5.3}']))
    with server.client() as client:
        parsed = client.responses.parse(model=MODEL, input="weather?", text_format=Weather)
    assert parsed.output_parsed == Weather(celsius=5.3)
    assert upstream.last["response_format"]["json_schema"]["strict"] is True


def test_errors_reach_the_sdk_s_user(server: AgentServer) -> None:
    with server.client() as client:
        with pytest.raises(openai.BadRequestError) as raised:
            client.responses.create(model=MODEL, input="x", previous_response_id="resp_unknown")
        assert (raised.value.code, raised.value.param) == ("previous_response_not_found", "previous_response_id")
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_unknown")
