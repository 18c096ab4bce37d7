"""What /openapi.json says about responses beyond what FastAPI generates: the stream and examples."""

from itertools import count
from typing import Any

from graph.events import MessageEnded, RunEvent, Text
from server.responses.messages import Input
from server.responses.output import Output
from server.responses.reply import DONE, frame, last_event
from server.responses.request import ResponseRequest
from server.responses.resource import Resource
from server.sessions.document import describe_run

Json = dict[str, Any]

EXAMPLES: dict[str, Json] = {
    "A question": {"input": "How is the weather in Seoul?"},
    "Streamed": {"input": "서울 날씨 알려줘", "stream": True},
    "In the background": {"input": "Compare the weather of ten cities.", "background": True},
    "A tool of the client's": {
        "input": [{"role": "user", "content": "Ask me for my name."}],
        "tools": [
            {
                "type": "function",
                "name": "ask_user",
                "description": "Ask the user something.",
                "parameters": {"type": "object", "properties": {"question": {"type": "string"}}},
            }
        ],
    },
}
AN_ANSWER: tuple[RunEvent, ...] = (Text("1", "It is 5.3 °C in Seoul."), MessageEnded("1", "stop", None))


def describe_responses(document: Json, model: str) -> None:
    """Complete the operations in the API's document, with examples for this model."""
    resource = Resource(f"resp_{'0' * 32}", ResponseRequest(model=model), Input())
    resource.created_at, output, numbers = 1, Output(resource.id), count()
    begun = resource.begun()
    events: list[Json] = [{"type": f"response.{kind}", "response": begun} for kind in ("created", "in_progress")]
    events += [told for event in AN_ANSWER for told in output.of(event)]
    answer = {**resource.ended(output), "completed_at": 2}
    events.append(last_event(answer))
    describe_run(
        document["paths"]["/v1/responses"]["post"],
        requests={name: {"model": model, **body} for name, body in EXAMPLES.items()},
        answer=answer,
        events="server-sent events, each under its type as its name; the data of the last is `[DONE]`.",
        event={
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "properties": {"type": {"type": "string"}, "sequence_number": {"type": "integer", "minimum": 0}},
                "required": ["type", "sequence_number"],
            },
        },
        stream=b"".join([*(frame(event, next(numbers)) for event in events), DONE]).decode(),
    )
    retrieved = document["paths"]["/v1/responses/{response_id}"]["get"]["responses"]["200"]["content"]
    posted = document["paths"]["/v1/responses"]["post"]["responses"]["200"]["content"]
    retrieved["text/event-stream"] = {"schema": posted["text/event-stream"]["schema"]}
