"""What /openapi.json says of operations that run an agent: their headers, their errors, and examples.

OpenAPI 3.1 cannot describe a stream of events yet; the schema is that of one event, as testing tools expect.
"""

from collections.abc import Mapping
from typing import Any

from server.errors import (
    InvalidRequest,
    NotFound,
    RunTimedOut,
    SessionBusy,
    Unauthorized,
    Unavailable,
    UpstreamError,
)
from server.http.complaints import wrong_type
from server.http.foreign_errors import as_api_error
from server.http.identity import ID_OR_BLANK, OWN_HEADER
from server.sessions.approval import FORMS, HEADER
from server.sessions.naming import MODE_HEADER

Json = dict[str, Any]

SESSION_PARAMETERS = [
    {
        "in": "header",
        "name": OWN_HEADER,
        "description": "The session that the request belongs to; without one it is a new session, named in the answer.",
        "schema": {"type": "string", "pattern": ID_OR_BLANK},
    },
    {
        "in": "header",
        "name": MODE_HEADER,
        "description": "`append`: the messages are all new; `full`: they are the whole conversation.",
        "schema": {"enum": ["auto", "append", "full"], "default": "auto"},
    },
    {
        "in": "header",
        "name": HEADER,
        "description": "How the caller is asked to approve calls of the server's tools: by an `item` of the Responses "
        "API, by a `call` of the tool `approve_tool_call`, or as `text`.",
        "schema": {"enum": [*FORMS]},
    },
]

# One for each status.
EXAMPLE_ERRORS = (
    InvalidRequest("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"),
    Unauthorized("Incorrect API key provided.", code="invalid_api_key"),
    UpstreamError("The account at the model endpoint has no credit left.", code="insufficient_quota", status=402),
    NotFound("The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found"),
    SessionBusy("The session is busy with another request. Try again when that is done.", code="session_busy"),
    InvalidRequest("The request is larger than 20000000 bytes.", code="request_too_large", status=413),
    wrong_type("text/plain"),
    UpstreamError("The model endpoint is rate limited. Try again later.", code="upstream_rate_limited", status=429),
    as_api_error(Exception()),
    UpstreamError("The model endpoint answered with status 500.", code="upstream_error"),
    Unavailable("The run was stopped before it was done.", code="run_stopped"),
    RunTimedOut(),
)


def describe_run(
    operation: Json, *, requests: Mapping[str, Json], answer: Json, events: str, event: Json, stream: str
) -> None:
    """Complete an operation.

    Args:
        operation: its part of the document.
        requests: bodies of requests, by what they show.
        answer: the answer to one that is not streamed.
        events: what comes with `stream`.
        event: the schema of an event's data, `[DONE]` aside.
        stream: the answer to one that is streamed.
    """
    operation["parameters"] = SESSION_PARAMETERS
    operation["requestBody"]["content"]["application/json"]["examples"] = {
        name: {"value": body} for name, body in requests.items()
    }
    for error in EXAMPLE_ERRORS:
        operation["responses"][str(error.status_code)]["content"]["application/json"]["example"] = error.envelope()
    answers = operation["responses"]["200"]["content"]
    answers["application/json"]["example"] = answer
    answers["text/event-stream"] = {
        "schema": {
            "description": f"With `stream`: {events}",
            "type": "object",
            "properties": {"data": {"anyOf": [event, {"const": "[DONE]"}]}},
            "required": ["data"],
        },
        "example": stream,
    }
