"""pydantic's validation errors as OpenAI's errors. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from server.errors import InvalidRequest

# How steps in pydantic's locations begin that name a branch of a union, not a place in the body.
UNION_TAG = "as "
# The first step: where in the request the value was.
SOURCES = {"body", "query", "path", "header"}

NOT_JSON = "We could not parse the JSON body of your request. It must be a JSON object, in UTF-8."

EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
}

# By pydantic's type of the error, OpenAI's code and words.
COMPLAINTS = {
    "missing": ("missing_required_parameter", "Missing required parameter: '{param}'."),
    "too_short": (
        "empty_array",
        "Invalid '{param}': empty array. Expected an array with minimum length {min_length}, but got an empty array "
        "instead.",
    ),
    "too_long": (
        "array_above_max_length",
        "Invalid '{param}': array too long. Expected an array with maximum length {max_length}, but got an array with "
        "length {length} instead.",
    ),
    "too_many": (
        "object_above_max_properties",
        "Invalid '{param}': too many properties. Expected an object with at most {max_length} properties, but got an "
        "object with {length} properties instead.",
    ),
    "string_too_long": (
        "string_above_max_length",
        "Invalid '{param}': string too long. Expected a string with maximum length {max_length}, but got a string with "
        "length {length} instead.",
    ),
    "string_pattern_mismatch": (
        "invalid_value",
        "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern '{pattern}'.",
    ),
}

JSON_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def invalid_body(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """Return the first complaint as an API error, with the parameter it is about."""
    error = errors[0]
    kind, context, value = error["type"], error.get("ctx", {}), error.get("input")
    param = param_name(error["loc"])
    if kind in ("json_invalid", "finite_number") or not param:
        return InvalidRequest(NOT_JSON)
    if kind == "missing" and param == "model":
        return InvalidRequest("you must provide a model parameter")
    if kind in EXPECTED:
        message = f"Invalid type for '{param}': expected {EXPECTED[kind]}, but got {_json_type(value)} instead."
        return InvalidRequest(message, param=param, code="invalid_type")
    if kind in ("less_than_equal", "greater_than_equal"):
        return _out_of_range(param, value, context)
    if kind == "literal_error":
        return _unknown_value(param, value, context["expected"])
    if kind == "too_long" and isinstance(value, dict):
        kind = "too_many"
    code, message = COMPLAINTS.get(kind, ("invalid_value", "Invalid '{param}': {said}."))
    length = len(value) if isinstance(value, str | list | dict) else None
    words = {"param": param, "value": value, "length": length, "said": error["msg"], **context}
    return InvalidRequest(message.format(**words), param=param, code=code)


def wrong_type(kind: str) -> InvalidRequest:
    """Return the complaint about a body's type."""
    message = f"Unsupported content type: {kind[:100]!r}. This API takes 'application/json'."
    return InvalidRequest(message, code="unsupported_content_type", status=415)


def param_name(location: Sequence[str | int]) -> str:
    """Return a location as OpenAI writes it: `messages[0].content`."""
    name = ""
    for step in location:
        if step == "[key]":  # pydantic's mark after an invalid key
            continue
        if isinstance(step, int):
            name += f"[{step}]"
        elif not step.startswith(UNION_TAG) and step not in SOURCES:
            name += f".{step}" if name else step
    return name


def _out_of_range(param: str, value: Any, context: Mapping[str, Any]) -> InvalidRequest:
    bound = context.get("le", context.get("ge"))
    number = "integer" if isinstance(bound, int) and not isinstance(value, float) else "decimal"
    if "le" in context:
        side, relation, bound = "above maximum", "<=", context["le"]
    else:
        side, relation, bound = "below minimum", ">=", context["ge"]
    code = f"{number}_{'above_max' if 'le' in context else 'below_min'}_value"
    bound = bound if isinstance(bound, int) else f"{bound:g}"
    message = f"Invalid '{param}': {number} {side} value. Expected a value {relation} {bound}, but got {value} instead."
    return InvalidRequest(message, param=param, code=code)


def _unknown_value(param: str, value: object, expected: str) -> InvalidRequest:
    others, _, last = expected.rpartition(" or ")
    listed = f"{others}{',' if ',' in others else ''} and {last}" if others else last
    is_openai_s = param.endswith(".type") and value == "custom"
    return InvalidRequest(
        f"Invalid value: '{str(value)[:100]}'. Supported values are: {listed}.",
        param=param,
        code="unsupported_value" if is_openai_s else "invalid_value",
    )


def _json_type(value: object) -> str:
    return JSON_TYPES.get(type(value), "another value")
