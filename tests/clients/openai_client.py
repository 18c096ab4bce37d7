"""The OpenAI SDK for Python: calls, streams, and the helper that gathers a stream."""

import json
import os
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.clients.program import ASK_USER, BASE_URL, MODEL, Events, ask_user, run

client = openai.OpenAI(
    base_url=BASE_URL, api_key="none", max_retries=0, _strict_response_validation="STRICT" in os.environ
)


def ask(question: str) -> Events:
    """Yield an answer."""
    message = client.chat.completions.create(model=MODEL, messages=[user(question)]).choices[0].message
    yield "text", message.content or ""
    for call in message.tool_calls or ():
        assert call.type == "function"
        yield "call", call.function.name


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    with client.chat.completions.create(model=MODEL, messages=[user(question)], stream=True) as chunks:
        for chunk in chunks:
            delta = chunk.choices[0].delta
            yield "text", delta.content or ""
            for call in delta.tool_calls or ():
                yield "call", call.function.name if call.function and call.function.name else ""


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    messages: list[Any] = [user(question)]
    while True:
        choice = client.chat.completions.create(model=MODEL, messages=messages, tools=[ASK_USER]).choices[0]
        yield "text", choice.message.content or ""
        if choice.finish_reason != "tool_calls":
            return
        messages.append(choice.message)
        for call in choice.message.tool_calls or ():
            assert call.type == "function"
            yield "call", call.function.name
            messages.append(result(call.id, call.function.arguments))


def stream_with_tool(question: str) -> Events:
    """Yield an answer as it comes and the calls that lead to it."""
    messages: list[Any] = [user(question)]
    while True:
        with client.chat.completions.stream(model=MODEL, messages=messages, tools=[ASK_USER]) as events:
            for event in events:
                if event.type == "content.delta":
                    yield "text", event.delta
            choice = events.get_final_completion().choices[0]
        assert choice.message.role == "assistant"
        if choice.finish_reason != "tool_calls":
            return
        messages.append(choice.message)
        for call in choice.message.tool_calls or ():
            yield "call", call.function.name
            messages.append(result(call.id, call.function.arguments))


def user(text: str) -> ChatCompletionMessageParam:
    """Return a message of the user."""
    return {"role": "user", "content": text}


def result(call: str, arguments: str) -> ChatCompletionMessageParam:
    """Run the tool and return its message."""
    return {"role": "tool", "tool_call_id": call, "content": ask_user(**json.loads(arguments))}


run(ask=ask, stream=stream, ask_with_tool=ask_with_tool, stream_with_tool=stream_with_tool)
