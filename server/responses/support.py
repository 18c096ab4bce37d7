"""Refuse requests of the right shape that the agent cannot serve. Pure."""

from server.errors import InvalidRequest
from server.messages.tools import check_choice, check_names
from server.responses.parameters import PARAMETERS
from server.responses.request import ResponseRequest
from server.responses.tools import FunctionTool, ToolByName


def check_supported(request: ResponseRequest) -> None:
    """Refuse what would change the meaning of the response if it were ignored.

    Raises:
        InvalidRequest: the request asks for something that the agent does not do.
    """
    PARAMETERS.check(request)
    check_names(
        [tool.name if isinstance(tool, FunctionTool) else None for tool in request.tools or ()], "tools[{}].name"
    )
    _check_choice_of_kind(request)
    check_choice(request.tool_choice, request.chosen_names(), [tool.name for tool in request.functions()])
    if request.background and not request.is_stored:
        message = "A response in the background must be stored: leave 'store' out."
        raise InvalidRequest(message, param="background", code="invalid_value")
    if request.stream_options and not request.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    asked = request.text.format if request.text else None
    if asked and asked.type == "json_schema":
        for name, value in (("name", asked.name), ("schema", asked.schema_)):
            if value is None:
                param = f"text.format.{name}"
                message = f"Missing required parameter: '{param}'."
                raise InvalidRequest(message, param=param, code="missing_required_parameter")
    if request.previous_response_id is not None and request.conversation is not None:
        message = "'previous_response_id' and 'conversation' cannot be used together: each says where to go on."
        raise InvalidRequest(message, param="previous_response_id", code="mutually_exclusive_parameters")
    if request.input is None and request.previous_response_id is None and request.conversation is None:
        raise InvalidRequest(
            "One of 'input', 'previous_response_id' and 'conversation' must be provided.",
            param="input",
            code="missing_required_parameter",
        )


def _check_choice_of_kind(request: ResponseRequest) -> None:
    """Refuse a choice that names no tool, or can only be met by tools that are left out."""
    if isinstance(request.tool_choice, ToolByName) and request.tool_choice.type == "function":
        if request.tool_choice.name is None:
            message = "Missing required parameter: 'tool_choice.name'."
            raise InvalidRequest(message, param="tool_choice.name", code="missing_required_parameter")
    elif request.tools and not request.functions() and request.tool_choice not in (None, "auto", "none"):
        kinds = ", ".join(sorted({repr(tool.type[:100]) for tool in request.tools}))
        message = f"'tool_choice' cannot be met: tools of the type {kinds} are not supported by this server."
        raise InvalidRequest(message, param="tool_choice", code="unsupported_value")
