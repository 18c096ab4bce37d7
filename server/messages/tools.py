"""The client's tools of a request: their names, and the choice among them. Pure."""

from collections.abc import Collection, Sequence

from server.errors import InvalidRequest


def check_names(names: Sequence[str | None], param: str) -> None:
    """Check that the names of tools are unique, None aside; `param` says where one is, by its index.

    Raises:
        InvalidRequest: a name is used twice.
    """
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            place = param.format(index)
            message = f"Invalid '{place}': there are two tools called {name!r}."
            raise InvalidRequest(message, param=place, code="invalid_value")


def check_choice(choice: object, chosen: Collection[str], names: Collection[str]) -> None:
    """Check that a choice of tools, which names the chosen ones, can be made among the names.

    Raises:
        InvalidRequest: there are no tools, or not these.
    """
    if choice is None:
        return
    if not names and choice not in ("auto", "none"):  # without tools they ask for nothing
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise InvalidRequest(message, param="tool_choice")
    for name in chosen:
        if name not in names:
            message = f"Invalid value for 'tool_choice': there is no tool called {name!r} in 'tools'."
            raise InvalidRequest(message, param="tool_choice", code="invalid_value")
