"""The tool node's work: run one tool call, once and only after a person has approved it where that is needed."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Literal
from uuid import uuid4

from langchain_core.messages import InvalidToolCall, ToolCall, ToolMessage
from langchain_core.tools import BaseTool, ToolException

from graph.approval import NOT_STORED, Approval, known_result, not_run
from graph.event_queue import queue_of_run
from graph.events import ToolProgress
from graph.model.images import has_tool_images
from tools.mcp.progress import progress_listener

log = logging.getLogger(__name__)


# A call, and the message that it is in if a person was asked about it and approved. No class: the graph would take its
# fields for channels of the state.
ToolRun = tuple[ToolCall | InvalidToolCall, str | None]


async def approved_result(
    run: ToolRun, tools: Sequence[BaseTool], approval: Approval | None, thread: str | None
) -> ToolMessage:
    """Run a tool call and return its result; one that a person must approve is run once, and only if one did."""
    call, message_id = run
    tool = next((tool for tool in tools if tool.name == call["name"]), None)
    if approval is None or thread is None or message_id is None:
        is_refused = approval and tool and approval.is_needed(tool)
        return not_run(call, NOT_STORED) if is_refused else await tool_result(call, tool)
    call_id = call["id"] or ""
    assert call["type"] == "tool_call"  # a malformed call waits for nobody
    if not await approval.calls.begin(thread, message_id, call_id, call["args"]):
        return known_result(call, (await approval.calls.begun(thread, message_id))[call_id])
    result = await tool_result(call, tool)
    await approval.calls.end(thread, message_id, call_id, {"content": result.content, "status": result.status})
    return result


async def tool_result(call: ToolCall | InvalidToolCall, tool: BaseTool | None) -> ToolMessage:
    """Run a tool call and return its result; a failure is a result too, in words that the model can relay."""
    name = call["name"] or ""
    if call["type"] == "invalid_tool_call":
        return _result(call, "The arguments of this tool call are not valid JSON.", "error")
    if tool is None:
        return _result(call, f"There is no tool called {name!r}.", "error")
    queue = queue_of_run.get()
    hears = progress_listener.set(lambda said: queue.tell(ToolProgress(call["id"] or "", said)) if queue else None)
    try:
        message = await tool.ainvoke(call)
    except ToolException as failure:
        return _result(call, str(failure), "error")
    except (Exception, asyncio.CancelledError):
        # A tool's transport may cancel this task from within; only a cancellation of the run counts on it.
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        log.exception("Tool %r failed.", name)
        return _result(call, f"The tool {name!r} failed.", "error")
    finally:
        progress_listener.reset(hears)
    content = message.content if has_tool_images([message]) else str(message.text)
    return _result(call, content, message.status)


def _result(
    call: ToolCall | InvalidToolCall, content: str | list[str | dict[Any, Any]], status: Literal["success", "error"]
) -> ToolMessage:
    return ToolMessage(content, tool_call_id=call["id"] or "", name=call["name"], status=status, id=str(uuid4()))
