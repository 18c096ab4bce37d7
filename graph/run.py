"""Runs, reads and amends threads; the only module that knows LangGraph's configs, node names and stream modes."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.constants import START
from langgraph.types import Overwrite, StreamMode

from graph.agent import AgentGraph
from graph.approval import AwaitedCall
from graph.event_queue import EventQueue, queue_of_run
from graph.events import ToolStarted
from graph.history import our_calls
from graph.message_events import ended, said
from graph.model.listener import listener_of_run
from graph.state import TurnContext, tool_names
from graph.storage.run_saver import RunSaver
from tools.mcp.toolbox import Toolbox
from tools.trace import begin, doing

log = logging.getLogger(__name__)

# Steps of LangGraph; the graph's own bound on tool rounds ends a turn long before.
RECURSION_LIMIT = 1000
UNSTORED: RunnableConfig = {"recursion_limit": RECURSION_LIMIT}
# An id that no checkpoint has; LangGraph then starts from an empty state.
NOWHERE = "00000000-0000-0000-0000-000000000000"
# What LangGraph calls a step that waits for a person.
INTERRUPT = "__interrupt__"


@dataclass(frozen=True)
class Position:
    """A checkpoint of a thread; without its id, the latest one."""

    thread_id: str
    checkpoint_id: str | None = None

    @property
    def config(self) -> RunnableConfig:
        """LangGraph's config for it."""
        at = {"thread_id": self.thread_id, "checkpoint_ns": ""}
        if self.checkpoint_id is not None:
            at["checkpoint_id"] = self.checkpoint_id
        return {"configurable": at, "recursion_limit": RECURSION_LIMIT}


