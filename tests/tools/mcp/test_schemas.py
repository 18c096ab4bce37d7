"""Schemas of tools' arguments, as every endpoint takes them."""

import json
import time
from typing import Any

import pytest

from tools.mcp.schemas import MAX_LENGTH, UnusableSchemaError, fit_schema

TEXT = {"type": "string"}
EMPTY: dict[str, Any] = {"type": "object", "properties": {}}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "fit"),
    [
        pytest.param({"type": "object"}, EMPTY, id="the Go SDK's"),
        pytest.param({}, EMPTY, id="empty"),
        pytest.param(None, EMPTY, id="null"),
        pytest.param(True, EMPTY, id="anything"),
        pytest.param({"type": None, "properties": None, "required": None}, EMPTY, id="nulls"),
        pytest.param({"properties": {"a": TEXT}}, of(a=TEXT), id="no type"),
        pytest.param({"type": ["object", "null"], "properties": {"a": TEXT}}, of(a=TEXT), id="two types"),
        pytest.param({"$schema": "s", "$id": "i", "$comment": "c", **of(a=TEXT)}, of(a=TEXT), id="about the document"),
        pytest.param({**EMPTY, "additionalProperties": False}, {**EMPTY, "additionalProperties": False}, id="closed"),
        pytest.param(of(a=True, b=None), of(a={}, b={}), id="properties that may be anything"),
        pytest.param(of(a={"type": "array"}), of(a={"type": "array", "items": {}}), id="array of anything"),
        pytest.param({**of(a=TEXT), "required": ["a", 5]}, {**of(a=TEXT), "required": ["a"]}, id="required"),
    ],
)
def test_m9_the_root_is_an_object_with_properties(schema: object, fit: dict[str, Any]) -> None:
    assert fit_schema(schema) == fit


@pytest.mark.parametrize(
    "schema",
    [
        of(a={"enum": ["x", 1, None]}, b={"const": {"$ref": "#/x"}}),
        of(a={"anyOf": [TEXT, {"type": "null"}], "default": None}),
        of(a={"oneOf": [TEXT, {"type": "integer", "minimum": 1}]}, b={"type": ["string", "null"], "format": "uri"}),
        of(a={"type": "object", "additionalProperties": TEXT, "patternProperties": {"^x": TEXT}}),
        of(a={"type": "array", "items": {"type": "array", "items": TEXT}, "minItems": 1}),
        of(a={"type": "string", "default": {"$ref": "#/nowhere"}, "examples": [{"$ref": "#/nowhere"}]}),
        of(**{"$ref": TEXT, "$defs": TEXT, "$id": TEXT, "definitions": TEXT}),
    ],
)
def test_m10_what_endpoints_can_read_is_left_as_it_is(schema: dict[str, Any]) -> None:
    assert fit_schema(schema) == schema


@pytest.mark.parametrize(
    ("schema", "fit"),
    [
        pytest.param({**of(a={"$ref": "#/$defs/A"}), "$defs": {"A": TEXT}}, of(a=TEXT), id="$defs"),
        pytest.param({**of(a={"$ref": "#/definitions/A"}), "definitions": {"A": TEXT}}, of(a=TEXT), id="definitions"),
        pytest.param(
            {**of(a={"$ref": "#/$defs/A"}), "$defs": {"A": of(b={"$ref": "#/$defs/B"}), "B": TEXT}},
            of(a=of(b=TEXT)),
            id="one leads to another",
        ),
        pytest.param(
            of(a={"$ref": "#/properties/b/$defs/B"}, b={"type": "object", "$defs": {"B": TEXT}}),
            of(a=TEXT, b={"type": "object"}),
            id="nested $defs",
        ),
        pytest.param({**of(a={"$ref": "#/$defs/x~1y%20~0z"}), "$defs": {"x/y ~z": TEXT}}, of(a=TEXT), id="escapes"),
        pytest.param({**of(a={"$ref": "#/anyOf/0"}, b=TEXT), "anyOf": [TEXT]}, of(a=TEXT, b=TEXT), id="in a list"),
        pytest.param({**of(a={"$ref": "#name"}), "$defs": {"A": {"$anchor": "name", **TEXT}}}, of(a=TEXT), id="anchor"),
        pytest.param({**of(a={"$ref": "a.json"}), "$defs": {"A": {"$id": "a.json", **TEXT}}}, of(a=TEXT), id="$id"),
        pytest.param(
            {**of(a={"$ref": "#/$defs/A", "description": "own"}), "$defs": {"A": {**TEXT, "description": "theirs"}}},
            of(a={**TEXT, "description": "own"}),
            id="own words win",
        ),
        pytest.param({"$ref": "#/$defs/A", "$defs": {"A": of(a=TEXT)}}, of(a=TEXT), id="the root itself"),
        pytest.param(
            {**of(**{"$ref": {"$ref": "#/$defs/A"}}), "$defs": {"A": TEXT}}, of(**{"$ref": TEXT}), id="called $ref"
        ),
        pytest.param(
            {**of(a={"type": "array", "items": {"$ref": "#/$defs/A"}}), "$defs": {"A": TEXT}},
            of(a={"type": "array", "items": TEXT}),
            id="items",
        ),
    ],
)
def test_m10_references_are_replaced_by_what_they_refer_to(schema: dict[str, Any], fit: dict[str, Any]) -> None:
    assert fit_schema(schema) == fit


