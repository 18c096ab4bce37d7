"""The JSON schema of a tool's arguments, as model endpoints take it: an object, without references. Pure.

Endpoints refuse the whole request for one schema that they cannot read. So references are replaced by what they refer
to, within a bound on the size, and a tool whose schema cannot be made an object is left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

MAX_LENGTH = 32_000
MAX_NODES = 4_000
# How deep references are followed; less deep if the schema would become too long.
DEPTHS = (8, 5, 4, 3, 2, 1, 0)
MAX_REPEATS = 2
# Keywords that are kept of a reference that leads too deep, or is too long.
WORDS, BARE = ("type", "title", "description", "enum"), ("type",)
# Characters around a keyword and its value: quotes, colon, comma, blanks.
AROUND = 6

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
# Keywords about the document, not about the arguments.
DROPPED = frozenset({
    "$schema", "$id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$comment", "$defs",
    "definitions",
})  # fmt: skip
MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
SINGLE = frozenset({"items", "not", "if", "then", "else", "contains", "propertyNames"})
# Keywords whose value is a schema or a boolean.
OPEN = frozenset({"additionalProperties", "unevaluatedProperties", "unevaluatedItems", "additionalItems"})

Schema = dict[str, Any]


class UnusableSchemaError(ValueError):
    """This tool's schema cannot be sent to a model; the message says why, as the end of a sentence about the schema."""


class _TooLongError(Exception):
    """The schema has become too long with its references replaced."""


def fit_schema(schema: object) -> Schema:
    """Return the schema of a tool's arguments with a type, with properties and without references.

    Raises:
        UnusableSchemaError: it refers to something that is not in it, or describes no object.
    """
    match schema:
        case None | True:
            return {"type": "object", "properties": {}}
        case dict():
            return _as_object(_within_bounds(schema))
        case _:
            raise UnusableSchemaError("it is not an object")


def _within_bounds(schema: Schema) -> Schema:
    """Return the schema with as much of its references as fits: less deep, then without their descriptions.

    Raises:
        UnusableSchemaError: not even that is short enough.
    """
    # A schema without references is taken as it is, whatever its size; what is added to it never doubles it.
    room = max(MAX_LENGTH, 2 * _length(schema))
    for depth, kept in (*((depth, WORDS) for depth in DEPTHS), (0, BARE)):
        try:
            inlined: Schema = _Inliner(schema, depth, kept, MAX_LENGTH if depth else room).inlined(schema, ())
            return inlined
        except _TooLongError:
            continue
    raise UnusableSchemaError("it is too long with its references replaced by what they refer to")


class _Inliner:
    """Replaces the references of one document by what they refer to, as far as there is room for so many characters."""

    def __init__(self, document: Schema, depth: int, kept: Sequence[str], room: int) -> None:
        self._document, self._depth, self._kept, self._room = document, depth, kept, room
        self._nodes = 0
        self._named = {name: part for part in _parts(document) for name in _names(part)}

    def inlined(self, schema: object, path: tuple[str, ...]) -> Any:
        """Return one schema of the document; `path` has the references that led to it."""
        self._nodes += 1
        if self._nodes > MAX_NODES and self._depth:
            raise _TooLongError
        if not isinstance(schema, dict):
            return self._counted({"not": {}} if schema is False else {})
        own = {key: self._value(key, value, path) for key, value in schema.items() if _is_kept(key, value)}
        self._take(sum(len(key) + AROUND for key in own) + AROUND)
        reference = next((schema[key] for key in REFERENCES if isinstance(schema.get(key), str)), None)
        found = {} if reference is None else self._referred(reference, path)
        return _with_items({**found, **own})

    def _referred(self, reference: str, path: tuple[str, ...]) -> Schema:
        found = self._found(reference)
        if len(path) >= self._depth or path.count(reference) >= MAX_REPEATS:
            cut: Schema = self._counted(_cut(found, self._kept))
            return cut
        inlined: Schema = self.inlined(found, (*path, reference))
        return inlined

    def _value(self, key: str, value: Any, path: tuple[str, ...]) -> Any:
        """Return a keyword's value. Only places where schemas stand are changed, not data that looks like one."""
        if key in MAPS and isinstance(value, dict):
            self._take(sum(len(name) + AROUND for name in value))
            return {name: self.inlined(schema, path) for name, schema in value.items()}
        if key in (*LISTS, "items") and isinstance(value, list):
            return [self.inlined(schema, path) for schema in value]
        if key in SINGLE or (key in OPEN and not isinstance(value, bool)):
            return self.inlined(value, path)
        return self._counted(value)

    def _counted(self, value: Any) -> Any:
        self._take(_length(value))
        return value

    def _take(self, length: int) -> None:
        self._room -= length
        if self._room < 0:
            raise _TooLongError

    def _found(self, reference: str) -> object:
        if reference in self._named:
            return self._named[reference]
        if reference != "#" and not reference.startswith("#/"):
            raise UnusableSchemaError(f"it refers to {reference[:200]!r}, which is not in it")
        found: Any = self._document
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, IndexError, ValueError, TypeError):
                raise UnusableSchemaError(f"it refers to {reference[:200]!r}, which is not in it") from None
        return found


def _is_kept(key: str, value: object) -> bool:
    is_reference = key in REFERENCES and isinstance(value, str)
    return not (key in DROPPED or is_reference or (key in {"type", "required", *MAPS, *LISTS} and value is None))


def _parts(document: object) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping of the document."""
    waiting = [document]
    while waiting:
        match waiting.pop():
            case dict() as part:
                yield part
                waiting.extend(part.values())
            case list() as parts:
                waiting.extend(parts)


def _names(part: Mapping[str, Any]) -> list[str]:
    """Return under which names a part of the document may be referred to."""
    anchors = [part.get("$anchor"), part.get("$dynamicAnchor")]
    return [f"#{name}" for name in anchors if isinstance(name, str)] + (
        [part["$id"]] if isinstance(part.get("$id"), str) else []
    )


def _length(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False))


def _cut(schema: object, keywords: Sequence[str]) -> Schema:
    """Return what is left of a schema that leads too deep."""
    kept = {key: schema[key] for key in keywords if key in schema} if isinstance(schema, dict) else {}
    return _with_items({"type": "object", **kept})


def _with_items(schema: Schema) -> Schema:
    """Give an array without `items` the permission for any items: endpoints demand the keyword."""
    is_array = schema.get("type") == "array" and "items" not in schema and "prefixItems" not in schema
    return {**schema, "items": {}} if is_array else schema


def _as_object(schema: Schema) -> Schema:
    """Make the root an object with properties, which is all that endpoints take there.

    Raises:
        UnusableSchemaError: it describes something else.
    """
    kinds = schema.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise UnusableSchemaError(f"it describes {kinds!r}, not an object")
    root = {key: value for key, value in schema.items() if key not in ("allOf", "anyOf", "oneOf", "not", "enum")}
    properties = dict(root["properties"]) if isinstance(root.get("properties"), dict) else {}
    required = set(_strings(root.pop("required", ())))
    for key in ("allOf", "anyOf", "oneOf"):
        branches = [branch for branch in schema.get(key) or () if isinstance(branch, dict)]
        for branch in branches:
            properties = {**_mapping(branch.get("properties")), **properties}
        needed = [set(_strings(branch.get("required", ()))) for branch in branches]
        if needed:
            required |= set.union(*needed) if key == "allOf" else set.intersection(*needed)
    in_order = [name for name in properties if name in required] + sorted(required - properties.keys())
    return {**root, "type": "object", "properties": properties, **({"required": in_order} if in_order else {})}


def _mapping(value: object) -> Schema:
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
