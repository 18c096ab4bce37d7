"""Calls that are told while the model writes them: nothing is told that is not theirs at the end."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.model.calls import CallAssembly, Fragment
from graph.model.live_calls import CallPiece, LiveCalls
from graph.model.text import paired_surrogates

CLIENTS, OURS = ("ask", "ask_user"), ("get_weather",)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('a"\\{}[]:, \n안🙂'), max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
# Ways in which endpoints write arguments.
WAYS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: f"\n {text} ",
    lambda text: "{}" + text,
    lambda text: f"{{ }}\n{text}",
    lambda text: text + text,
    lambda text: f"{text}\n{text}",
    json.dumps,
    lambda text: text[:-1],
    lambda text: text[: len(text) // 2],
    lambda text: text + "oops",
    lambda text: text + '{"b": 2}',
)


@st.composite
def written(draw: st.DrawFn) -> str:
    arguments = draw(st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2))
    is_ascii, indent = draw(st.booleans()), draw(st.sampled_from([None, 1]))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(["", "null", "[1]"]))
    return draw(st.sampled_from(WAYS))(json.dumps(arguments, ensure_ascii=is_ascii, indent=indent))


@st.composite
def fragments(draw: st.DrawFn, index: int) -> list[Fragment]:
    """A call in fragments, the first of which may have no name."""
    name = draw(st.sampled_from([*CLIENTS, *OURS]))
    text = draw(written())
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    named = draw(st.sampled_from([0, 0, 0, len(pieces) - 1, None]))
    return [
        Fragment(index, f"id_{index}" if at == 0 else None, name if at == named else None, piece)
        for at, piece in enumerate(pieces)
    ]


@st.composite
def answers(draw: st.DrawFn) -> list[Fragment]:
    """The fragments of an answer's calls, one call after the other, or as they come."""
    calls = [draw(fragments(index)) for index in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        return [fragment for call in calls for fragment in call]
    told = []
    while any(calls):
        told.append(draw(st.sampled_from([call for call in calls if call])).pop(0))
    return told


def told(fragments: Sequence[Fragment], at_most: int | None = None) -> tuple[list[CallPiece], CallAssembly]:
    assembly = CallAssembly([*CLIENTS, *OURS])
    live = LiveCalls(assembly, CLIENTS, at_most)
    pieces = [piece for fragment in fragments for piece in live.next(assembly.add(fragment), fragment.arguments)]
    return [*pieces, *live.rest()], assembly


@given(answers(), st.sampled_from([None, 1]))
def test_what_is_told_of_a_call_is_the_call(fragments: list[Fragment], at_most: int | None) -> None:
    pieces, assembly = told(fragments, at_most)
    calls = {call["id"]: call for _, call in assembly.loaded}
    ids = dict.fromkeys(piece.call_id for piece in pieces)
    assert at_most is None or len(ids) <= at_most
    for call_id in ids:
        whole = "".join(piece.arguments for piece in pieces if piece.call_id == call_id)
        call = calls[call_id]
        assert {piece.name for piece in pieces if piece.call_id == call_id} == {call["name"]} <= {*CLIENTS}
        if call["type"] == "tool_call":
            assert json.loads(whole, strict=False) == call["args"]
        else:
            assert whole == paired_surrogates(str(call["args"])).lstrip()


@given(st.dictionaries(st.sampled_from("ab"), VALUES, min_size=1), st.lists(st.integers(1, 400), max_size=6))
def test_a_call_that_is_written_as_usual_is_told_as_it_comes(arguments: dict[str, object], cuts: list[int]) -> None:
    text = json.dumps(arguments)
    bounds = [0, *sorted(cut for cut in set(cuts) if cut < len(text)), len(text)]
    assembly = CallAssembly(CLIENTS)
    live, said = LiveCalls(assembly, CLIENTS), ""
    for at, (start, end) in enumerate(pairwise(bounds)):
        fragment = Fragment(0, "id" if at == 0 else None, "ask" if at == 0 else None, text[start:end])
        said += "".join(piece.arguments for piece in live.next(assembly.add(fragment), fragment.arguments))
        assert said == (text[:end] if end > 1 else "")
    assert not list(live.rest())


def test_half_a_character_waits_for_the_other_half() -> None:
    pieces, _ = told([Fragment(0, "1", "ask", '{"a": "\ud83d'), Fragment(0, None, None, '\ude42"}')])
    assert [piece.arguments for piece in pieces] == ['{"a": "', '🙂"}']


@pytest.mark.parametrize("names", [("ask", None), (None, "ask"), ("as", "k")])
def test_a_name_in_pieces_is_told_whole(names: tuple[str | None, str | None]) -> None:
    first, second = names
    pieces, _ = told([Fragment(0, "1", first), Fragment(0, None, second), Fragment(0, None, None, '{"a": 1}')])
    assert [(piece.name, piece.arguments) for piece in pieces] == [("ask", '{"a": 1}')]