@pytest.mark.parametrize(
    ("schema", "fit"),
    [
        ({"anyOf": [{**of(a=TEXT), "required": ["a"]}, {**of(b=TEXT), "required": ["b"]}]}, of(a=TEXT, b=TEXT)),
        (
            {"allOf": [{**of(a=TEXT), "required": ["a"]}, of(b=TEXT)], "description": "both"},
            {**of(a=TEXT, b=TEXT), "required": ["a"], "description": "both"},
        ),
        ({"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": TEXT}}, None),
    ],
    ids=["any", "all", "required only"],
)
def test_m9_alternatives_at_the_root_become_one_object(schema: dict[str, Any], fit: dict[str, Any] | None) -> None:
    found = fit_schema(schema)
    assert found == (fit or {**of(a=TEXT), "required": ["a"]})


@pytest.mark.parametrize(
    "schema",
    [
        of(a={"$ref": "#/$defs/nowhere"}),
        of(a={"$ref": "https://example.org/schema.json"}),
        of(a={"$ref": "other.json#/x"}),
        of(a={"$ref": "#missing"}),
        of(a={"$ref": "#/properties/a/items/5"}),
        {"type": "string"},
        {"type": "array", "items": TEXT},
        False,
        "object",
        [],
        5,
    ],
    ids=str,
)
def test_m10_a_schema_that_no_model_can_be_told_is_refused(schema: object) -> None:
    with pytest.raises(UnusableSchemaError):
        fit_schema(schema)


TREE = {
    **of(root={"$ref": "#/$defs/Node"}),
    "$defs": {
        "Node": {
            "type": "object",
            "description": "a node",
            "properties": {"name": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
        }
    },
}
CIRCLE = {**of(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
# Each level refers to the next one ten times: five levels would be 100,000 times the last one.
WIDE: dict[str, Any] = {
    **of(a={"$ref": "#/$defs/L0"}),
    "$defs": {
        **{f"L{n}": of(**{f"p{i}": {"$ref": f"#/$defs/L{n + 1}"} for i in range(10)}) for n in range(5)},
        "L5": {"type": "string", "description": "x" * 100},
    },
}
SELF = {"type": "object", "properties": {"me": {"$ref": "#"}}}


@pytest.mark.parametrize("schema", [TREE, CIRCLE, WIDE, SELF], ids=["tree", "circle", "wide", "itself"])
def test_m10_what_grows_without_end_is_cut_to_a_plain_object(schema: dict[str, Any]) -> None:
    text = json.dumps(fit_schema(schema))
    assert len(text) <= MAX_LENGTH
    assert "$ref" not in text
    assert "$defs" not in text


def test_m10_a_cut_schema_keeps_its_words() -> None:
    node = fit_schema(TREE)["properties"]["root"]
    for _ in range(2):
        node = node["properties"]["children"]["items"]
    assert node == {"type": "object", "description": "a node"}


def test_m10_a_long_schema_without_references_is_the_servers_own_business() -> None:
    long = of(**{f"p{n}": {**TEXT, "description": "x" * 100} for n in range(1000)})
    assert fit_schema(long) == long


def many(schema: dict[str, Any], properties: int = 200) -> dict[str, Any]:
    return {**of(**{f"p{n}": {"$ref": "#/$defs/A"} for n in range(properties)}), "$defs": {"A": schema}}


LONG_ENUM = {**TEXT, "enum": [f"value-number-{n:08d}" for n in range(300)]}


@pytest.mark.parametrize(
    ("referred", "properties"),
    [
        pytest.param(LONG_ENUM, 200, id="an enum"),
        pytest.param({**TEXT, "enum": [*LONG_ENUM["enum"]] * 10}, 1500, id="a huge enum"),
        pytest.param({**TEXT, "description": "x" * 50_000}, 200, id="a description"),
        pytest.param({**TEXT, "default": "x" * 50_000, "examples": ["y" * 50_000]}, 200, id="values"),
        pytest.param(of(**{"x" * 50_000: TEXT}), 200, id="a name"),
        pytest.param({**EMPTY, "required": [f"r{n}" for n in range(5000)]}, 200, id="required"),
    ],
)
def test_m10_what_many_refer_to_is_not_repeated_without_end(referred: dict[str, Any], properties: int) -> None:
    schema = many(referred, properties)
    begun = time.process_time()
    fit = fit_schema(schema)
    assert time.process_time() - begun < 3
    assert len(json.dumps(fit)) <= max(MAX_LENGTH, 2 * len(json.dumps(schema)))
    assert len(fit["properties"]) == properties
    assert {part["type"] for part in fit["properties"].values()} == {referred["type"]}


def test_m10_what_few_refer_to_is_repeated() -> None:
    assert fit_schema(many(LONG_ENUM, 3)) == of(p0=LONG_ENUM, p1=LONG_ENUM, p2=LONG_ENUM)


def test_m10_a_schema_that_stays_too_long_is_refused() -> None:
    with pytest.raises(UnusableSchemaError, match="too long"):
        fit_schema(many({"type": ["string", "x" * 50_000]}))


@pytest.mark.parametrize("part", [{"type": "array"}, True, False, None, {"items": True}], ids=str)
def test_m10_what_is_added_to_a_long_schema_does_not_make_it_too_long(part: object) -> None:
    schema = of(**{f"p{n:05}": part for n in range(9_000)})
    assert len(fit_schema(schema)["properties"]) == 9_000
