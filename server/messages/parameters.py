"""How each parameter of a protocol's requests is treated, in one table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from server.errors import InvalidRequest

Use = Literal["honoured", "passed on", "refused", "ignored"]
"""`passed on`: sent to the model endpoint unchanged. `refused`: ignoring it would change what the answer means."""


@dataclass(frozen=True)
class Parameter:
    """How a parameter is treated, and its values that ask for nothing: with those it counts as not sent."""

    use: Use
    nothing: tuple[object, ...] = ()
    moved_to: str = ""
    """What this protocol has in place of a parameter of another one."""


HONOURED, PASSED_ON, IGNORED = Parameter("honoured"), Parameter("passed on"), Parameter("ignored")


class Parameters:
    """The parameters of a protocol by their names."""

    def __init__(self, table: Mapping[str, Parameter]) -> None:
        self.table = table
        self.passed_on, self.refused = self._used_as("passed on"), self._used_as("refused")

    def _used_as(self, use: Use) -> Sequence[str]:
        return [name for name, parameter in self.table.items() if parameter.use == use]

    def without_nothing(self, body: object) -> object:
        """Return a request's body without what asks for nothing, so that it is as if it had not been sent."""
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if not self.asks_for_nothing(name, value)}

    def asks_for_nothing(self, name: str, value: object) -> bool:
        """Say whether a parameter's value asks for nothing."""
        return name in self.table and any(is_same(value, nothing) for nothing in self.table[name].nothing)

    def check(self, request: BaseModel) -> None:
        """Check that a request has no parameter that is refused.

        Raises:
            InvalidRequest: it has one.
        """
        for name in self.refused:
            if getattr(request, name) is not None:
                moved = self.table[name].moved_to
                message = f"'{name}' is not supported by this {'API. Use ' + repr(moved) if moved else 'server'}."
                raise InvalidRequest(message, param=name, code="unsupported_parameter")


def is_same(value: object, other: object) -> bool:
    """Say whether two JSON values are the same; `false` is not 0, though they are equal in Python."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
