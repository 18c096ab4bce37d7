"""One turn of a session: what is new goes into the thread, the graph runs, and what was cut short is kept."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from graph.agent import Agent
from graph.factory import Assembly
from graph.history import call_ids, unanswered
from graph.state import TurnContext

# Steps of LangGraph; the graph's own bound on tool rounds ends a turn long before.
RECURSION_LIMIT = 1000
CUT_SHORT = "cut_short"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request in native terms: the thread, its messages without system ones, and what it asks for itself."""

    thread_id: str
    messages: Sequence[AnyMessage]
    context: TurnContext

    @property
    def config(self) -> RunnableConfig:
        """LangGraph's config of the thread."""
        return {"configurable": {"thread_id": self.thread_id}, "recursion_limit": RECURSION_LIMIT}


async def run_turn(assembly: Assembly, turn: Turn) -> AsyncGenerator[BaseMessage]:
    """Yield the turn's message chunks and tool results; when it ends, the turn is on disk.

    A turn that is stopped keeps the user's message and the text that was sent. A turn that fails leaves the thread as
    it was: nothing was acknowledged, and clients send a failed request again.
    """
    await assembly.toolbox.settled()
    agent = assembly.agent
    known: list[AnyMessage] = (await agent.aget_state(turn.config)).values.get("messages", [])
    speech = _Speech()
    try:
        run: Any = agent.astream(
            {"messages": new_messages(known, turn.messages)},
            turn.config,
            context=turn.context,
            stream_mode="messages",
            durability="exit",
        )
        async with aclosing(run) as events:
            async for message, _ in events:
                speech.hear(message)
                yield message
    except (asyncio.CancelledError, GeneratorExit):
        await keep_cut_short(agent, turn.config, speech)
        raise
    except Exception:
        await roll_back(assembly, turn.config, known)
        raise


async def run_unstored(
    assembly: Assembly, messages: Sequence[AnyMessage], context: TurnContext
) -> AsyncGenerator[BaseMessage]:
    """Yield what a run of the messages yields, and leave nothing behind."""
    await assembly.toolbox.settled()
    run: Any = assembly.unstored_agent.astream(
        {"messages": list(messages)},
        {"recursion_limit": RECURSION_LIMIT},
        context=context,
        stream_mode="messages",
    )
    async with aclosing(run) as events:
        async for message, _ in events:
            yield message


def new_messages(known: Sequence[AnyMessage], incoming: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return what the thread does not have yet: all of a first request, else what follows the last answer."""
    if not known:
        return list(incoming)
    answers = [index for index, message in enumerate(incoming) if isinstance(message, AIMessage)]
    return list(incoming[answers[-1] + 1 :] if answers else incoming)


async def keep_cut_short(agent: Agent, config: RunnableConfig, speech: "_Speech") -> None:
    """Leave the thread so that it can go on: results for the calls that have none, and the text that was sent."""
    messages: list[AnyMessage] = (await agent.aget_state(config)).values.get("messages", [])
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    repairs: list[AnyMessage] = [
        unanswered(call)
        for message in messages
        if isinstance(message, AIMessage)
        for call in call_ids(message)
        if call not in answered
    ]
    if speech.text and speech.message_id not in {message.id for message in messages}:
        repairs.append(AIMessage(speech.text, id=speech.message_id, response_metadata={"finish_reason": CUT_SHORT}))
    if repairs:
        await agent.aupdate_state(config, {"messages": repairs}, as_node="model")


async def roll_back(assembly: Assembly, config: RunnableConfig, known: Sequence[AnyMessage]) -> None:
    """Take out of the thread what a failed turn brought."""
    if not known:
        await assembly.checkpointer.adelete_thread(config["configurable"]["thread_id"])
        return
    kept = {message.id for message in known}
    messages = (await assembly.agent.aget_state(config)).values["messages"]
    removed = [RemoveMessage(message.id) for message in messages if message.id not in kept]
    if removed:
        await assembly.agent.aupdate_state(config, {"messages": removed}, as_node="model")


class _Speech:
    """The message that the model is in the middle of."""

    def __init__(self) -> None:
        self.message_id: str | None = None
        self.text = ""

    def hear(self, message: BaseMessage) -> None:
        if message.id != self.message_id:
            self.message_id, self.text = message.id, ""
        if isinstance(message, AIMessage):
            self.text += str(message.text)
