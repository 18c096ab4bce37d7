"""Refuse requests of the right shape that the agent cannot serve. Pure."""

from server.chat.parameters import used_as
from server.chat.request import ChatRequest
from server.errors import InvalidRequest


def check_supported(request: ChatRequest) -> None:
    """Refuse what would change the meaning of the answer if it were ignored.

    Raises:
        InvalidRequest: the request asks for something that the agent does not do.
    """
    for name in used_as("refused"):
        if getattr(request, name) is not None:
            raise InvalidRequest(f"'{name}' is not supported by this server.", param=name, code="unsupported_parameter")
    check_tools(request)
    asked = request.response_format
    if asked and asked.type == "json_schema" and asked.json_schema is None:
        param = "response_format.json_schema"
        message = f"Missing required parameter: '{param}'."
        raise InvalidRequest(message, param=param, code="missing_required_parameter")
    if request.stream_options and any(request.stream_options.model_dump().values()) and not request.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )


def check_tools(request: ChatRequest) -> None:
    """Check that the names of tools are unique, and that the choice is one of them.

    Raises:
        InvalidRequest: a name is used twice, or the choice is not among them.
    """
    names = [tool.function.name for tool in request.tools or ()]
    for index, name in enumerate(names):
        param = f"tools[{index}].function.name"
        if name in names[:index]:
            message = f"Invalid '{param}': there are two tools called {name!r}."
            raise InvalidRequest(message, param=param, code="invalid_value")
    if request.tool_choice is None:
        return
    if not names and request.tool_choice not in ("auto", "none"):  # without tools they ask for nothing
        message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
        raise InvalidRequest(message, param="tool_choice")
    for chosen in request.chosen_names():
        if chosen not in names:
            message = f"Invalid value for 'tool_choice': there is no tool called {chosen!r} in 'tools'."
            raise InvalidRequest(message, param="tool_choice", code="invalid_value")
