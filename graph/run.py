"""Runs, reads and amends threads; the only module that knows LangGraph's configs, node names and stream modes."""

import logging
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
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
from langgraph.constants import START
from langgraph.types import Overwrite, StreamMode

from graph.agent import AgentGraph
from graph.events import (
    ClientCall,
    MessageEnded,
    Reasoning,
    Refusal,
    RunEvent,
    Text,
    ToolEnded,
    ToolProgress,
    ToolStarted,
)
from graph.history import all_calls, client_calls
from graph.model.answer import REASONING, REFUSAL
from graph.model.calls import dump_arguments
from graph.model.flow import Flow, flow_of_run
from graph.state import TurnContext, tool_names
from tools.mcp.toolbox import Toolbox

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

    graph: AgentGraph
    unstored: AgentGraph
    toolbox: Toolbox
    is_ours: bool = False
    """Whether it is the graph of graph/agent.py, in which every chunk of the model is part of the answer."""

    @property
    def takes_client_tools(self) -> bool:
        """Whether the graph reads a turn's context, and with it the client's tools."""
        return self.graph.context_schema is TurnContext

    async def run(
        self, messages: Sequence[AnyMessage], context: TurnContext, *, after: Position | None = None
    ) -> AsyncGenerator[RunEvent]:
        """Run the graph on the messages and yield its events; stored `after` a position, or nowhere without one."""
        await self.toolbox.settled()
        # LangGraph does not stream the chunks of a subgraph's model, so nothing would count them as taken.
        flow = Flow() if self.is_ours else None
        flow_of_run.set(flow)
        names = tool_names(context.client_tools)
        streamed: dict[str | None, bool] = {}  # ids of this run's own messages, and whether they came in chunks
        async with aclosing(self._stream({"messages": list(messages)}, context, after)) as steps:
            async for mode, told in steps:
                match mode, told:
                    case "messages", (AIMessageChunk() as chunk, _):
                        streamed[chunk.id] = True
                        for event in said(chunk):
                            yield event
                        if flow:
                            flow.take()
                    case "messages", (message, _):
                        streamed.setdefault(message.id, False)
                    case "updates", written:
                        for event in whole_messages(written_messages(written), streamed, names):
                            yield event
                    case "custom", ToolProgress():
                        yield told

    def _stream(self, given: Any, context: TurnContext, after: Position | None) -> Any:
        modes: Sequence[StreamMode] = ["messages", "updates", "custom"]
        if after is None:
            return self.unstored.astream(given, UNSTORED, context=context, stream_mode=modes)
        return self.graph.astream(given, after.config, context=context, stream_mode=modes, durability="exit")

    async def read(self, position: Position) -> list[AnyMessage]:
        """Return the messages of a thread at a position; none where there is no such checkpoint."""
        messages: list[AnyMessage] = (await self.graph.aget_state(position.config)).values.get("messages", [])
        return messages

    async def amend(self, position: Position, messages: Sequence[AnyMessage]) -> None:
        """Write messages after a position; those whose ids are there are replaced."""
        # As a node of a brought graph, its edges would be run on a state that the node did not write.
        node = "model" if self.is_ours else START
        await self.graph.aupdate_state(position.config, {"messages": list(messages)}, as_node=node)


def said(message: AIMessage) -> Iterator[RunEvent]:
    """Yield what a message of the model, or a chunk of one, says."""
    if thought := message.additional_kwargs.get(REASONING):
        yield Reasoning(message.id, thought)
    if text := str(message.text):
        yield Refusal(message.id, text) if REFUSAL in message.additional_kwargs else Text(message.id, text)


def whole_messages(
    messages: Iterable[BaseMessage], streamed: dict[str | None, bool], client_tools: Collection[str]
) -> Iterator[RunEvent]:
    """Yield what the run's own whole messages tell, each once, and what they say if that was not streamed."""
    for message in messages:
        is_own, is_said = message.id is None or message.id in streamed, streamed.pop(message.id, False)
        match message:
            case ToolMessage() if is_own:
                size = len(str(message.text).encode())
                yield ToolEnded(message.tool_call_id, failed=message.status == "error", size=size)
            case AIMessage() if is_own:
                if not is_said:
                    yield from said(message)
                yield MessageEnded(message.id, message.response_metadata.get("finish_reason"), message.usage_metadata)
                yield from calls_of(message, client_tools)


def calls_of(message: AIMessage, client_tools: Collection[str]) -> Iterator[RunEvent]:
    """Yield the calls of a model message; our graph notes which are the client's, others are told by name."""
    clients = client_calls(message)
    for call in all_calls(message):
        call_id, name = call["id"] or "", call["name"] or ""
        if call_id in clients or name in client_tools:
            yield ClientCall(call_id, name, dump_arguments(call))
        else:
            yield ToolStarted(call_id, name, call["args"])


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
