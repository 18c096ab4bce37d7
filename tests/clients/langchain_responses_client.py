"""LangChain's ChatOpenAI for Python with the Responses API, whose ids it goes on after."""

from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.program import BASE_URL, MODEL, Events, ask_user, run

model = ChatOpenAI(
    base_url=BASE_URL,
    api_key=SecretStr("none"),
    model=MODEL,
    max_retries=0,
    use_responses_api=True,
    use_previous_response_id=True,
    output_version="responses/v1",
)
asking = tool(ask_user)
agent = model.bind_tools([asking])


def ask(question: str) -> Events:
    """Yield an answer."""
    yield from seen(model.invoke(question))


def seen(message: AIMessage) -> Events:
    """Yield what a message says and calls."""
    yield "text", message.text
    for call in message.tool_calls:
        yield "call", call["name"]


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    for chunk in model.stream(question):
        yield "text", chunk.text
        assert isinstance(chunk, AIMessageChunk)
        for call in chunk.tool_call_chunks:
            if call["name"]:
                yield "call", call["name"]


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    messages: list[AnyMessage] = [HumanMessage(question)]
    while True:
        message = agent.invoke(messages)
        yield from seen(message)
        messages.append(message)
        if not message.tool_calls:
            return
        messages += [asking.invoke(call) for call in message.tool_calls]


def stream_with_tool(question: str) -> Events:
    """Yield an answer as it comes and the calls that lead to it."""
    messages: list[AnyMessage] = [HumanMessage(question)]
    while True:
        message: Any = None
        for chunk in agent.stream(messages):
            yield "text", chunk.text
            message = chunk if message is None else message + chunk
        messages.append(message)
        if not message.tool_calls:
            return
        for call in message.tool_calls:
            yield "call", call["name"]
            messages.append(asking.invoke(call))


def fork(first: str, second: str, third: str) -> Events:
    """Go on after the first answer twice."""
    messages: list[AnyMessage] = [HumanMessage(first), model.invoke(first)]
    model.invoke([*messages, HumanMessage(second)])
    yield from seen(model.invoke([*messages, HumanMessage(third)]))


def stream_fork(first: str, second: str, third: str) -> Events:
    """Go on after the first answer twice, the last time streamed."""
    messages: list[AnyMessage] = [HumanMessage(first), model.invoke(first)]
    model.invoke([*messages, HumanMessage(second)])
    for chunk in model.stream([*messages, HumanMessage(third)]):
        yield "text", chunk.text


run(
    ask=ask,
    stream=stream,
    ask_with_tool=ask_with_tool,
    stream_with_tool=stream_with_tool,
    fork=fork,
    stream_fork=stream_fork,
)
