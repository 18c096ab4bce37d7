"""pydantic's complaints about a request, in OpenAI's words. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from server.errors import InvalidRequest
from server.wire import REFUSED, ChatRequest

# Steps of pydantic's location that name a branch of a union, not a place in the body.
UNION_TAGS = {"text", "parts", "mode", "named tool", "allowed tools"}
# The first step: where in the request the value was.
SOURCES = {"body", "query", "path", "header"}

NOT_JSON = "We could not parse the JSON body of your request: it must be a JSON object, in UTF-8."

EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_attributes_type": "an object",
    "model_type": "an object",
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
    if kind == "json_invalid" or not param:
        return InvalidRequest(NOT_JSON)
    if kind == "missing":
        if param == "model":
            return InvalidRequest("you must provide a model parameter")
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if kind in EXPECTED:
        message = f"Invalid type for '{param}': expected {EXPECTED[kind]}, but got {_json_type(value)} instead."
        return InvalidRequest(message, param=param, code="invalid_type")
    if kind == "literal_error":
        message = f"Invalid value: '{value}'. Supported values are: {context['expected']}."
        return InvalidRequest(message, param=param, code="invalid_value")
    if kind == "too_short":
        message = (
            f"Invalid '{param}': empty array. Expected an array with minimum length {context['min_length']}, "
            "but got an empty array instead."
        )
        return InvalidRequest(message, param=param, code="empty_array")
    if kind == "too_long":
        message = (
            f"Invalid '{param}': array too long. Expected an array with maximum length {context['max_length']}, "
            f"but got an array with length {context['actual_length']} instead."
        )
        return InvalidRequest(message, param=param, code="array_above_max_length")
    if kind == "string_pattern_mismatch":
        message = (
            f"Invalid '{param}': string does not match pattern. Expected a string that matches the pattern "
            f"{context['pattern']!r}."
        )
        return InvalidRequest(message, param=param, code="invalid_value")
    if kind in ("less_than_equal", "greater_than_equal"):
        return _out_of_range(param, value, context)
    return InvalidRequest(f"Invalid '{param}': {error['msg']}.", param=param, code="invalid_value")


def param_name(location: Sequence[str | int]) -> str:
    """Return a location as OpenAI writes it: `messages[0].content`."""
    name = ""
    for step in location:
        if isinstance(step, int):
            name += f"[{step}]"
        elif step not in UNION_TAGS and step not in SOURCES:
            name += f".{step}" if name else step
    return name


def check_supported(request: ChatRequest) -> None:
    """Refuse what would change the meaning of the answer if it were ignored.

    Raises:
        InvalidRequest: the request asks for something that the agent does not do.
    """
    for name in REFUSED:
        if getattr(request, name):
            raise InvalidRequest(f"'{name}' is not supported by this server.", param=name, code="unsupported_parameter")
    check_tools(request)
    if request.n not in (None, 1):
        raise InvalidRequest("Only n=1 is supported.", param="n", code="unsupported_value")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )


def check_tools(request: ChatRequest) -> None:
    """See that each tool has a name of its own, and that the choice is one of them.

    Raises:
        InvalidRequest: it is not so.
    """
    names = [tool.function.name for tool in request.tools or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            param = f"tools[{index}].function.name"
            raise InvalidRequest(
                f"Invalid '{param}': there are two tools called {name!r}.", param=param, code="invalid_value"
            )
    if request.tool_choice is None:
        return
    if not names:
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise InvalidRequest(message, param="tool_choice")
    for chosen in request.chosen_names():
        if chosen not in names:
            message = f"Invalid value for 'tool_choice': there is no tool called {chosen!r} in 'tools'."
            raise InvalidRequest(message, param="tool_choice", code="invalid_value")


def _out_of_range(param: str, value: Any, context: Mapping[str, Any]) -> InvalidRequest:
    number = (
        "integer" if isinstance(value, int) and isinstance(context.get("le", context.get("ge")), int) else "decimal"
    )
    if "le" in context:
        side, relation, bound = "above maximum", "<=", context["le"]
    else:
        side, relation, bound = "below minimum", ">=", context["ge"]
    code = f"{number}_{'above_max' if 'le' in context else 'below_min'}_value"
    message = (
        f"Invalid '{param}': {number} {side} value. Expected a value {relation} {bound:g}, but got {value} instead."
    )
    return InvalidRequest(message, param=param, code=code)


def _json_type(value: object) -> str:
    return JSON_TYPES.get(type(value), "another value")