@dataclass(frozen=True)
class Agent:
    """A graph that answers: with its threads stored, and without."""

    name: str
    graph: AgentGraph
    unstored: AgentGraph
    toolbox: Toolbox
    is_ours: bool = False
    """Whether it is the graph of graph/agent.py, in which every word of the model is part of the answer."""

    @property
    def takes_client_tools(self) -> bool:
        """Whether the graph reads a turn's context, and with it the client's tools."""
        return self.graph.context_schema is TurnContext

    @property
    def saver(self) -> BaseCheckpointSaver[str]:
        """The saver of its threads, which reads the types of this graph's state."""
        assert isinstance(self.graph.checkpointer, BaseCheckpointSaver)
        return self.graph.checkpointer

    async def run(
        self,
        messages: Sequence[AnyMessage],
        context: TurnContext,
        queue: EventQueue,
        *,
        after: Position | None = None,
        saver: RunSaver | None = None,
    ) -> Sequence[AwaitedCall]:
        """Run the graph on the messages and tell the queue its events; `saver` gets what it writes `after` a position.

        Our model tells the queue itself what it says. Of graphs that people bring, LangGraph's stream is read.

        Returns:
            The calls that a person must approve before the run can go on, if it waits for that.
        """
        await self.toolbox.settled()
        queue_of_run.set(queue)
        listener_of_run.set(queue if self.is_ours else None)
        queue.hears_calls_of = tool_names(context.callable_tools)
        names = () if self.is_ours else tool_names(context.client_tools)  # our graph notes the client's calls
        awaited: Sequence[AwaitedCall] = ()
        streamed: dict[str | None, bool] = {}  # ids of this run's own messages, and whether they came in chunks
        with doing(begin("invoke_agent", self.name, {"gen_ai.agent.name": self.name})):
            async with aclosing(self._stream({"messages": list(messages)}, context, after, saver)) as steps:
                async for mode, told in steps:
                    match mode, told:
                        case "messages", (AIMessageChunk() as chunk, _):
                            streamed[chunk.id] = True
                            queue.tell_all(said(chunk))
                        case "messages", (message, _):
                            streamed.setdefault(message.id, False)
                        case "updates", {"approval": {"messages": [called, *refused]}} if self.is_ours:
                            queue.tell_all(self._approved(called, refused, context))
                        case "updates", {"__interrupt__": [asked, *_]} if self.is_ours:
                            awaited = [self._awaited(asked_call) for asked_call in asked.value["action_requests"]]
                        case "updates", written:
                            for message in written_messages(written):
                                if self.is_ours or is_own(message, streamed):
                                    is_said = self.is_ours or streamed.pop(message.id)
                                    told_calls = queue.told_calls
                                    queue.tell_all(
                                        ended(message, names, told_calls, is_said=is_said, label=self.server_of)
                                    )
        return awaited

    def _approved(
        self, called: AIMessage, refused: Sequence[ToolMessage], context: TurnContext
    ) -> Iterator[ToolStarted]:
        """Yield the calls of a message that are run after a person has decided about some of them."""
        done = {result.tool_call_id for result in refused}
        for call in our_calls(called):
            if call["id"] not in done:
                decision = (context.decided_about(called) or {}).get(call["id"] or "")
                name, asked_as = call["name"] or "", decision.asked_as if decision else None
                yield ToolStarted(call["id"] or "", name, call["args"], self.server_of(name), asked_as)

    def _awaited(self, asked: Mapping[str, Any]) -> AwaitedCall:
        return AwaitedCall(
            message_id=asked["message_id"],
            call_id=asked["id"],
            name=asked["name"],
            arguments=asked["args"],
            server=self.server_of(asked["name"]),
        )

    def server_of(self, tool: str) -> str:
        """Return the MCP server of a tool, or the agent's name for a tool of its own."""
        return self.toolbox.server_of(tool) or self.name

    def _stream(self, given: Any, context: TurnContext, after: Position | None, saver: RunSaver | None) -> Any:
        modes: Sequence[StreamMode] = ["updates"] if self.is_ours else ["messages", "updates"]
        if after is None or saver is None:
            return self.unstored.astream(given, UNSTORED, context=context, stream_mode=modes)
        graph = on(self.graph, saver)
        return graph.astream(given, after.config, context=context, stream_mode=modes, durability="exit")

    async def read(self, position: Position, saver: RunSaver | None = None) -> list[AnyMessage]:
        """Return the messages of a thread at a position; none where there is no such checkpoint.

        In a thread, since it takes seconds for a hundred thousand messages.
        """
        state = await asyncio.to_thread(on(self.graph, saver or self.saver).get_state, position.config)
        messages: list[AnyMessage] = state.values.get("messages", [])
        return messages

    async def amend(self, position: Position, messages: Sequence[AnyMessage], saver: RunSaver) -> None:
        """Write messages after a position; those whose ids are there are replaced."""
        # As a node of a brought graph, its edges would be run on a state that the node did not write.
        node = "model" if self.is_ours else START
        await on(self.graph, saver).aupdate_state(position.config, {"messages": list(messages)}, as_node=node)


def on(graph: AgentGraph, saver: BaseCheckpointSaver[str]) -> AgentGraph:
    """Return the graph on another saver."""
    moved = copy(graph)
    moved.checkpointer = saver
    return moved


def is_own(message: BaseMessage, streamed: dict[str | None, bool]) -> bool:
    """Whether a message that a node wrote is of this run, and not an older one written again."""
    if message.id is None:
        streamed[None] = False
    return message.id in streamed


def written_messages(update: Mapping[str, Any]) -> Iterator[BaseMessage]:
    """Yield the messages that the nodes of a step wrote; a node may write none, or wait for a person."""
    for node, written in update.items():
        if node == INTERRUPT:
            log.warning("The graph waits for a person, whom this server cannot ask. The turn ends here.")
            continue
        for state in written if isinstance(written, list) else [written]:
            messages = (isinstance(state, Mapping) and state.get("messages")) or []
            messages = messages.value if isinstance(messages, Overwrite) else messages
            yield from convert_to_messages(messages if isinstance(messages, list) else [messages])
