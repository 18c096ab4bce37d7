"""How each parameter of a chat completion is treated, in one table; docs/compatibility.md is for users. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

Use = Literal["honoured", "passed on", "refused", "ignored"]
"""`passed on`: sent to the model endpoint unchanged. `refused`: ignoring it would change what the answer means."""


@dataclass(frozen=True)
class Parameter:
    """How a parameter is treated, and its values that ask for nothing: with those it counts as not sent."""

    use: Use
    nothing: tuple[object, ...] = ()


HONOURED, PASSED_ON = Parameter("honoured"), Parameter("passed on")

PARAMETERS: Mapping[str, Parameter] = {
    "model": HONOURED,
    "messages": HONOURED,
    "stream": HONOURED,
    "stream_options": Parameter("honoured", ({},)),
    "temperature": PASSED_ON,
    "top_p": PASSED_ON,
    "presence_penalty": PASSED_ON,
    "frequency_penalty": PASSED_ON,
    "n": HONOURED,
    "max_tokens": Parameter("honoured", (-1,)),  # no bound, as LM Studio and Open WebUI write it
    "max_completion_tokens": Parameter("passed on", (-1,)),
    "seed": PASSED_ON,
    "stop": Parameter("passed on", ("", [], [""])),
    "logit_bias": Parameter("passed on", ({},)),
    "response_format": Parameter("passed on", ({"type": "text"},)),
    "reasoning_effort": Parameter("passed on", ("",)),
    "user": Parameter("passed on", ("",)),
    "safety_identifier": Parameter("ignored"),
    "tools": Parameter("honoured", ([],)),
    "tool_choice": Parameter("honoured", ("", {})),
    "parallel_tool_calls": PASSED_ON,
    "functions": Parameter("refused", ([],)),
    "function_call": Parameter("refused", ("none",)),
    "logprobs": Parameter("refused", (False,)),
    "top_logprobs": Parameter("refused", (0,)),
    "modalities": Parameter("refused", (["text"], [])),
    "audio": Parameter("refused", ({},)),
    "web_search_options": Parameter("refused"),
    "moderation": Parameter("refused"),
    "store": HONOURED,
    "metadata": Parameter("honoured", ({},)),
    "session_id": HONOURED,
}


@cache
def used_as(use: Use) -> tuple[str, ...]:
    """Return the parameters that are treated so."""
    return tuple(name for name, parameter in PARAMETERS.items() if parameter.use == use)


def asks_for_nothing(name: str, value: object) -> bool:
    """Say whether a parameter's value asks for nothing."""
    return name in PARAMETERS and any(is_same(value, nothing) for nothing in PARAMETERS[name].nothing)


def is_same(value: object, other: object) -> bool:
    """Say whether two JSON values are the same; `false` is not 0, though they are equal in Python."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
