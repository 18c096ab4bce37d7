"""What clients send and mean nothing by. Pure.

They send a value for what their users left open, each client another one. Such a value asks for nothing, so it is the
same as leaving the field out, as `null` is for every field.
"""

from collections.abc import Mapping, Sequence

NOTHING: Mapping[str, Sequence[object]] = {
    "stream_options": [{}],
    "max_tokens": [-1],  # no bound, as LM Studio and Open WebUI write it
    "max_completion_tokens": [-1],
    "stop": ["", [], [""]],
    "logit_bias": [{}],
    "response_format": [{"type": "text"}],
    "reasoning_effort": [""],
    "user": [""],
    "tools": [[]],
    "tool_choice": ["", {}],
    "modalities": [[]],
    "audio": [{}],
    "metadata": [{}],
}


def asks_for_nothing(name: str, value: object) -> bool:
    """Say whether a field's value asks for nothing."""
    return any(is_same(value, nothing) for nothing in NOTHING.get(name, ()))


def is_same(value: object, other: object) -> bool:
    """Say whether two JSON values are the same; `false` is not 0, though Python finds them equal."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
