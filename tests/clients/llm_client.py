"""simonw's llm, with a model of the kind that its extra-openai-models.yaml makes."""

import llm
from llm.default_plugins.openai_models import Chat

from tests.clients.program import BASE_URL, MODEL, Events, ask_user, run

model = Chat(MODEL, key="none", api_base=BASE_URL, supports_tools=True)


def ask(question: str) -> Events:
    """Yield an answer."""
    return said(model.prompt(question, stream=False))


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    return said(model.prompt(question))


def said(response: llm.Response) -> Events:
    """Yield a response."""
    for text in response:
        yield "text", text
    for call in response.tool_calls():
        yield "call", call.name


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    return chained(question, stream=False)


def stream_with_tool(question: str) -> Events:
    """Yield an answer as it comes and the calls that lead to it."""
    return chained(question, stream=True)


def chained(question: str, *, stream: bool) -> Events:
    """Yield an answer of llm's own loop."""
    calls: list[str] = []
    chain = model.chain(question, tools=[ask_user], stream=stream, before_call=lambda tool, _: calls.append(tool.name))
    for text in chain:
        yield "text", text
    for call in calls:
        yield "call", call


run(ask=ask, stream=stream, ask_with_tool=ask_with_tool, stream_with_tool=stream_with_tool)
