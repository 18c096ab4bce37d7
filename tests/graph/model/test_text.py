"""The text of an answer in pieces: nothing is said of a stop sequence, and nothing else is lost."""

from hypothesis import given
from hypothesis import strategies as st

from graph.model.text import AnswerText

LETTERS = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def test_d8_a_stop_sequence_that_the_endpoint_cut_in_half_is_one() -> None:
    assert said(["ok \ud83d", "\ude00 not said"], ["😀"]) == "ok "
    assert said(["ok \ud83d", "\ude01 said"], ["😀"]) == "ok 😁 said"


def said(pieces: list[str], stop: list[str]) -> str:
    text, whole = AnswerText(stop), ""
    for piece in pieces:
        whole += text.next(piece)
        assert not any(sequence in whole for sequence in stop)
        if text.stopped:
            return whole
    return whole + text.rest()


@given(pieces=st.lists(LETTERS), stop=STOPS)
def test_d8_the_text_ends_where_the_first_stop_sequence_ends(pieces: list[str], stop: list[str]) -> None:
    text = "".join(pieces)
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(sequence) for sequence in stop)]
    if not ends:
        assert said(pieces, stop) == text
        return
    longest = max(len(sequence) for sequence in stop if text[: ends[0]].endswith(sequence))
    assert said(pieces, stop) == text[: ends[0] - longest]


@given(pieces=st.lists(LETTERS), stop=STOPS)
def test_a_text_is_held_back_no_longer_than_a_stop_sequence_may_have_begun(pieces: list[str], stop: list[str]) -> None:
    text, whole, sent = AnswerText(stop), "", ""
    for piece in pieces:
        whole, sent = whole + piece, sent + text.next(piece)
        if text.stopped:
            return
        held = whole.removeprefix(sent)
        assert held == "" or any(sequence.startswith(held) for sequence in stop)
