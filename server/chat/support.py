"""Refuse requests of the right shape that the agent cannot serve. Pure."""

from server.chat.parameters import PARAMETERS
from server.chat.request import ChatRequest
from server.errors import InvalidRequest
from server.messages.tools import check_choice, check_names


def check_supported(request: ChatRequest) -> None:
    """Refuse what would change the meaning of the answer if it were ignored.

    Raises:
        InvalidRequest: the request asks for something that the agent does not do.
    """
    PARAMETERS.check(request)
    names = [tool.function.name for tool in request.tools or ()]
    check_names(names, "tools[{}].function.name")
    check_choice(request.tool_choice, request.chosen_names(), names)
    asked = request.response_format
    if asked and asked.type == "json_schema" and asked.json_schema is None:
        param = "response_format.json_schema"
        message = f"Missing required parameter: '{param}'."
        raise InvalidRequest(message, param=param, code="missing_required_parameter")
    if request.stream_options and any(request.stream_options.model_dump().values()) and not request.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
