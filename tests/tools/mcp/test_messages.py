"""JSON-RPC messages of servers, as the SDK's session can read them."""

import json
from typing import Any

import pytest
from mcp.types import JSONRPCMessage

from tools.mcp.messages import NOT_JSON, TOO_DEEP, WRONG_FORM, answered_id, encoded, readable, without_half_characters


def dumped(text: str | bytes) -> list[dict[str, Any]]:
    return [message.model_dump(exclude_none=True) for message in readable(text)]


def answer(result: object, request_id: object = 1) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result})


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("\\ud800", "�"),
        ("a\\udc00b", "a�b"),
        ("\\ud83d\\ude00", "😀"),
        ("\\u2028", "\u2028"),
        ("\\u0000", "\x00"),
        ("안녕", "안녕"),
    ],
)
def test_m14_half_a_character_becomes_one_that_can_be_written(sent: str, read: str) -> None:
    [message] = dumped(f'{{"jsonrpc":"2.0","id":1,"result":{{"{sent}":["{sent}"]}}}}')
    assert message["result"] == {read: [read]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"jsonrpc":"2.0","id":7,"result":{"a":', NOT_JSON),
        ('{"jsonrpc":"2.0","id":"7","result":{broken}}', NOT_JSON),
        (answer(None, 7), WRONG_FORM),
        (answer([1], 7), WRONG_FORM),
        ('{"jsonrpc":"2.0","id":7,"error":"out of order"}', "out of order"),
        ('{"jsonrpc":"2.0","id":7,"error":{"message":"no code"}}', "no code"),
        ('{"jsonrpc":"2.0","id":7}', WRONG_FORM),
        (f'{{"jsonrpc":"2.0","id":7,"result":{{"a":{"[" * 5000}{"]" * 5000}}}}}', NOT_JSON),
    ],
)
def test_m14_an_answer_of_the_wrong_form_is_an_error_at_once(text: str, complaint: str) -> None:
    [message] = dumped(text)
    assert (int(message["id"]), message["error"]["message"]) == (7, complaint)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Server started on port 3000",
        '{"level":"info","message":"hello"}',
        "[]",
        "5",
        "null",
        '{"jsonrpc":"2.0","method":"notifications/unheard_of"}',
        '{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}',
        "[" * 100_000,
        f'{{"id":{"1" * 5000},"result":{{}}}}',
    ],
)
def test_m14_what_is_no_message_is_passed_over(text: str) -> None:
    assert readable(text) == []


def test_m14_several_messages_may_come_at_once() -> None:
    [first, second] = readable(f"[{answer({'a': 1}, 1)},{answer({'b': 2}, '2')}]")
    assert (answered_id(first), answered_id(second)) == (1, 2)


@pytest.mark.parametrize("request_id", ["7" * 5000, "a7", "²", ""])
def test_m14_an_id_that_is_no_number_of_ours_is_left_as_it_is(request_id: str) -> None:
    [message] = readable(answer({}, request_id))
    assert answered_id(message) == request_id


def test_m14_a_message_without_its_version_is_read_all_the_same() -> None:
    assert dumped('{"id":1,"result":{}}') == [{"jsonrpc": "2.0", "id": 1, "result": {}}]


@pytest.mark.parametrize("value", [{}, {"a": [None, True, 1.5, "가"]}, {"가": {"나": "다"}}])
def test_whole_values_stay_as_they_are(value: Any) -> None:
    assert without_half_characters(value) == value


def nested(depth: int, **message: object) -> JSONRPCMessage:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return JSONRPCMessage.model_validate(
        {"jsonrpc": "2.0", **message, **({"params": value} if "method" in message else {"result": value})}
    )


@pytest.mark.parametrize("depth", [1, 100, 150, 190, 195, 197, 198, 199, 200, 201, 210, 253, 254, 255, 256, 300, 600])
def test_m14_what_is_nested_deep_is_read_as_it_is_or_fails_its_own_request(depth: int) -> None:
    answer = JSONRPCMessage.model_validate_json(encoded(nested(depth, id=7))).model_dump(exclude_none=True)
    assert answer["id"] == 7
    assert ("result" in answer) == (answer.get("error", {}).get("message") != TOO_DEEP)
    assert "result" in answer or depth > 190


def test_m14_a_notification_that_is_nested_too_deep_is_passed_over() -> None:
    assert encoded(nested(300, method="notifications/message")) == b""
