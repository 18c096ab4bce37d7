"""The events of any run make a stream that the openai package's strict accumulator takes, and one output."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from graph.events import (
    ClientCall,
    ClientCallDelta,
    MessageEnded,
    Reasoning,
    Refusal,
    RunEvent,
    Text,
    ToolEnded,
    ToolStarted,
)
from server.responses.messages import Input
from server.responses.output import Output
from server.responses.request import ResponseRequest
from server.responses.resource import Resource
from server.sessions.speech import MAX_PIECE
from tests.support.upstream import Json

STRICT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
PIECES = st.text(min_size=1, max_size=5)
# Arguments that are told while the model writes them.
LIVE = [("{",), ('{"a"', ": 1}"), ('{"a": [', "1", "]}")]


def spoken(kind: str, name: str, text: str) -> RunEvent:
    """A piece of what a model message says."""
    if kind == "text":
        return Text(name, text)
    return Refusal(name, text) if kind == "refusal" else Reasoning(name, text)


@st.composite
def model_messages(draw: st.DrawFn, name: str) -> list[RunEvent]:
    """What a model message tells: thoughts, text and refusals in any order, and then its calls."""
    said = draw(st.lists(st.tuples(st.sampled_from(["text", "refusal", "reasoning"]), PIECES), max_size=6))
    calls = draw(st.lists(st.sampled_from(["ours", "failing", "clients"]), max_size=3))
    finish_reason = draw(st.sampled_from(["stop", "length", "content_filter", None]))
    events: list[RunEvent] = [spoken(kind, name, text) for kind, text in said]
    clients = [f"{name}-{index}" for index, kind in enumerate(calls) if kind == "clients"]
    live = draw(st.lists(st.sampled_from(clients), unique=True)) if clients else []
    deltas = [ClientCallDelta(call_id, "f", piece) for call_id in live for piece in draw(st.sampled_from(LIVE))]
    for delta in draw(st.permutations(deltas)) if len(live) > 1 and draw(st.booleans()) else deltas:
        events.insert(draw(st.integers(0, len(events))) if draw(st.booleans()) else len(events), delta)
    events.append(MessageEnded(name, finish_reason, None, has_calls=bool(calls)))
    ours = [(f"{name}-{index}", kind) for index, kind in enumerate(calls) if kind != "clients"]
    for index, kind in enumerate(calls):
        call_id = f"{name}-{index}"
        if kind != "clients":
            events.append(ToolStarted(call_id, "g", {}, "server"))
            continue
        if call_id not in live:
            events.append(ClientCallDelta(call_id, "f", draw(st.sampled_from(["", "{}"]))))
        events.append(ClientCall(call_id))
    for call_id, kind in draw(st.permutations(ours)):
        events.append(ToolEnded(call_id, kind == "failing", "found"))
    return events


@st.composite
def runs(draw: st.DrawFn) -> list[RunEvent]:
    """The events of a run, which may have been cut short."""
    count = draw(st.integers(0, 3))
    events = [event for index in range(count) for event in draw(model_messages(f"m{index}"))]
    return events[: draw(st.integers(0, len(events)))] if draw(st.booleans()) else events


def streamed(resource: Resource, events: Sequence[RunEvent]) -> tuple[list[Json], Output]:
    """The events of the stream, with numbers and the two that begin it, but for the last one."""
    output = Output(resource.id)
    told: list[Json] = [
        {"type": kind, "response": resource.begun()} for kind in ("response.created", "response.in_progress")
    ]
    told += [event for run_event in events for event in output.of(run_event)]
    told += output.end()
    numbers = count()
    return [{**event, "sequence_number": next(numbers)} for event in told], output


@settings(deadline=None)  # the first one imports the openai package's types
@given(runs())
def test_any_run_is_a_stream_that_clients_take(events: list[RunEvent]) -> None:
    resource = Resource("resp_1", ResponseRequest(model="m"), Input())
    told, output = streamed(resource, events)
    told.append(
        {
            "type": "response.completed",
            "sequence_number": len(told),
            "response": resource.ended(Output("resp_1")) | {"output": output.items},
        }
    )

    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in told:
        STRICT.validate_python(event)
        state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]

    done = {event["output_index"]: event["item"] for event in told if event["type"] == "response.output_item.done"}
    assert [done[place] for place in sorted(done)] == output.items
    assert len({item["id"] for item in output.items}) == len(output.items)
    assert {item["status"] for item in output.items} <= {"completed", "incomplete", "failed"}


@given(runs())
def test_what_is_said_of_calls_is_the_calls(events: list[RunEvent]) -> None:
    told, output = streamed(Resource("resp_1", ResponseRequest(model="m"), Input()), events)
    said: dict[str, str] = defaultdict(str)
    for event in told:
        if event["type"] == "response.function_call_arguments.delta":
            said[event["item_id"]] += event["delta"]
    items = {item["call_id"]: item for item in output.items if item["type"] == "function_call"}
    assert {item["id"]: item["arguments"] for item in items.values() if item["arguments"]} == said
    whole: dict[str, str] = defaultdict(str)
    for run_event in events:
        if isinstance(run_event, ClientCallDelta):
            whole[run_event.call_id] += run_event.arguments
    assert whole == {call_id: item["arguments"] for call_id, item in items.items()}
    ended = {run_event.call_id for run_event in events if isinstance(run_event, ClientCall)}
    assert all(items[call_id]["status"] == "incomplete" for call_id in items.keys() - ended), "it was cut short"


@given(runs())
def test_the_output_made_again_is_the_same(events: list[RunEvent]) -> None:
    _, output = streamed(Resource("resp_1", ResponseRequest(model="m"), Input()), events)
    assert Output("resp_1").after(events).items == output.items


@given(runs())
def test_nothing_that_was_said_is_lost(events: list[RunEvent]) -> None:
    output = Output("resp_1").after(events)
    said = [part for item in output.items for part in item.get("content") or item.get("summary") or ()]
    for kind, name in ((Text, "text"), (Refusal, "refusal")):
        whole = "".join(part.get(name, "") for part in said if part["type"] in ("output_text", "refusal"))
        assert whole == "".join(event.text for event in events if isinstance(event, kind))
    thought = "".join(part["text"] for part in said if part["type"] == "summary_text")
    assert thought == "".join(event.text for event in events if isinstance(event, Reasoning))


def test_a_piece_fits_into_a_frame() -> None:
    output = Output("resp_1")
    long = "x" * (2 * MAX_PIECE + 1)
    told = [*output.of(Text("m", long)), *output.of(ClientCallDelta("c", "f", long))]
    pieces = [event["delta"] for event in told if event["type"].endswith(".delta")]
    assert [len(piece) for piece in pieces] == [MAX_PIECE, MAX_PIECE, 1] * 2


def test_thoughts_that_come_late_do_not_cut_a_message_in_two() -> None:
    events: list[RunEvent] = [Text("m", "a"), Reasoning("m", "hm"), Text("m", "b"), MessageEnded("m", "stop", None)]
    items = Output("resp_1").after(events).items
    assert [item["type"] for item in items] == ["message", "reasoning"]
    assert items[0]["content"][0]["text"] == "ab"


def test_r27_text_before_calls_is_commentary() -> None:
    events: list[RunEvent] = [
        Text("m", "Let me look."),
        MessageEnded("m", "tool_calls", None, has_calls=True),
        ToolStarted("c", "get_weather", {"city": "Seoul"}, "weather"),
        ToolEnded("c", False, "5 °C"),
        Text("n", "It is cold."),
        MessageEnded("n", "stop", None),
    ]
    first, call, last = Output("resp_1").after(events).items
    assert (first["phase"], last["phase"]) == ("commentary", "final_answer")
    assert call == {
        "id": "mcp_1_o1",
        "type": "mcp_call",
        "status": "completed",
        "server_label": "weather",
        "name": "get_weather",
        "arguments": '{"city": "Seoul"}',
        "output": "5 °C",
        "error": None,
        "approval_request_id": None,
    }
