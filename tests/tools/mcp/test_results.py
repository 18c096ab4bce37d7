"""What a model sees of tools' results."""

import json
from typing import Any

import pytest
from langchain_core.tools import ToolException

from tests.support.mcp_servers import PIXEL
from tools.mcp.results import MAX_IMAGE, MAX_TEXT, NO_REASON, content_of

PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(data: str = PIXEL, kind: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "data": data, "mimeType": kind}


def blob(kind: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": "file:///a", "blob": PIXEL, "mimeType": kind}}


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        pytest.param({"content": [text("one"), text("two")]}, "one\ntwo", id="texts"),
        pytest.param({"content": []}, "", id="nothing"),
        pytest.param({}, "", id="not even content"),
        pytest.param({"content": None}, "", id="null"),
        pytest.param({"content": "plain"}, "plain", id="a text where a list should be"),
        pytest.param({"content": [], "structuredContent": {"온도": 5}}, '{"온도": 5}', id="structured"),
        pytest.param({"structuredContent": {"a": [1]}}, '{"a": [1]}', id="structured alone"),
        pytest.param({"content": [text("")], "structuredContent": {"a": 1}}, '{"a": 1}', id="an empty text"),
        pytest.param({"content": [text("words")], "structuredContent": {"a": 1}}, "words", id="words first"),
        pytest.param(
            {"content": [{"type": "resource", "resource": {"uri": "file:///a", "text": "notes"}}]},
            "notes",
            id="resource",
        ),
        pytest.param(
            {"content": [blob("application/pdf")]},
            "[resource file:///a (application/pdf), which cannot be shown as text]",
            id="a PDF",
        ),
        pytest.param(
            {"content": [{"type": "resource_link", "uri": "file:///a", "name": "notes", "description": "of today"}]},
            "notes: file:///a (of today)",
            id="link",
        ),
        pytest.param({"content": [{"type": "resource_link", "uri": "file:///a"}]}, "file:///a", id="a bare link"),
        pytest.param(
            {"content": [{"type": "audio", "data": PIXEL}]},
            "[audio content, which cannot be shown as text]",
            id="audio",
        ),
        pytest.param(
            {"content": [text("a"), {"type": "hologram", "depth": 3}]},
            "a\n[hologram content, which cannot be shown as text]",
            id="a type of tomorrow",
        ),
        pytest.param({"content": [5]}, "[content of an unknown kind, which cannot be shown as text]", id="a number"),
        pytest.param({"content": [image("not base64!")]}, "[image content, which is damaged]", id="a damaged picture"),
        pytest.param(
            {"content": [image(kind="image/svg+xml")]},
            "[image content (image/svg+xml), which cannot be shown]",
            id="a drawing",
        ),
        pytest.param(
            {"content": [image("A" * (MAX_IMAGE + 4))]}, "[an image of 5000 kB, which is too large]", id="too large"
        ),
    ],
)
def test_m12_a_result_without_pictures_is_one_text(result: dict[str, Any], shown: str) -> None:
    assert content_of(result) == shown


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        pytest.param([image()], [PICTURE], id="one"),
        pytest.param(
            [text("a"), text("b"), image(), text("c")], [text("a\nb"), PICTURE, text("c")], id="in order, between texts"
        ),
        pytest.param([image(f"{PIXEL[:20]}\n{PIXEL[20:]}")], [PICTURE], id="in lines"),
        pytest.param([image(f"data:image/png;base64,{PIXEL}")], [PICTURE], id="with a prefix of its own"),
        pytest.param([blob("image/png")], [PICTURE], id="as a resource"),
        pytest.param([{"type": "image", "data": PIXEL}], [PICTURE], id="without a type"),
        pytest.param(
            [image(), {"type": "audio", "data": "x"}],
            [PICTURE, text("[audio content, which cannot be shown as text]")],
            id="beside what cannot be shown",
        ),
    ],
)
def test_m13_pictures_are_blocks_between_the_texts(content: list[Any], shown: list[Any]) -> None:
    assert content_of({"content": content}) == shown


def test_m13_many_pictures_are_bounded_together() -> None:
    shown = content_of({"content": [image("A" * 4_000_000)] * 10})
    assert isinstance(shown, list)
    assert [block["type"] for block in shown if isinstance(block, dict)] == [*["image_url"] * 4, "text"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"content": []}, NO_REASON),
        ({}, NO_REASON),
        ({"content": [text(" ")]}, NO_REASON),
        ({"content": [text("Not on Sundays.")]}, "Not on Sundays."),
        ({"content": [], "structuredContent": {"code": 5}}, '{"code": 5}'),
        ({"content": [text("See:"), image()]}, "See:"),
    ],
    ids=["no content", "nothing", "blank", "words", "structured", "picture"],
)
def test_m12_a_failure_says_that_it_is_one(result: dict[str, Any], words: str) -> None:
    with pytest.raises(ToolException) as error:
        content_of({**result, "isError": True})
    assert str(error.value) == words


def test_m12_a_long_text_is_cut_in_the_middle_however_many_pieces_it_comes_in() -> None:
    for content in ([text("HEAD" + "x" * 200_000 + "TAIL")], [text("HEAD"), *[text("x" * 10)] * 20_000, text("TAIL")]):
        shown = content_of({"content": content})
        assert isinstance(shown, str)
        assert shown.startswith("HEAD")
        assert shown.endswith("TAIL")
        assert len(shown) < MAX_TEXT + 100


def test_m12_long_texts_between_pictures_are_bounded_together() -> None:
    shown = content_of({"content": [text("x" * 100_000), image()] * 20})
    assert sum(len(block["text"]) for block in shown if isinstance(block, dict) and block["type"] == "text") < 70_000


def test_m12_a_long_structure_is_bounded_too() -> None:
    assert len(content_of({"structuredContent": {"a": "x" * 200_000}})) < MAX_TEXT + 100
    assert json.loads(str(content_of({"structuredContent": {"a": "x" * 60_000}})))["a"] == "x" * 60_000
