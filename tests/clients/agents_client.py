"""The OpenAI Agents SDK, whose default is the Responses API; its runner calls the tools."""

import asyncio
import os
from typing import Any

import openai
from agents import (
    Agent,
    HostedMCPTool,
    MCPToolApprovalFunctionResult,
    MCPToolApprovalRequest,
    ModelSettings,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)

from tests.clients.program import BASE_URL, MODEL, Events, ask_user, run

os.environ.setdefault("OPENAI_API_KEY", "none")
set_tracing_disabled(True)
client = openai.AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
model = OpenAIResponsesModel(MODEL, client)
plain: Agent[Any] = Agent(name="plain", model=model)
agent: Agent[Any] = Agent(
    name="agent",
    model=model,
    tools=[function_tool(ask_user)],
    model_settings=ModelSettings(parallel_tool_calls=True),
)
loop = asyncio.new_event_loop()


def ask(question: str) -> Events:
    """Yield an answer."""
    yield from whole(plain, question)


def whole(asked: Agent[Any], question: str, after: str | None = None) -> Events:
    """Yield an answer and the calls that lead to it."""
    result = loop.run_until_complete(Runner.run(asked, question, previous_response_id=after))
    for item in result.new_items:
        if item.type == "message_output_item":
            yield "text", "".join(part.text for part in item.raw_item.content)
        if item.type == "tool_call_item" and item.raw_item.type == "function_call":
            yield "call", item.raw_item.name


def stream(question: str) -> Events:
    """Yield an answer as it comes."""
    yield from streamed(plain, question)


def streamed(asked: Agent[Any], question: str, after: str | None = None) -> Events:
    """Yield an answer as it comes, and the calls that lead to it."""

    async def begin() -> Any:  # in the loop, where it starts its tasks
        return Runner.run_streamed(asked, question, previous_response_id=after)

    result = loop.run_until_complete(begin())
    events = result.stream_events()
    try:
        while (event := loop.run_until_complete(anext(events, None))) is not None:
            if event.type != "raw_response_event":
                continue
            data = event.data
            if data.type == "response.output_text.delta":
                yield "text", data.delta
            if data.type == "response.output_item.added" and data.item.type == "function_call":
                yield "call", data.item.name
    finally:
        result.cancel()
        loop.run_until_complete(events.aclose())


def ask_with_tool(question: str) -> Events:
    """Yield an answer and the calls that lead to it."""
    yield from whole(agent, question)


def stream_with_tool(question: str) -> Events:
    """Yield an answer as it comes and the calls that lead to it."""
    yield from streamed(agent, question)


def fork(first: str, second: str, third: str) -> Events:
    """Go on after the first answer twice."""
    start = answered(first, None)
    answered(second, start)
    yield from whole(plain, third, start)


def stream_fork(first: str, second: str, third: str) -> Events:
    """Go on after the first answer twice, the last time streamed."""
    start = answered(first, None)
    answered(second, start)
    yield from streamed(plain, third, start)


def answered(question: str, after: str | None) -> str | None:
    """Ask, and return the id of the response."""
    result = loop.run_until_complete(Runner.run(plain, question, previous_response_id=after))
    response_id: str | None = result.last_response_id
    return response_id


def approving(calls: list[str]) -> Agent[Any]:
    """Return an agent whose user approves every call of the server's tools, which are noted."""

    def decide(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        calls.append(request.data.name)
        return {"approve": True}

    config: Any = {"type": "mcp", "server_label": "disk", "server_url": "http://127.0.0.1:9/mcp"}
    return Agent(name="approving", model=model, tools=[HostedMCPTool(tool_config=config, on_approval_request=decide)])


def approve(question: str) -> Events:
    """Ask for something that the user must approve."""
    calls: list[str] = []
    yield from whole(approving(calls), question)
    yield from (("call", name) for name in calls)


def stream_approve(question: str) -> Events:
    """Ask for something that the user must approve, streamed."""
    calls: list[str] = []
    yield from streamed(approving(calls), question)
    yield from (("call", name) for name in calls)


run(
    ask=ask,
    stream=stream,
    ask_with_tool=ask_with_tool,
    stream_with_tool=stream_with_tool,
    fork=fork,
    stream_fork=stream_fork,
    approve=approve,
    stream_approve=stream_approve,
)
