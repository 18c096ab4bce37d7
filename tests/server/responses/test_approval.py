"""Tools that a person must approve, over the Responses API (R57 to R60)."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from tests.support.approvals import Wiper, wiper
from tests.support.databases import empty_database
from tests.support.responses import create, events_of, get, post, reference, text_of, user
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

OUTPUT_ITEM: TypeAdapter[ResponseOutputItem] = TypeAdapter(ResponseOutputItem)


@pytest.fixture
def disk(upstream: Upstream, upstream_url: str, tmp_path: Path) -> Iterator[Wiper]:
    with wiper(upstream, upstream_url, tmp_path) as running:
        yield running


def asked_in(response: Json) -> Json:
    """Return the one approval that a response asks for."""
    [item] = [item for item in response["output"] if item["type"] == "mcp_approval_request"]
    return dict(item)


def answer_to(item: Json, *, approve: bool = True, **more: str) -> Json:
    return {"type": "mcp_approval_response", "approval_request_id": item["id"], "approve": approve, **more}


def results(upstream: Upstream) -> list[str]:
    """Return the results that the model was shown."""
    return [message["content"] for message in upstream.last["messages"] if message["role"] == "tool"]


def test_r57_a_response_ends_with_the_request_and_the_next_one_brings_the_answer(disk: Wiper) -> None:
    disk.wants_to_wipe("/tmp/a")
    waiting = create(disk.server, input="Wipe.")
    item = asked_in(waiting)
    assert waiting["status"] == "completed"
    assert item == {
        "id": item["id"],
        "type": "mcp_approval_request",
        "server_label": "disk",
        "name": "wipe",
        "arguments": '{"path": "/tmp/a"}',
    }
    OUTPUT_ITEM.validate_python(item, strict=True)
    assert disk.wiped == 0

    done = create(disk.server, input=[answer_to(item)], previous_response_id=waiting["id"])
    [call, message] = done["output"]
    assert (call["type"], call["approval_request_id"], call["output"]) == (
        "mcp_call",
        item["id"],
        "wiped /tmp/a, call 1",
    )
    assert text_of(done) == "Done."
    assert message["phase"] == "final_answer"
    listed = get(disk.server, f"{done['id']}/input_items", order="asc").json()["data"]
    kinds = [item["type"] for item in listed]
    assert kinds == ["message", "mcp_approval_request", "mcp_approval_response"]


@pytest.mark.parametrize("way", ["conversation", "reference", "replay", "replay without ids"])
def test_r57_the_answer_may_come_in_any_way_that_names_the_request(disk: Wiper, way: str) -> None:
    disk.wants_to_wipe()
    waiting = create(disk.server, input="Wipe.")
    item = asked_in(waiting)
    ways: dict[str, Json] = {
        "conversation": {"input": [answer_to(item)], "conversation": disk_session(disk, waiting)},
        "reference": {"input": [user("Wipe."), reference(item), answer_to(item)]},
        "replay": {"input": [user("Wipe."), item, answer_to(item)]},
        "replay without ids": {"input": [user("Wipe."), {**item}, answer_to(item)], "store": True},
    }
    done = create(disk.server, **ways[way])
    assert text_of(done) == "Done.", done
    assert disk.wiped == 1
    assert disk_session(disk, done) == disk_session(disk, waiting)


def disk_session(disk: Wiper, response: Json) -> str:
    return str(get(disk.server, response["id"]).headers["x-session-id"])


def test_r59_a_replayed_answer_runs_nothing_again_and_a_denial_is_a_result(disk: Wiper) -> None:
    disk.wants_to_wipe(then="First.")
    waiting = create(disk.server, input="Wipe.")
    item = asked_in(waiting)
    create(disk.server, input=[answer_to(item)], previous_response_id=waiting["id"])
    disk.upstream.script(Answer(["Second."]))
    again = create(disk.server, input=[answer_to(item)], previous_response_id=waiting["id"])
    assert [text_of(again), disk.wiped] == ["Second.", 1]
    assert again["output"][0]["output"] == "wiped /tmp/a, call 1"

    disk.upstream.script(Answer(["No then."]))
    denial = answer_to(item, approve=False, reason="Not today.")
    denied = create(disk.server, input=[denial], previous_response_id=waiting["id"])
    assert [item["type"] for item in denied["output"]] == ["message"]
    assert "Not today." in results(disk.upstream)[0]
    assert disk.wiped == 1


def test_r59_an_answer_to_another_request_is_refused(disk: Wiper) -> None:
    disk.wants_to_wipe()
    waiting = create(disk.server, input="Wipe.")
    wrong = answer_to({"id": "mcpr_1"})
    refused = post(disk.server, input=[wrong], previous_response_id=waiting["id"])
    assert refused.status_code == 400
    assert disk.wiped == 0
    assert text_of(create(disk.server, input=[answer_to(asked_in(waiting))], previous_response_id=waiting["id"]))


def test_r59_of_two_answers_at_once_one_runs_the_tool(disk: Wiper) -> None:
    disk.wants_to_wipe()
    disk.upstream.script(Answer(["Done too."]))
    waiting = create(disk.server, input="Wipe.")
    given = {"input": [answer_to(asked_in(waiting))], "previous_response_id": waiting["id"]}
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: create(disk.server, **given), range(2)))
    assert {text_of(answer) for answer in answers} == {"Done.", "Done too."}
    assert disk.wiped == 1


def test_r60_each_call_is_decided_on_its_own(disk: Wiper) -> None:
    wipes = [Call("wipe", json.dumps({"path": f"/{n}"}), f"c{n}", n) for n in range(2)]
    disk.upstream.script(Answer(calls=wipes), Answer(["Both."]))
    waiting = create(disk.server, input="Wipe.")
    first, second = (item for item in waiting["output"] if item["type"] == "mcp_approval_request")
    half = post(disk.server, input=[answer_to(first)], previous_response_id=waiting["id"])
    assert half.status_code == 400, "the other one waits too"
    assert second["id"] in half.json()["error"]["message"]
    done = create(
        disk.server, input=[answer_to(second), answer_to(first, approve=False)], previous_response_id=waiting["id"]
    )
    assert [item.get("approval_request_id") for item in done["output"]] == [second["id"], None]
    assert "refused" in results(disk.upstream)[0]
    assert results(disk.upstream)[1] == "wiped /1, call 1"


def test_r58_on_request_the_question_is_a_function_call_or_text(disk: Wiper) -> None:
    tool = {"type": "function", "name": "approve_tool_call", "parameters": {}, "strict": False}
    disk.wants_to_wipe()
    waiting = create(disk.server, input="Wipe.", tools=[tool])
    [call] = waiting["output"]
    assert (call["type"], call["name"]) == ("function_call", "approve_tool_call")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": '{"approved": true}'}
    done = create(disk.server, input=[output], previous_response_id=waiting["id"], tools=[tool])
    assert [text_of(done), disk.wiped] == ["Done.", 1]
    assert done["output"][0]["approval_request_id"] == call["call_id"]

    disk.wants_to_wipe()
    asked = create(disk.server, input="Wipe.", headers={"X-Tool-Approval": "text"})
    assert "`wipe`" in text_of(asked)
    odd = post(disk.server, headers={"X-Tool-Approval": "loud"})
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "X-Tool-Approval")


def test_the_stream_tells_the_request_as_an_item(disk: Wiper) -> None:
    disk.upstream.script(Answer(["I will."], calls=[Call("wipe", '{"path": "/"}')]))
    events = events_of(disk.server, input="Wipe.")
    told = [event["type"] for event in events if "item" in event and event["item"]["type"] == "mcp_approval_request"]
    assert told == ["response.output_item.added", "response.output_item.done"]
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", "mcp_approval_request"]
    assert events[-1]["type"] == "response.completed"


def test_a_response_in_the_background_may_wait_too(disk: Wiper) -> None:
    disk.wants_to_wipe()
    begun = create(disk.server, input="Wipe.", background=True)
    until(lambda: get(disk.server, begun["id"]).json()["status"] != "in_progress", within=10.0)
    waiting = get(disk.server, begun["id"]).json()
    done = create(disk.server, input=[answer_to(asked_in(waiting))], previous_response_id=waiting["id"])
    assert [text_of(done), disk.wiped] == ["Done.", 1]


def test_an_approval_cannot_be_added_without_a_run(disk: Wiper) -> None:
    disk.wants_to_wipe()
    waiting = create(disk.server, input="Wipe.")
    session = disk_session(disk, waiting)
    with disk.server.client() as client:
        with pytest.raises(Exception, match="begins a run"):
            client.conversations.items.create(session, items=[answer_to(asked_in(waiting))])  # type: ignore[list-item]
        assert disk.session(session)["status"] == "waiting"
        client.conversations.items.create(session, items=[{"role": "user", "content": "Wait."}])
    assert disk.session(session)["status"] == "idle", "who goes on without an answer has refused"
    create(disk.server, input="Now?", conversation=session)
    assert "refused" in results(disk.upstream)[0]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_after_a_restart_an_approval_runs_the_call_once(
    request: pytest.FixtureRequest, kind: str, upstream: Upstream, upstream_url: str, tmp_path: Path
) -> None:
    settings = {"checkpoint_url": empty_database(request, kind)}
    with wiper(upstream, upstream_url, tmp_path, **settings) as disk:
        disk.wants_to_wipe(then="First.")
        waiting = create(disk.server, input="Wipe.")
    given = {"input": [answer_to(asked_in(waiting))], "previous_response_id": waiting["id"]}
    with wiper(upstream, upstream_url, tmp_path, **settings) as disk:
        assert text_of(create(disk.server, **given)) == "First."
    with wiper(upstream, upstream_url, tmp_path, **settings) as disk:
        upstream.script(Answer(["Second."]))
        assert text_of(create(disk.server, **given)) == "Second."
        assert disk.wiped == 1


def test_an_approval_that_nobody_waits_for_is_no_result(disk: Wiper) -> None:
    disk.wants_to_wipe(then="I may not.")
    item = asked_in(create(disk.server, input="Wipe."))
    disk.upstream.forget_script()
    for known in (item, {**item, "id": "mcpr_unknown"}):
        create(disk.server, input=[user("Wipe."), known, answer_to(known)], store=False)
        assert results(disk.upstream)[-1].startswith("This tool call was not run")
    assert disk.wiped == 0


def test_after_an_approval_from_beside_the_request_may_still_be_answered(disk: Wiper) -> None:
    for number, way in enumerate(("conversation", "previous_response_id", "nothing"), 1):
        disk.wants_to_wipe()
        waiting = create(disk.server, input="Wipe.")
        item, session = asked_in(waiting), disk_session(disk, waiting)
        assert disk.approve(session, approved=True).status_code == 200
        disk.upstream.script(Answer(["Late."]))
        named = {"conversation": {"conversation": session}, "previous_response_id": {way: waiting["id"]}}.get(way, {})
        assert text_of(create(disk.server, input=[answer_to(item)], **named)) == "Late."
        assert disk.wiped == number


def test_no_item_is_taken_out_of_a_conversation_that_waits(disk: Wiper) -> None:
    disk.wants_to_wipe()
    waiting = create(disk.server, input="Wipe.")
    item, session = asked_in(waiting), disk_session(disk, waiting)
    url = f"{disk.server.url}/v1/conversations/{session}/items/{item['id']}"
    refused = httpx.delete(url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "waits_for_approval")
    assert text_of(create(disk.server, input=[answer_to(item)], conversation=session)) == "Done."
    assert disk.wiped == 1
