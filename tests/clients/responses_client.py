"""The OpenAI SDK for Python with the Responses API: calls, streams, and the helper that gathers a stream."""

import json
import os
from typing import Any

import openai
from openai.types.responses import Response

from tests.clients.program import ASK_USER, BASE_URL, MODEL, Events, ask_user, run

client = openai.OpenAI(
    base_url=BASE_URL, api_key="none", max_retries=0, _strict_response_validation="STRICT" in os.environ
)
TOOL: Any = {"type": "function", "strict": False, **ASK_USER["function"]}


def ask(question: str) -> Events:
    """Yield an answer."""
    yield from seen(client.responses.create(model=MODEL, input=question))


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    with client.responses.create(model=MODEL, input=question, stream=True) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                yield "text", event.delta
            if event.type == "response.output_item.added" and event.item.type == "function_call":
                yield "call", event.item.name
            if event.type == "response.failed" and event.response.error:
                raise openai.APIError(event.response.error.message, request=None, body=None)  # type: ignore[arg-type]


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    response = client.responses.create(model=MODEL, input=question, tools=[TOOL])
    while True:
        yield from seen(response)
        if not (results := outputs(response)):
            return
        response = client.responses.create(model=MODEL, input=results, previous_response_id=response.id, tools=[TOOL])


def stream_with_tool(question: str) -> Events:
    """Yield an answer as it comes and the calls that lead to it; everything is sent again each time."""
    items: list[Any] = [{"role": "user", "content": question}]
    while True:
        with client.responses.stream(model=MODEL, input=items, tools=[TOOL]) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    yield "text", event.delta
                if event.type == "response.output_item.added" and event.item.type == "function_call":
                    yield "call", event.item.name
            response = events.get_final_response()
        items += [item.model_dump(exclude_none=True) for item in response.output]
        if not (results := outputs(response)):
            return
        items += results


def fork(first: str, second: str, third: str) -> Events:
    """Go on after the first answer twice."""
    start = client.responses.create(model=MODEL, input=first)
    client.responses.create(model=MODEL, input=second, previous_response_id=start.id)
    yield from seen(client.responses.create(model=MODEL, input=third, previous_response_id=start.id))


def stream_fork(first: str, second: str, third: str) -> Events:
    """Go on after the first answer twice, streamed."""
    ids: list[str] = []
    for question, after in ((first, None), (second, 0), (third, 0)):
        parent = None if after is None else ids[after]
        with client.responses.stream(model=MODEL, input=question, previous_response_id=parent) as events:
            response = events.get_final_response()
        ids.append(response.id)
    yield "text", response.output_text


def seen(response: Response) -> Events:
    """Yield what a response says and calls."""
    yield "text", response.output_text
    for item in response.output:
        if item.type == "function_call":
            yield "call", item.name


def outputs(response: Response) -> list[Any]:
    """Run the client's tools, and return their results as items."""
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": ask_user(**json.loads(item.arguments))}
        for item in response.output
        if item.type == "function_call"
    ]


run(
    ask=ask,
    stream=stream,
    ask_with_tool=ask_with_tool,
    stream_with_tool=stream_with_tool,
    fork=fork,
    stream_fork=stream_fork,
)
