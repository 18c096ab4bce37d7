"""LangChain's ChatOpenAI for Python."""

from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.program import BASE_URL, MODEL, Events, ask_user, run

model = ChatOpenAI(base_url=BASE_URL, api_key=SecretStr("none"), model=MODEL, max_retries=0)
asking = tool(ask_user)
agent = model.bind_tools([asking])


def ask(question: str) -> Events:
    """Yield an answer."""
    message = model.invoke(question)
    yield "text", message.text
    for call in message.tool_calls:
        yield "call", call["name"]


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    for chunk in model.stream(question):
        yield "text", chunk.text
        assert isinstance(chunk, AIMessageChunk)
        for call in chunk.tool_call_chunks:
            yield "call", call["name"] or ""


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    messages: list[AnyMessage] = [HumanMessage(question)]
    while True:
        message = agent.invoke(messages)
        yield "text", message.text
        messages.append(message)
        if not message.tool_calls:
            return
        yield from answer_calls(message, messages)


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
        yield from answer_calls(message, messages)


def answer_calls(message: AIMessage, messages: list[AnyMessage]) -> Events:
    """Yield a message's calls, and add their results to the conversation."""
    for call in message.tool_calls:
        yield "call", call["name"]
        messages.append(asking.invoke(call))


run(ask=ask, stream=stream, ask_with_tool=ask_with_tool, stream_with_tool=stream_with_tool)
