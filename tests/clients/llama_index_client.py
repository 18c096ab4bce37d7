"""LlamaIndex: OpenAILike, and the agent that runs tools with it."""

import asyncio
from typing import Any

from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.llms.openai_like import OpenAILike

from tests.clients.program import BASE_URL, MODEL, Events, ask_user, run

model = OpenAILike(
    api_base=BASE_URL,
    api_key="none",
    model=MODEL,
    is_chat_model=True,
    is_function_calling_model=True,
    max_retries=0,
)
loop = asyncio.Runner()  # one, because the model keeps its connections


def ask(question: str) -> Events:
    """Yield an answer."""
    response = model.chat([ChatMessage(question)])
    yield "text", response.message.content or ""
    yield from calls(response)


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    for chunk in model.stream_chat([ChatMessage(question)]):
        yield "text", chunk.delta or ""
        yield from calls(chunk)


def calls(response: ChatResponse) -> Events:
    """Yield the calls that a response asks for."""
    for call in model.get_tool_calls_from_response(response, error_on_no_tool_call=False):
        yield "call", call.tool_name


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    yield from loop.run(worked(question, streaming=False))


def stream_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it, from an agent that streams."""
    yield from loop.run(worked(question, streaming=True))


async def worked(question: str, *, streaming: bool) -> list[Any]:
    """Let an agent answer, and return what it says of it."""
    agent = FunctionAgent(tools=[ask_user], llm=model, streaming=streaming)
    handler, seen = agent.run(question), []
    async for event in handler.stream_events():
        if isinstance(event, ToolCallResult):
            seen.append(("call", event.tool_name))
        elif isinstance(event, AgentStream):
            seen.append(("text", event.delta))
    answer = await handler
    if not streaming:
        seen.append(("text", str(answer)))
    return seen


run(ask=ask, stream=stream, ask_with_tool=ask_with_tool, stream_with_tool=stream_with_tool)
