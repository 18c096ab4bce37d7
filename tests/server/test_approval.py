"""Tools that a person must approve, over chat completions and from beside: asked, answered, and run at most once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.support.approvals import APPROVE, Wiper, answer_to, says, wiper
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

CALLS = {"X-Tool-Approval": "call"}
ASK: Json = {"type": "function", "function": {"name": "ask_user", "parameters": {"type": "object", "properties": {}}}}
BOTH = [Call("ask_user", "{}", "call_a", 0), Call("wipe", '{"path": "/b"}', "call_b", 1)]
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}


@pytest.fixture
def disk(upstream: Upstream, upstream_url: str, tmp_path: Path) -> Iterator[Wiper]:
    with wiper(upstream, upstream_url, tmp_path) as running:
        yield running


@pytest.fixture
def by_text(upstream: Upstream, upstream_url: str, tmp_path: Path) -> Iterator[Wiper]:
    with wiper(upstream, upstream_url, tmp_path, approve_by_text=True) as running:
        yield running


def test_a_client_with_the_tool_is_asked_by_it(disk: Wiper) -> None:
    disk.wants_to_wipe("/tmp/a")
    asked = disk.chat(says("Wipe."), tools=[APPROVE])
    [call] = asked["tool_calls"]
    assert call["function"]["name"] == "approve_tool_call"
    told = {"tool": "wipe", "server": "disk", "arguments": {"path": "/tmp/a"}}
    assert json.loads(call["function"]["arguments"]) == told
    assert asked["finish_reason"] == "tool_calls"
    assert "approve_tool_call" not in json.dumps(disk.upstream.last), "the model is not offered the question"
    assert disk.wiped == 0
    assert disk.session()["status"] == "waiting"
    assert disk.session()["approvals"] == [
        {"id": call["id"], "name": "wipe", "arguments": {"path": "/tmp/a"}, "server": "disk"}
    ]

    answer = disk.chat(answer_to(call, approved=True), tools=[APPROVE])
    assert answer["content"] == "Done."
    assert disk.wiped == 1
    assert disk.upstream.last["messages"][-1]["content"] == "wiped /tmp/a, call 1"
    assert (disk.session()["status"], disk.session()["approvals"]) == ("idle", [])


def test_a_client_that_sends_its_whole_history_may_regenerate_and_edit(disk: Wiper) -> None:
    disk.wants_to_wipe(then="First.")
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    asked: list[Json] = [says("Wipe."), {"role": "assistant", "content": None, "tool_calls": [call]}]
    approved = [*asked, answer_to(call, approved=True)]
    assert disk.chat(*approved, headers=CALLS)["content"] == "First."

    disk.upstream.script(Answer(["Second."]))
    assert disk.chat(*approved, headers=CALLS)["content"] == "Second."
    assert disk.wiped == 1, "approved once, run once, on every branch"
    assert disk.upstream.last["messages"][-1]["content"] == "wiped /tmp/a, call 1"

    disk.upstream.script(Answer(["Then not."]))
    assert (
        disk.chat(*asked, answer_to(call, approved=False, reason="too early"), headers=CALLS)["content"] == "Then not."
    )
    refused = disk.upstream.last["messages"][-1]["content"]
    assert "too early" in refused
    assert "wiped /tmp/a, call 1" in refused, "it was run, whatever was decided later"

    disk.upstream.script(Answer(["More."]))
    whole = [*approved, {"role": "assistant", "content": "First."}, says("And?")]
    assert disk.chat(*whole, headers=CALLS)["content"] == "More."
    assert disk.wiped == 1


def test_arguments_may_be_changed(disk: Wiper) -> None:
    disk.wants_to_wipe("/")
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    disk.chat(answer_to(call, approved=True, arguments={"path": "/tmp/b"}), headers=CALLS)
    assert disk.upstream.last["messages"][-1]["content"] == "wiped /tmp/b, call 1"
    sent = disk.upstream.last["messages"][-2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"path": "/tmp/b"}, "the model is shown what was run"


def test_arguments_that_were_taken_away_are_not_the_models(disk: Wiper) -> None:
    disk.wants_to_wipe("/")
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    disk.chat(answer_to(call, approved=True, arguments={}), headers=CALLS)
    assert disk.wiped == 0
    assert "path" in disk.upstream.last["messages"][-1]["content"], "what the tool says of it"


def test_a_call_is_shown_with_the_arguments_that_it_was_run_with(disk: Wiper) -> None:
    disk.wants_to_wipe("/tmp/one", then="First.")
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    asked: list[Json] = [says("Wipe."), {"role": "assistant", "content": None, "tool_calls": [call]}]
    disk.chat(*asked, answer_to(call, approved=True), headers=CALLS)
    disk.upstream.script(Answer(["Second."]))
    disk.chat(*asked, answer_to(call, approved=True, arguments={"path": "/tmp/two"}), headers=CALLS)
    calling, result = disk.upstream.last["messages"][-2:]
    assert json.loads(calling["tool_calls"][0]["function"]["arguments"]) == {"path": "/tmp/one"}
    assert result["content"] == "wiped /tmp/one, call 1"


def test_what_was_run_by_a_turn_that_failed_is_not_denied(disk: Wiper) -> None:
    wipe = Call("wipe", '{"path": "/tmp/a"}')
    disk.upstream.script(Answer(calls=[wipe]), Answer(status=400, error="no"), Answer(["Too late."]))
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    body = {"model": "test-model", "messages": [answer_to(call, approved=True)]}
    assert disk.server.post(body, headers={"X-Session-ID": "s"}).status_code == 400
    assert disk.chat(answer_to(call, approved=False))["content"] == "Too late."
    assert "wiped /tmp/a, call 1" in disk.upstream.last["messages"][-1]["content"]
    assert disk.wiped == 1


def test_huge_numbers_are_read_as_javascript_reads_them(disk: Wiper) -> None:
    disk.wants_to_wipe()
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    assert disk.chat(answer_to(call, approved=True, arguments={"path": "/", "more": 10**30}))["content"] == "Done."


@pytest.mark.parametrize(
    "content",
    [
        "",
        "yes",
        '{"approved": "yes"}',
        '{"approve": true}',
        '{"approved": true, "arguments": 1}',
        '{"approved": true, "arguments": {"path": NaN}}',
    ],
)
def test_an_answer_that_cannot_be_read_is_refused_and_may_be_given_again(disk: Wiper, content: str) -> None:
    disk.wants_to_wipe()
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    wrong = {"role": "tool", "tool_call_id": call["id"], "content": content}
    answer = disk.server.post({"model": "test-model", "messages": [wrong]}, headers={"X-Session-ID": "s"})
    assert answer.status_code == 400
    assert "arguments" in answer.json()["error"]["message"]
    assert disk.chat(answer_to(call, approved=True))["content"] == "Done."
    assert disk.wiped == 1


def test_others_are_asked_in_words_and_their_yes_does_not_count_by_itself(disk: Wiper) -> None:
    disk.wants_to_wipe()
    asked = disk.chat(says("Wipe."))
    assert "`wipe`" in asked["content"]
    assert '"/tmp/a"' in asked["content"]
    assert "POST /v1/sessions/s/approve" in asked["content"]
    assert asked["finish_reason"] == "stop"

    assert disk.chat(says("yes"))["content"] == "Done."
    assert disk.wiped == 0
    shown = disk.upstream.last["messages"]
    assert "refused" in shown[-2]["content"]
    assert shown[-1] == {"role": "user", "content": "yes"}


@pytest.mark.parametrize(("said", "runs"), [("Yes.", 1), ("네!", 1), ("no", 0), ("아니요", 0), ("Yes, but why?", 0)])
def test_words_decide_where_that_is_set(by_text: Wiper, said: str, runs: int) -> None:
    by_text.wants_to_wipe()
    question = by_text.chat(says("Wipe."))["content"]
    history = [says("Wipe."), {"role": "assistant", "content": question}, says(said)]
    assert by_text.chat(*history)["content"] == "Done."
    assert by_text.wiped == runs
    by_text.upstream.script(Answer(["Again."]))
    assert by_text.chat(*history, {"role": "assistant", "content": "Done."}, says("And?"))["content"] == "Again."
    assert by_text.wiped == runs


def test_from_beside_somebody_approves_what_the_client_cannot(disk: Wiper) -> None:
    disk.wants_to_wipe()
    question = disk.chat(says("Wipe."))["content"]
    done = disk.approve(approved=True)
    assert done.status_code == 200, done.text
    assert [(message["role"], message["content"]) for message in done.json()["data"]] == [
        ("tool", "wiped /tmp/a, call 1"),
        ("assistant", "Done."),
    ]
    assert disk.session()["status"] == "idle"

    disk.upstream.script(Answer(["It was wiped."]))
    history = [says("Wipe."), {"role": "assistant", "content": question}, says("And?")]
    assert disk.chat(*history)["content"] == "It was wiped.", "a client that saw nothing of it goes on after it"
    contents = [message["content"] for message in disk.upstream.last["messages"]]
    assert "wiped /tmp/a, call 1" in contents

    again = disk.approve(approved=True)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "nothing_to_approve")
    assert disk.wiped == 1


def test_after_an_approval_from_beside_the_client_may_still_answer(disk: Wiper) -> None:
    disk.wants_to_wipe()
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    assert disk.approve(approved=True).status_code == 200
    disk.upstream.script(Answer(["Yes, it was."]), Answer(["It was."]))
    assert disk.chat(answer_to(call, approved=True))["content"] == "Yes, it was."
    history = [says("Wipe."), {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert disk.chat(*history, answer_to(call, approved=False))["content"] == "It was."
    assert disk.wiped == 1


@pytest.mark.parametrize("is_whole", [True, False])
def test_after_an_approval_from_beside_the_clients_own_calls_wait_on(disk: Wiper, is_whole: bool) -> None:
    disk.upstream.script(Answer(calls=BOTH), Answer(["Both."]))
    asked = disk.chat(says("Both."), tools=[ASK])
    [call] = asked["tool_calls"]
    assert disk.approve(approved=True).status_code == 200
    assert disk.session()["status"] == "waiting"
    said = {"role": "assistant", "content": asked["content"], "tool_calls": [call]}
    mine = {"role": "tool", "tool_call_id": call["id"], "content": "mine"}
    assert disk.chat(*([says("Both."), said] if is_whole else []), mine, tools=[ASK])["content"] == "Both."
    shown = [message["content"] for message in disk.upstream.last["messages"][-2:]]
    assert shown == ["mine", "wiped /b, call 1"]
    assert disk.wiped == 1


def test_an_approval_from_beside_goes_on_with_what_the_turn_asked_for(disk: Wiper) -> None:
    disk.wants_to_wipe()
    disk.chat({"role": "system", "content": "Answer in rhymes."}, says("Wipe."), temperature=0.1, max_tokens=77)
    assert disk.approve(approved=True).status_code == 200
    assert (disk.upstream.last["temperature"], disk.upstream.last["max_tokens"]) == (0.1, 77)
    assert "Answer in rhymes." in disk.upstream.last["messages"][0]["content"]


def test_an_approval_from_beside_is_a_run_like_others(upstream: Upstream, upstream_url: str, tmp_path: Path) -> None:
    with wiper(upstream, upstream_url, tmp_path, max_runs=1, max_queued=0) as disk:
        disk.wants_to_wipe()
        disk.chat(says("Wipe."))
        upstream.forget_script()
        upstream.script(Answer(["one "], hold=True))
        with disk.server.client(session="t") as client:
            stream = client.chat.completions.create(model="test-model", messages=[QUESTION], stream=True)
            assert disk.approve(approved=True).status_code == 503
            stream.close()
        until(lambda: disk.approve(approved=True).status_code == 200)
        assert disk.wiped == 1


def test_a_question_in_words_waits_while_the_clients_own_calls_are_answered(by_text: Wiper) -> None:
    by_text.upstream.script(Answer(calls=BOTH), Answer(["Both."]))
    asked = by_text.chat(says("Both."), tools=[ASK])
    [call] = asked["tool_calls"]
    assert asked["finish_reason"] == "tool_calls"
    again = by_text.chat({"role": "tool", "tool_call_id": call["id"], "content": "mine"}, tools=[ASK])
    assert "`wipe`" in again["content"], "its user has said nothing yet"
    assert by_text.wiped == 0
    assert by_text.chat(says("yes"), tools=[ASK])["content"] == "Both."
    shown = [message["content"] for message in by_text.upstream.last["messages"][-2:]]
    assert shown == ["mine", "wiped /b, call 1"]


def test_a_yes_counts_though_the_clients_own_call_was_left_open(by_text: Wiper) -> None:
    by_text.upstream.script(Answer(calls=BOTH), Answer(["Both."]))
    by_text.chat(says("Both."), tools=[ASK])
    assert by_text.chat(says("네"), tools=[ASK])["content"] == "Both."
    shown = [message["content"] for message in by_text.upstream.last["messages"][-2:]]
    assert shown == ["This tool call was cancelled by the user.", "wiped /b, call 1"]


def test_from_beside_each_call_is_decided_on_its_own(disk: Wiper) -> None:
    wipes = [Call("wipe", json.dumps({"path": f"/{n}"}), f"call_{n}", n) for n in range(3)]
    disk.upstream.script(Answer(calls=[*wipes, Call("echo", '{"text": "e"}', "call_3", 3)]), Answer(["Done."]))
    disk.chat(says("Wipe."))
    assert disk.wiped == 0
    wrong = disk.approve(decisions=[{"id": "call_9", "approved": True}])
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "decisions[0].id")
    assert disk.approve().status_code == 400
    first, second, _ = (call["id"] for call in disk.session()["approvals"])
    decisions = [{"id": first, "approved": True, "arguments": {"path": "/x"}}, {"id": second, "approved": False}]
    assert disk.approve(decisions=decisions).status_code == 200
    results = [message["content"] for message in disk.upstream.last["messages"] if message["role"] == "tool"]
    assert results[0] == "wiped /x, call 1"
    assert "refused" in results[1]
    assert "refused" in results[2], "nobody decided about it"
    assert results[3] == "e"


def test_a_user_who_goes_on_instead_has_refused(disk: Wiper) -> None:
    disk.wants_to_wipe(then="Something else.")
    [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
    history: list[Json] = [
        says("Wipe."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        says("Never mind."),
    ]
    assert disk.chat(*history, headers=CALLS)["content"] == "Something else."
    assert disk.wiped == 0
    assert "cancelled by the user" in disk.upstream.last["messages"][-2]["content"]


def test_the_clients_own_tools_beside(disk: Wiper) -> None:
    disk.upstream.script(Answer(calls=BOTH), Answer(["Both."]))
    asked = disk.chat(says("Both."), tools=[ASK, APPROVE])
    assert [call["function"]["name"] for call in asked["tool_calls"]] == ["ask_user", "approve_tool_call"]
    first, second = asked["tool_calls"]
    mine = {"role": "tool", "tool_call_id": first["id"], "content": "mine"}
    assert disk.chat(mine, answer_to(second, approved=True), tools=[ASK, APPROVE])["content"] == "Both."
    assert [message["content"] for message in disk.upstream.last["messages"][-2:]] == ["mine", "wiped /b, call 1"]


def test_the_same_id_in_a_later_message_is_another_call(disk: Wiper) -> None:
    disk.upstream.script(
        Answer(calls=[Call("wipe", '{"path": "/1"}')]),
        Answer(calls=[Call("wipe", '{"path": "/2"}')]),
        Answer(["Both."]),
    )
    [first] = disk.chat(says("Wipe both."), headers=CALLS)["tool_calls"]
    [second] = disk.chat(answer_to(first, approved=True), headers=CALLS)["tool_calls"]
    assert disk.wiped == 1, "an approval is for one call"
    assert disk.chat(answer_to(second, approved=True), headers=CALLS)["content"] == "Both."
    assert disk.wiped == 2


def test_nothing_that_is_not_kept_can_be_approved(disk: Wiper) -> None:
    disk.wants_to_wipe(then="I may not.")
    assert disk.chat(says("Wipe."), store=False)["content"] == "I may not."
    assert disk.wiped == 0
    assert "approve" in disk.upstream.last["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("patterns", "waits"), [((), "wipe"), (("!wipe",), ""), (("ec*",), "echo"), (("*", "!echo"), "wipe"), (("!*",), "")]
)
def test_settings_say_which_tools_wait(
    upstream: Upstream, upstream_url: str, tmp_path: Path, patterns: tuple[str, ...], waits: str
) -> None:
    with wiper(upstream, upstream_url, tmp_path, approve_tools=patterns) as disk:
        for name, arguments in (("wipe", '{"path": "/"}'), ("echo", '{"text": "e"}')):
            upstream.script(Answer(calls=[Call(name, arguments)]), Answer(["Done."]))
            answer = disk.chat(says("Go."), session=name, headers=CALLS)
            assert bool(answer.get("tool_calls")) == (name == waits or (waits == "echo" and name == "wipe")), name
            upstream.forget_script()


def test_a_call_whose_result_was_lost_is_not_run_again(upstream: Upstream, upstream_url: str, tmp_path: Path) -> None:
    with wiper(upstream, upstream_url, tmp_path, run_timeout=1.5) as disk:
        upstream.script(Answer(calls=[Call("wipe_slowly", "{}")]))
        [call] = disk.chat(says("Wipe."), headers=CALLS)["tool_calls"]
        asked: list[Json] = [says("Wipe."), {"role": "assistant", "content": None, "tool_calls": [call]}]
        history = [*asked, answer_to(call, approved=True)]
        body = {"model": "test-model", "messages": history}
        assert disk.server.post(body, headers={"X-Session-ID": "s"}).status_code == 504
        upstream.script(Answer(["It may have been wiped."]))
        assert disk.chat(*history)["content"] == "It may have been wiped."
        assert "may have been run" in upstream.last["messages"][-1]["content"]
        assert disk.calls.read_text().split() == ["wipe_slowly"]
