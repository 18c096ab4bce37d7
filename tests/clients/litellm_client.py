"""litellm's completion, with the prefix that it has for any OpenAI-compatible server."""

import json
from contextlib import closing
from functools import partial
from typing import Any

import litellm

from tests.clients.program import ASK_USER, BASE_URL, MODEL, Events, ask_user, run

litellm.suppress_debug_info = True  # it would go to standard output
complete = partial(litellm.completion, model=f"openai/{MODEL}", api_base=BASE_URL, api_key="none", max_retries=0)


def ask(question: str) -> Events:
    """Yield an answer."""
    message = complete(messages=[user(question)]).choices[0].message
    yield "text", message.content
    for call in message.tool_calls or ():
        yield "call", call.function.name


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    chunks = complete(messages=[user(question)], stream=True)
    with closing(chunks.completion_stream):  # its own way to close a stream is for asynchronous ones alone
        for chunk in chunks:
            delta = chunk.choices[0].delta
            yield "text", delta.content or ""
            for call in delta.tool_calls or ():
                yield "call", call.function.name


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    messages = [user(question)]
    while True:
        message = complete(messages=messages, tools=[ASK_USER]).choices[0].message
        yield "text", message.content or ""
        if not message.tool_calls:
            return
        yield from answer_calls(message, messages)


def stream_with_tool(question: str) -> Events:
    """Yield an answer as it comes and the calls that lead to it."""
    messages = [user(question)]
    while True:
        chunks = []
        for chunk in complete(messages=messages, tools=[ASK_USER], stream=True):
            chunks.append(chunk)
            yield "text", chunk.choices[0].delta.content or ""
        message = litellm.stream_chunk_builder(chunks).choices[0].message
        if not message.tool_calls:
            return
        yield from answer_calls(message, messages)


def answer_calls(message: Any, messages: list[Any]) -> Events:
    """Yield a message's calls, and add it and their results to the conversation."""
    messages.append(message)
    for call in message.tool_calls:
        yield "call", call.function.name
        messages.append(result(call))


def user(text: str) -> Any:
    """Return a message of the user."""
    return {"role": "user", "content": text}


def result(call: Any) -> Any:
    """Run the tool and return its message."""
    return {"role": "tool", "tool_call_id": call.id, "content": ask_user(**json.loads(call.function.arguments))}


run(ask=ask, stream=stream, ask_with_tool=ask_with_tool, stream_with_tool=stream_with_tool)
