"""Responses that are made in the background: asked for again, streamed again, cancelled, and lost."""

import signal
from typing import Any

import httpx
import pytest

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.command import serving, without_tools
from tests.support.databases import change, select
from tests.support.responses import create, event_of, events_of, get, post, refused, text_of
from tests.support.upstream import Answer, Json, Upstream
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("every_database")
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def begin(server: AgentServer, **fields: Any) -> Json:
    """Begin a response in the background."""
    response = create(server, background=True, **fields)
    assert (response["status"], response["background"], response["output"]) == ("in_progress", True, [])
    return response


def ended(server: AgentServer, response: Json) -> Json:
    """Return a response at its end."""
    until(lambda: get(server, response["id"]).json()["status"] != "in_progress", within=10.0)
    found: Json = get(server, response["id"]).json()
    return found


def replayed(server: AgentServer, response_id: str, after: int | None = None) -> list[Json]:
    """Return the events of a stream that is asked for again."""
    params = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    url = f"{server.url}/v1/responses/{response_id}"
    text = httpx.get(url, params=params, timeout=30).text
    *frames, done, nothing = text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    return [event_of(frame) for frame in frames]


def cancel(server: AgentServer, response: Json) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/responses/{response['id']}/cancel", timeout=30)


def test_it_goes_on_after_the_answer(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hel", "lo."], pause=0.2))
    begun = begin(server, input="hello")
    found = ended(server, begun)
    assert (found["status"], text_of(found), found["background"]) == ("completed", "Hello.", True)
    assert found["created_at"] == begun["created_at"]
    create(server, input="more", previous_response_id=begun["id"])
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["hello", "Hello.", "more"]
    assert get(server, begun["id"], stream="true").status_code == 400, "it was not made as a stream"


def test_what_follows_a_response_in_progress_comes_later(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once"], hold=True))
    begun = begin(server)
    answer = post(server, previous_response_id=begun["id"])
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")
    assert answer.json()["error"]["code"] == "response_in_progress"
    deleted = httpx.delete(f"{server.url}/v1/responses/{begun['id']}")
    assert (deleted.status_code, deleted.json()["error"]["code"]) == (400, "response_in_progress")
    assert cancel(server, begun).status_code == 200


def test_r19_what_is_made_in_the_background_is_stored(server: AgentServer) -> None:
    assert refused(server, background=True, store=False) == (400, "background", "invalid_value")


def test_its_stream_goes_on_without_its_reader_and_is_told_again(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer([f"{number} " for number in range(5)], pause=0.2))
    body = {"model": MODEL, "input": "count", "stream": True, "background": True}
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                response_id = httpx.Response(200, text=line[6:]).json()["response"]["id"]
                break
    live = replayed(server, response_id)
    assert [event["sequence_number"] for event in live] == list(range(len(live)))
    assert live[0]["type"] == "response.created"
    assert live[-1]["type"] == "response.completed"
    assert text_of(live[-1]["response"]) == "0 1 2 3 4 "
    assert get(server, response_id).json() == live[-1]["response"]
    until(lambda: replayed(server, response_id) == live, within=5.0)
    for after in (-1, 0, 5, len(live) - 2):
        assert replayed(server, response_id, after) == live[after + 1 :]
    assert replayed(server, response_id, len(live) - 1) == []


def test_r52_the_number_of_an_event_is_a_number(server: AgentServer) -> None:
    answer = get(server, "resp_1", starting_after="x")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")


def test_the_sdk_streams_it_again(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Hel", "lo."]))
    with server.client() as client:
        with client.responses.stream(model=MODEL, input="hello", background=True) as events:
            first = next(iter(events))
            assert first.type == "response.created"
        with client.responses.stream(response_id=first.response.id, starting_after=3) as events:
            numbers = [event.sequence_number for event in events]
            assert events.get_final_response().output_text == "Hello."
        assert numbers == list(range(4, 4 + len(numbers)))
        told = list(client.responses.retrieve(first.response.id, stream=True, starting_after=numbers[-2]))
        assert [event.sequence_number for event in told] == numbers[-1:]


def test_r53_cancel_keeps_what_was_said(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once ", "upon"], hold=True))
    begun = begin(server, stream=False)
    until(lambda: upstream.streaming == 1, within=5.0)
    answer = cancel(server, begun)
    cancelled = answer.json()
    assert (answer.status_code, cancelled["status"], cancelled["error"]) == (200, "cancelled", None)
    assert cancel(server, begun).json() == cancelled, "again"
    assert get(server, begun["id"]).json() == cancelled
    until(lambda: upstream.streaming == 0, within=2.0)
    assert refused(server, previous_response_id=begun["id"]) == (400, "previous_response_id", "invalid_value")


def test_r53_what_has_ended_cannot_be_cancelled(server: AgentServer) -> None:
    done = ended(server, begin(server))
    assert cancel(server, done).status_code == 400
    assert get(server, done["id"]).json()["status"] == "completed"


def test_a_cancelled_stream_ends_with_an_event(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["Once "], hold=True))
    body = {"model": MODEL, "input": "hello", "stream": True, "background": True}
    events: list[Json] = []
    with httpx.stream("POST", f"{server.url}/v1/responses", json=body, timeout=30) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                events.append(httpx.Response(200, text=line[6:]).json())
                if events[-1]["type"] == "response.output_text.delta":
                    assert cancel(server, events[0]["response"]).status_code == 200
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "cancelled"
    assert [event["type"] for event in events if event["type"] in TERMINAL] == ["response.failed"]
    assert events[-1]["response"]["output"][-1]["status"] == "incomplete"


def test_a_model_that_fails_is_a_response_that_failed(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(status=400, error="This model's maximum context length is 4096 tokens."))
    found = ended(server, begin(server))
    assert (found["status"], found["error"]["code"]) == ("failed", "invalid_prompt"), "the SDK's types know no better"
    assert "longer than the model's context" in found["error"]["message"]
    assert refused(server, previous_response_id=found["id"])[0] == 400


def test_it_takes_a_place_among_the_runs(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["Once"], hold=True))
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, max_runs=1, max_queued=0) as server:
        begun = begin(server)
        assert post(server).status_code == 503
        assert cancel(server, begun).status_code == 200
        until(lambda: post(server).status_code == 200, within=5.0)
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'chat_agent_requests_total{key="",route="/v1/responses",status="200"}' in metrics


def test_r55_a_response_whose_process_is_killed_has_failed(
    upstream: Upstream, upstream_url: str, every_database: str
) -> None:
    upstream.script(Answer(["Once ", "upon"], reasoning=["hm"], hold=True))
    settings = without_tools(upstream_url, CHECKPOINT_URL=every_database, PLAYGROUND="false")
    with serving("serve", **settings) as (command, server):
        begun = begin(server)
        events = "SELECT frames FROM response_events"
        until(lambda: any(b"upon" in bytes(frames) for (frames,) in select(every_database, events)), within=10.0)
        command.end(signal.SIGKILL)
    if not every_database.startswith("sqlite"):  # another process cannot know yet that it is dead
        change(every_database, "UPDATE responses SET beat = beat - 61")
    with serving("serve", **settings) as (_, server):
        found = get(server, begun["id"]).json()
        assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
        assert [item["status"] for item in found["output"]] == ["completed", "incomplete"]
        assert text_of(found) == "Once upon", "what it told is known"
        assert get(server, begun["id"]).json() == found
        assert refused(server, previous_response_id=begun["id"])[0] == 400


def test_r56_a_shutdown_cancels_nothing(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["Once ", "upon ", "a time."], pause=0.5))
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False}
    with agent_server(**options) as server:
        begun = begin(server)
    with agent_server(**options) as server:
        found = get(server, begun["id"]).json()
        assert (found["status"], text_of(found)) == ("completed", "Once upon a time.")


def test_r54_events_are_forgotten_some_time_after_the_end(upstream_url: str, every_database: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "session_ttl": 2.0}
    with agent_server(**options) as server:
        response_id = events_of(server, background=True)[0]["response"]["id"]
        assert replayed(server, response_id)
        change(every_database, "UPDATE responses SET ended_at = ended_at - 601")
        until(lambda: get(server, response_id, stream="true").status_code in (400, 404), within=10.0)
        assert select(every_database, "SELECT count(*) FROM response_events") == [(0,)]
