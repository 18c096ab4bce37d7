"""What /openapi.json says about chat completions beyond what FastAPI generates: streams and examples.

OpenAPI 3.1 cannot describe a stream of events yet; the schema is that of one event, as testing tools expect.
"""

from typing import Any

from pydantic import TypeAdapter

from server.chat.response import AgentEvent, Answer, Choice, Chunk, Completion, Usage
from server.sessions.document import describe_run

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"
COMPLETIONS = "/v1/chat/completions"

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
    describe_run(
        document["paths"][COMPLETIONS]["post"],
        requests={name: {"model": model, **body} for name, body in EXAMPLES.items()},
        answer=AN_ANSWER.model_copy(update={"model": model}).model_dump(exclude_unset=True),
        events="server-sent events. The data of each is a chunk, and of the last `[DONE]`.",
        event={"type": "string", "contentMediaType": "application/json", "contentSchema": chunk},
        stream=A_STREAM.replace("MODEL", model),
    )
