"""What /openapi.json says about chat completions beyond what FastAPI generates: streams and examples.

OpenAPI 3.1 cannot describe a stream of events yet; the schema is that of one event, as testing tools expect.
"""

from typing import Any

from pydantic import TypeAdapter

from server.chat.response import AgentEvent, Answer, Choice, Chunk, Completion, Usage
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
from server.sessions.naming import MODE_HEADER

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"
COMPLETIONS = "/v1/chat/completions"

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
]

# One for each status of a completion.
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

AN_ANSWER = Completion(
    id="chatcmpl-1",
    object="chat.completion",
    created=1,
    model="",
    choices=[
        Choice(
            index=0,
            message=Answer(role="assistant", content="It is 5.3 °C in Seoul.", refusal=None, annotations=[]),
            finish_reason="stop",
            logprobs=None,
        )
    ],
    usage=Usage(prompt_tokens=20, completion_tokens=9, total_tokens=29),
)
A_STREAM = """\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"MODEL","choices":[{"index":0,"delta":\
{"role":"assistant","content":"","refusal":null},"finish_reason":null,"logprobs":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"MODEL","choices":[{"index":0,"delta":\
{"content":"5.3 °C"},"finish_reason":null,"logprobs":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"MODEL","choices":[{"index":0,"delta":\
{},"finish_reason":"stop","logprobs":null}]}

data: [DONE]

"""

EXAMPLES: dict[str, Json] = {
    "A question": {"messages": [{"role": "user", "content": "How is the weather in Seoul?"}]},
    "Streamed": {
        "messages": [{"role": "user", "content": "서울 날씨 알려줘"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "A tool of the client's": {
        "messages": [{"role": "user", "content": "Ask me for my name."}],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "ask_user",
                    "description": "Ask the user something.",
                    "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
                },
            }
        ],
    },
    "An answer in a format": {
        "messages": [{"role": "user", "content": "How warm is Seoul?"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "weather",
                "schema": {
                    "type": "object",
                    "properties": {"celsius": {"type": "number"}},
                    "required": ["celsius"],
                    "additionalProperties": False,
                },
            },
        },
    },
}


def describe_completions(document: Json, model: str) -> None:
    """Complete the operation in the API's document, with examples for this model."""
    chunk = TypeAdapter(Chunk | AgentEvent).json_schema(mode="serialization", ref_template=f"{SCHEMAS}{{model}}")
    document["components"]["schemas"] |= chunk.pop("$defs")
    completions = document["paths"][COMPLETIONS]["post"]
    completions["parameters"] = SESSION_PARAMETERS
    completions["requestBody"]["content"]["application/json"]["examples"] = {
        name: {"value": {"model": model, **body}} for name, body in EXAMPLES.items()
    }
    for error in EXAMPLE_ERRORS:
        completions["responses"][str(error.status_code)]["content"]["application/json"]["example"] = error.envelope()
    answer = AN_ANSWER.model_copy(update={"model": model}).model_dump(exclude_unset=True)
    completions["responses"]["200"]["content"]["application/json"]["example"] = answer
    completions["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {
            "description": "With `stream`: server-sent events. The data of each is a chunk, and of the last `[DONE]`.",
            "type": "object",
            "properties": {
                "data": {
                    "anyOf": [
                        {"type": "string", "contentMediaType": "application/json", "contentSchema": chunk},
                        {"const": "[DONE]"},
                    ]
                }
            },
            "required": ["data"],
        },
        "example": A_STREAM.replace("MODEL", model),
    }
