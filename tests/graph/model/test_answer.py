"""One answer of a model, in the forms in which endpoints send it. `W` is get_weather, `A` its arguments."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.model.answer import AnswerReader
from graph.model.calls import CallAssembly, Fragment
from graph.model.deltas import load_finish, load_usage
from graph.model.failures import ModelFailure

W, A, B = "get_weather", '{"city":"Seoul"}', '{"city":"Busan"}'
TOOLS = [W, "get", "search_web", "dada"]

Json = dict[str, Any]


def chunk(delta: Json | None, finish: str | None = None, **more: Any) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def calling(*fragments: Json) -> list[Json]:
    """A chunk for each fragment of a call; `f` in place of `function`, `n` and `a` of its fields."""
    names = {"n": "name", "a": "arguments"}
    chunks = []
    for fragment in fragments:
        call = {key: value for key, value in fragment.items() if key != "f"}
        if "f" in fragment:
            function = fragment["f"]
            call["function"] = function and {names[key]: value for key, value in function.items()}
        chunks.append(chunk({"tool_calls": [call]}))
    return chunks


def as_events(*chunks: Json | str) -> bytes:
    lines = (each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in chunks)
    return "".join(lines).encode()


def read(*chunks: Json | str, pieces: Sequence[bytes] = ()) -> AnswerReader:
    reader = AnswerReader(names=TOOLS)
    for piece in pieces or [as_events(*chunks)]:
        reader.feed(piece)
    reader.end()
    return reader


def calls_of(reader: AnswerReader) -> list[tuple[str, Any]]:
    calls, malformed = reader.calls.calls()
    return [(call["name"] or "", call["args"]) for call in [*calls, *malformed]]


SEOUL, BUSAN = (W, {"city": "Seoul"}), (W, {"city": "Busan"})

ONE_CALL: dict[str, list[Json]] = {
    "as OpenAI": [{"index": 0, "id": "1", "f": {"n": W, "a": ""}}, {"index": 0, "f": {"a": A}}],
    "at once": [{"index": 0, "id": "1", "f": {"n": W, "a": A}}],
    "function is null at first": [
        {"index": 0, "id": "1", "f": None},
        {"index": 0, "f": {"n": W}},
        {"index": 0, "f": {"a": A}},
    ],
    "function is empty at first": [{"index": 0, "id": "1", "f": {}}, {"index": 0, "id": "1", "f": {"n": W, "a": A}}],
    "function is missing at first": [{"index": 0, "id": "1"}, {"index": 0, "f": {"n": W, "a": A}}],
    "the name first, the id next": [
        {"index": 0, "f": {"n": W}},
        {"index": 0, "id": "1", "f": {"a": A[:4]}},
        {"index": 0, "f": {"a": A[4:]}},
    ],
    "a new id in each": [
        {"index": 0, "id": "1", "f": {"n": W}},
        {"index": 0, "id": "2", "f": {"a": A[:4]}},
        {"index": 0, "id": "3", "f": {"a": A[4:]}},
    ],
    "a new id and a new index in each": [
        {"index": 0, "id": "1", "f": {"n": W}},
        {"index": 1, "id": "2", "f": {"a": A[:4]}},
        {"index": 2, "id": "3", "f": {"a": A[4:]}},
    ],
    "one id under two indexes": [{"index": 0, "id": "1", "f": {"n": W}}, {"index": 1, "id": "1", "f": {"a": A}}],
    "one id under two indexes, the name twice": [
        {"index": 0, "id": "1", "f": {"n": W, "a": ""}},
        {"index": 1, "id": "1", "f": {"n": W, "a": A}},
    ],
    "one call under two indexes": [
        {"index": 0, "id": "1", "f": {"n": W, "a": A}},
        {"index": 1, "id": "1", "f": {"n": W, "a": A}},
    ],
    "all of the arguments again": [{"index": 0, "id": "1", "f": {"n": W, "a": A}}, {"index": 0, "f": {"a": A}}],
    "no arguments, then the real ones": [
        {"index": 0, "id": "1", "f": {"n": W, "a": "{}"}},
        {"index": 0, "id": "1", "f": {"n": W, "a": A}},
    ],
    "the name in each": [
        {"index": 0, "id": "1", "f": {"n": W, "a": A[:4]}},
        {"index": 0, "id": "1", "f": {"n": W, "a": A[4:]}},
    ],
    "the name and no id in each": [{"index": 0, "f": {"n": W, "a": A[:4]}}, {"index": 0, "f": {"n": W, "a": A[4:]}}],
    "a name in two pieces": [
        {"index": 0, "id": "1", "f": {"n": "get_"}},
        {"index": 0, "f": {"n": "weather"}},
        {"index": 0, "f": {"a": A}},
    ],
    "a name in two pieces, the first a tool's": [
        {"index": 0, "id": "1", "f": {"n": "get"}},
        {"index": 0, "f": {"n": "_weather", "a": A}},
    ],
    "a name in two pieces, under two ids": [
        {"index": 0, "id": "1", "f": {"n": "get_"}},
        {"index": 0, "id": "2", "f": {"n": "weather", "a": A}},
    ],
    "a new id and the name in each": [
        {"index": 0, "id": "1", "f": {"n": W, "a": A[:4]}},
        {"index": 0, "id": "2", "f": {"n": W, "a": A[4:]}},
    ],
    "no index": [{"id": "1", "f": {"n": W}}, {"f": {"a": A[:4]}}, {"f": {"a": A[4:]}}],
    "an index later": [{"id": "1", "f": {"n": W}}, {"index": 0, "f": {"a": A}}],
    "an index of words": [{"index": "0", "f": {"n": W}}, {"index": "0", "f": {"a": A}}],
    "from index 1": [{"index": 1, "id": "1", "f": {"n": W, "a": ""}}, {"index": 1, "f": {"a": A}}],
    "empty ids": [{"index": 0, "id": "", "f": {"n": W, "a": ""}}, {"index": 0, "id": "", "f": {"n": "", "a": A}}],
    "nulls": [
        {"index": 0, "id": "1", "f": {"n": W, "a": None}},
        {"index": 0, "id": None, "type": None, "f": {"n": None, "a": A}},
    ],
    "an object": [{"index": 0, "id": "1", "f": {"n": W, "a": {"city": "Seoul"}}}],
    "an object in a string in a string": [{"index": 0, "id": "1", "f": {"n": W, "a": json.dumps(A)}}],
    "a number as its id": [{"index": 0, "id": 7, "f": {"n": W, "a": ""}}, {"index": 0, "id": 7, "f": {"a": A}}],
    "arguments before the name": [{"index": 0, "id": "1", "f": {"a": A}}, {"index": 0, "f": {"n": W}}],
    "a call that is never named": [{"index": 0, "id": "1", "f": {"n": W, "a": A}}, {"index": 1, "id": "2", "f": None}],
}


@pytest.mark.parametrize("fragments", ONE_CALL.values(), ids=ONE_CALL)
def test_e1_e2_e3_a_call_is_one_call(fragments: list[Json]) -> None:
    reader = read(*calling(*fragments), chunk({}, "tool_calls"))
    assert calls_of(reader) == [SEOUL]


TWO_CALLS: dict[str, list[Json]] = {
    "as OpenAI": [
        {"index": 0, "id": "1", "f": {"n": W, "a": A}},
        {"index": 1, "id": "2", "f": {"n": W, "a": ""}},
        {"index": 1, "f": {"a": B}},
    ],
    "mixed": [
        {"index": 0, "id": "1", "f": {"n": W, "a": A[:4]}},
        {"index": 1, "id": "2", "f": {"n": W, "a": B[:4]}},
        {"index": 0, "f": {"a": A[4:]}},
        {"index": 1, "f": {"a": B[4:]}},
    ],
    "mixed, by id": [
        {"id": "1", "f": {"n": W, "a": A[:4]}},
        {"id": "2", "f": {"n": W, "a": B[:4]}},
        {"id": "1", "f": {"a": A[4:]}},
        {"id": "2", "f": {"a": B[4:]}},
    ],
    "one index": [{"index": 0, "id": "1", "f": {"n": W, "a": A}}, {"index": 0, "id": "2", "f": {"n": W, "a": B}}],
    "one index and no ids": [{"index": 0, "f": {"n": W, "a": A}}, {"index": 0, "f": {"n": W, "a": B}}],
    "one id": [{"index": 0, "id": "1", "f": {"n": W, "a": A}}, {"index": 1, "id": "1", "f": {"n": W, "a": B}}],
    "neither index nor id": [{"f": {"n": W, "a": A}}, {"f": {"n": W, "a": B}}],
    "the tail under the next index": [
        {"index": 0, "id": "1", "f": {"n": W, "a": ""}},
        {"index": 0, "f": {"a": A}},
        {"index": 0, "id": "2", "f": {"n": W, "a": ""}},
        {"index": 1, "f": {"a": B}},
    ],
    "the second is not named at once": [
        {"index": 0, "id": "1", "f": {"n": W, "a": A}},
        {"index": 1, "id": "2", "f": None},
        {"index": 1, "f": {"n": W, "a": B}},
    ],
}


@pytest.mark.parametrize("fragments", TWO_CALLS.values(), ids=TWO_CALLS)
def test_e2_two_calls_are_two(fragments: list[Json]) -> None:
    assert calls_of(read(*calling(*fragments), chunk({}, "tool_calls"))) == [SEOUL, BUSAN]


def test_e2_other_tools_without_arguments_are_not_the_second_half_of_a_name() -> None:
    fragments: list[Json] = [
        {"index": 0, "f": {"n": "get"}},
        {"index": 0, "f": {"n": "search_web"}},
        {"f": {"n": "da"}},
    ]
    assert calls_of(read(*calling(*fragments), *calling({"f": {"n": "da"}}), chunk({}, "stop"))) == [
        ("get", {}),
        ("search_web", {}),
        ("dada", {}),
    ]


def test_e2_several_calls_in_one_chunk_a_call_that_is_no_list_and_the_older_form() -> None:
    both = [{"index": n, "id": str(n), "function": {"name": W, "arguments": a}} for n, a in enumerate((A, B))]
    assert calls_of(read(chunk({"tool_calls": both}, "tool_calls"))) == [SEOUL, BUSAN]
    assert calls_of(read(chunk({"tool_calls": both[0]}, "tool_calls"))) == [SEOUL]
    older = [chunk({"function_call": {"name": W, "arguments": ""}}), chunk({"function_call": {"arguments": A}})]
    assert calls_of(read(*older, chunk({}, "function_call"))) == [SEOUL]


@given(
    st.lists(st.integers(1, len(A) - 1), max_size=4),
    st.lists(st.sampled_from([None, "", "1", "2", "3"]), min_size=6, max_size=6),
    st.lists(st.sampled_from([None, 0, 1]), min_size=6, max_size=6),
    st.integers(0, 5),
)
def test_e2_any_fragments_that_name_a_call_once_are_one_call(
    cuts: list[int], ids: list[str | None], indexes: list[int | None], named: int
) -> None:
    bounds = [0, *sorted(set(cuts)), len(A)]
    texts = [A[start:end] for start, end in pairwise(bounds)]
    texts.insert(min(named, len(texts)), "")
    assembly = CallAssembly(TOOLS)
    for position, text in enumerate(texts):
        name = None if text else W
        assembly.add(Fragment(indexes[position], ids[position] or None, name, text))
    calls, malformed = assembly.calls()
    assert [(call["name"], call["args"]) for call in calls] == [SEOUL]
    assert malformed == []


def test_a_whole_message_is_a_repetition_though_some_text_is_held_back() -> None:
    reader = AnswerReader(stop="\n\n")
    reader.feed(as_events(chunk({"content": "ab\n"})))
    whole = {"choices": [{"index": 0, "message": {"content": "ab\nc"}, "finish_reason": "stop"}]}
    reader.feed(as_events(chunk({"content": "c"}), whole))
    reader.end()
    assert "".join(reader.said) == "ab\nc"


def test_e1_a_call_without_any_name_is_no_answer() -> None:
    with pytest.raises(ModelFailure, match="without naming"):
        read(*calling({"index": 0, "id": "1", "f": {"a": A}}), chunk({}, "tool_calls"))
    assert calls_of(read(chunk({"content": "Hm."}), *calling({"index": 0, "f": None}), chunk({}, "stop"))) == []


STREAM = as_events(
    "\ufeff: hello\n\n",
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "음… "}),
    "event: ping\ndata: {}\r\n\r\n",
    chunk({"content": "안녕 "}),
    "data:\n\n",
    f"id: 1\rretry: 5\rdata:{json.dumps(chunk({'content': '🙂'}), ensure_ascii=False)}\r\r",
    f"data: {json.dumps(chunk({'content': '!'}))[:1]}\ndata: {json.dumps(chunk({'content': '!'}))[1:]}\n\n",
    *calling({"index": 0, "id": "1", "f": {"n": W, "a": A}}),
    chunk({}, "tool_calls", usage={"prompt_tokens": 3, "completion_tokens": 4}),
    "data: [DONE]",
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_e5_any_split_of_the_same_bytes_is_the_same_answer(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    reader = AnswerReader(names=TOOLS)
    said = [reader.feed(STREAM[start:end]) for start, end in pairwise(bounds)]
    said.append(reader.end())
    assert "".join(each.text for each in said) == "".join(reader.said) == "안녕 🙂!"
    assert "".join(each.reasoning for each in said) == "음… "
    assert (calls_of(reader), reader.finish, reader.is_done) == ([SEOUL], "stop", True)
    assert reader.usage == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}


PASSED_OVER = {
    "data without a value": "data:\n\n",
    "data of a blank": "data: \n\n",
    "a ping without data": "event: ping\n\n",
    "a ping with data": 'event: ping\ndata: {"type": "ping"}\n\n',
    "a word": "data: ping\n\n",
    "a comment": ": OPENROUTER PROCESSING\n\n",
    "an id and a pause": "id: 7\nretry: 3000\n\n",
    "no choices": 'data: {"choices": []}\n\n',
    "null choices": 'data: {"choices": null, "usage": null}\n\n',
    "choices that are none": 'data: {"choices": [null]}\n\n',
    "nothing": "data: {}\n\n",
    "a list": "data: []\n\n",
    "filters of a prompt": 'data: {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}\n\n',
    "an empty error": 'data: {"choices": [], "error": null}\n\n',
}


@pytest.mark.parametrize("between", PASSED_OVER.values(), ids=PASSED_OVER)
def test_e5_what_says_nothing_is_passed_over(between: str) -> None:
    reader = read(between, chunk({"content": "Hel"}), between, chunk({"content": "lo"}), between, chunk({}, "stop"))
    assert "".join(reader.said) == "Hello"


@pytest.mark.parametrize(
    ("usages", "read_and_written"),
    [
        ([{"prompt_tokens": 10, "completion_tokens": n} for n in range(51)], (10, 50)),
        ([{"prompt_tokens": 10, "completion_tokens": 5}, None, {}], (10, 5)),
        ([{"prompt_tokens": 10, "completion_tokens": 5}, {"prompt_tokens": 0, "completion_tokens": 0}], (10, 5)),
        ([{"input_tokens": 10, "output_tokens": 5}], (10, 5)),
        ([{"prompt_tokens": 10.0, "completion_tokens": 5.0}], (10, 5)),
        ([{"prompt_tokens": 10, "completion_tokens": None}], None),
        ([{"prompt_tokens": -1, "completion_tokens": 5}], None),
        ([{"prompt_tokens": True, "completion_tokens": "5"}], None),
        ([[1], "many", 5], None),
    ],
)
def test_e4_the_last_usage_counts(usages: list[Any], read_and_written: tuple[int, int] | None) -> None:
    reader = read(*(chunk({"content": "x"}, usage=usage) for usage in usages), chunk({}, "stop"))
    usage = reader.usage
    assert (usage and (usage["input_tokens"], usage["output_tokens"])) == read_and_written


def test_e4_details_of_usage_are_kept() -> None:
    counts = {"prompt_tokens": 9, "completion_tokens": 8}
    for more in ({"prompt_tokens_details": {"cached_tokens": 7}}, {"prompt_cache_hit_tokens": 7}):
        assert load_usage({**counts, **more})["input_token_details"] == {"cache_read": 7}  # type: ignore[index]
    usage = load_usage({**counts, "completion_tokens_details": {"reasoning_tokens": 6}, "prompt_tokens_details": None})
    assert usage
    assert usage["output_token_details"] == {"reasoning": 6}


@pytest.mark.parametrize(
    ("reasons", "finish"),
    [
        (["stop"], "stop"),
        (["length", "length"], "length"),
        (["length", "stop"], "length"),
        (["stop", "length"], "length"),
        (["MAX_TOKENS"], "length"),
        (["max_output_tokens"], "length"),
        (["model_length"], "length"),
        (["model_context_window_exceeded"], "length"),
        (["SAFETY"], "content_filter"),
        (["content_filter", "stop"], "content_filter"),
        (["guardrail_intervened"], "content_filter"),
        (["end_turn"], "stop"),
        (["STOP"], "stop"),
        (["eos_token"], "stop"),
        (["tool_calls", "stop"], "stop"),
        (["", "null", "stop"], "stop"),
        (["wherever"], "stop"),
    ],
)
def test_e6_a_finish_reason_is_read_by_what_it_means(reasons: list[str], finish: str) -> None:
    assert read(*(chunk({"content": "x"}, reason) for reason in reasons)).finish == finish


@pytest.mark.parametrize(
    "reason",
    [
        "error",
        "ERROR",
        "failed",
        "abort",
        "cancelled",
        "MALFORMED_FUNCTION_CALL",
        "network_error",
        "timeout",
        "insufficient_system_resource",
        "engine_overloaded",
    ],
)
def test_e6_what_says_failure_is_no_end(reason: str) -> None:
    with pytest.raises(ModelFailure, match=reason):
        load_finish(reason)


@pytest.mark.parametrize("reasons", [[], [""], [None], ["null"]])
def test_e6_an_answer_without_an_end_is_not_complete(reasons: list[str]) -> None:
    with pytest.raises(ModelFailure, match="incomplete"):
        read(chunk({"content": "Half"}), *(chunk({}, reason) for reason in reasons), "data: [DONE]\n\n")


def said(*deltas: Json | None) -> tuple[str, str, str]:
    reader = AnswerReader()
    each = [reader.feed(as_events(chunk(delta))) for delta in deltas]
    reader.feed(as_events(chunk({}, "stop")))
    each.append(reader.end())
    return "".join(s.text for s in each), "".join(s.reasoning for s in each), "".join(s.refusal for s in each)


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (
            [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]}, {"content": "Hello"}],
            ("Hello", "Hm.", ""),
        ),
        ([{"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi"}]}], ("Hi", "Hm.", "")),
        ([{"content": [{"type": "reasoning", "text": "Hm."}]}, {"content": "Hi"}], ("Hi", "Hm.", "")),
        ([{"content": ["H", {"text": "i"}, {"type": "reference", "reference_ids": [1]}]}], ("Hi", "", "")),
        ([{"content": {"type": "text", "text": "Hi"}}], ("Hi", "", "")),
        ([{"reasoning": "Hm."}, {"content": "Hi"}], ("Hi", "Hm.", "")),
        ([{"reasoning": "Hm.", "reasoning_content": "Hm."}, {"content": "Hi"}], ("Hi", "Hm.", "")),
        ([{"thinking": "Hm."}, {"content": "Hi"}], ("Hi", "Hm.", "")),
        ([{"reasoning": {"text": "Hm."}}, {"content": "Hi"}], ("Hi", "Hm.", "")),
        (
            [{"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}, {"type": "reasoning.encrypted"}]}],
            ("", "Hm.", ""),
        ),
        ([None, {"content": "Hi"}, None], ("Hi", "", "")),
        ([{"content": None}, {"content": "Hi", "role": None}], ("Hi", "", "")),
        ([{"refusal": "I ca"}, {"refusal": "n't.", "content": None}], ("", "", "I can't.")),
        ([{"content": [{"type": "refusal", "refusal": "No."}]}], ("", "", "No.")),
    ],
)
def test_e7_e8_content_is_read_in_any_form(deltas: list[Json | None], expected: tuple[str, str, str]) -> None:
    assert said(*deltas) == expected


def completion(**message: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


@pytest.mark.parametrize("space", ["", "\n\n ", "\ufeff"])
def test_e11_a_whole_completion_is_an_answer(space: str) -> None:
    body = (space + json.dumps(completion(content="Hello", reasoning="Hm."))).encode()
    reader = read(pieces=[body[:9], body[9:]])
    assert ("".join(reader.said), reader.finish, reader.usage and reader.usage["total_tokens"]) == ("Hello", "stop", 7)
    call = {"id": "1", "type": "function", "function": {"name": W, "arguments": {"city": "Seoul"}}}
    assert calls_of(read(pieces=[json.dumps(completion(content=None, tool_calls=[call])).encode()])) == [SEOUL]


def test_e11_a_whole_message_at_the_end_of_a_stream_says_nothing_twice() -> None:
    assert "".join(read(completion(content="Hello")).said) == "Hello"
    assert (
        "".join(read(chunk({"content": "Hel"}), chunk({"content": "lo"}), completion(content="Hello")).said) == "Hello"
    )


FAILURES = [
    (b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}', "wrong address: Unexpected endpoint"),
    (b"<!doctype html><html></html>", "wrong address: It answered with something"),
    (b'{"hello": 1}', "wrong address: It answered with something"),
    (b'{"detail": "Not authenticated"}', "failed: Not authenticated"),
    (b'[{"error": {"code": 429, "message": "busy"}}]', "rate limited: busy"),
    (b'data: [{"error": {"code": 429, "message": "busy"}}]\n\n', "rate limited: busy"),
    (b'{"code": 1001, "msg": "account not activated"}', "failed: account not activated"),
    (b'data: {"error":{"message":"greater than the context length"}}\n\n', "context too long"),
    (b'data: {"error":{"message":"no","code":429}}\n\n', "rate limited"),
    (b'event: error\ndata: {"message":"no"}\n\n', "failed: no"),
    (b'event: error\ndata: {"error":{"type":"invalid_request_error","message":"no"}}\n\n', "refused: no"),
    (b'error: {"code":500,"message":"no"}\n\n', "failed"),
    (
        b'data: {"choices":[{"delta":{"content":""},"finish_reason":"error","error":{"message":"no"}}]}\n\n',
        "failed: no",
    ),
    (b'data: {"choices":[\n\n', "no JSON"),
    (b"", "incomplete"),
    (b"data: [DONE]\n\n", "incomplete"),
]


@pytest.mark.parametrize(("body", "meaning"), FAILURES)
def test_e10_e11_an_error_in_a_response_is_told_by_its_meaning(body: bytes, meaning: str) -> None:
    with pytest.raises(ModelFailure, match=meaning):
        read(pieces=[body])


def test_e11_older_chunks_of_text_are_read() -> None:
    older = [{"choices": [{"text": "Hel"}]}, {"choices": [{"text": "lo", "finish_reason": "stop"}]}]
    assert "".join(read(*older).said) == "Hello"


def test_e5_what_cannot_be_read_behind_the_end_is_passed_over() -> None:
    assert "".join(read(chunk({"content": "Hi"}, "stop"), "data: {oops\n\ndata: [END]\n\n").said) == "Hi"
    lines = f"data: {json.dumps(chunk({'content': 'H'}))}\ndata: {json.dumps(chunk({'content': 'i'}, 'stop'))}\n\n"
    assert "".join(read(lines).said) == "Hi", "no empty line between two chunks"


def test_e2_many_fragments_are_put_together_in_linear_time() -> None:
    assembly = CallAssembly(TOOLS)
    for piece in ["{"] + ["x" * 4] * 20_000:
        assembly.add(Fragment(0, "1", W, piece))
    assert len(assembly.calls()[1]) == 1


def test_a_stop_sequence_ends_the_answer_whatever_the_endpoint_goes_on_to_say() -> None:
    reader = AnswerReader(stop=["END"])
    assert reader.feed(as_events(chunk({"content": "one E"}))).text == "one "
    assert reader.feed(as_events(chunk({"content": "ND two"}), chunk({"content": " three"}))).text == ""
    assert reader.is_done
    assert not reader.end()
