"""The agent as a LangChain runnable for LangServe: a conversation in, the text of its answer out.

LangServe's own `add_routes` is not used: with config hashes disabled its page cannot load its schemas, and with them
enabled anyone can make the server unpack a hash of 60 kB to half a gigabyte.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableGenerator
from langserve import APIHandler
from pydantic import BaseModel, Field

from graph.events import Text, joined
from graph.state import TurnContext
from server.errors import ApiError, Unavailable
from server.http.complaints import wrong_type
from server.http.event_stream import on_disconnect
from server.http.identity import SessionName, state_of
from server.http.json_body import is_json
from server.langserve.conversation import load_conversation
from server.messages.convert import instructions, unpaired
from server.sessions.dependencies import Sessions, claim_session
from server.sessions.naming import session_mode
from server.sessions.runs import Run
from server.sessions.speech import Speech
from server.sessions.turn_request import TurnRequest

PATH = "/agent"

Json = dict[str, Any]
Answer = Callable[[Request], AsyncIterator[str]]
Result = TypeVar("Result")


class Conversation(BaseModel):
    """The runnable's declared input; more forms are accepted, see `load_conversation`."""

    messages: list[HumanMessage | AIMessage | SystemMessage | ToolMessage] = Field(json_schema_extra={"minItems": 1})


TAKEN_OUT: Json = {"messages": []}
"""Placeholder for the conversation in LangServe's body; the conversation itself was read before."""


def api_handler(answer: Answer, with_request: Callable[[Json, Request], None]) -> APIHandler:
    """Return LangServe's handlers for a way to answer; `with_request` may add to the config of a run.

    The client's own config is ignored.
    """

    async def answers(inputs: AsyncIterator[Mapping[str, Any]], config: RunnableConfig) -> AsyncGenerator[str]:
        async for _ in inputs:
            said = False
            async for text in answer(config["configurable"]["request"]):
                said = True
                yield text
            if not said:
                yield ""  # an HTTP answer too

    def modified(config: Json, request: Request) -> Json:
        config["configurable"] = {"request": request}
        with_request(config, request)
        return config

    return APIHandler(
        RunnableGenerator(answers),  # type: ignore[arg-type]  # it may take a config, which its type does not say
        path=PATH,
        input_type=Conversation,
        output_type=str,  # the chat page accepts no other
        config_keys=(),
        playground_type="chat",
        per_req_config_modifier=modified,
    )


@dataclass
class Asked:
    """A request's conversation, read once, and the outcome of its run."""

    messages: Sequence[AnyMessage]
    name: SessionName | None
    page_session: str | None = None
    """The session that the chat page names, in its own way."""
    failure: ApiError | None = None
    run: Run | None = None


def asked_in(request: Request) -> Asked:
    """Return what a request asks, after `read_conversation`."""
    asked: Asked = request.state.asked
    return asked


async def run_conversation(request: Request) -> AsyncGenerator[str]:
    """Yield the text of the agent's answer to the request's conversation, in its session.

    Raises:
        ApiError: the run failed, or was stopped.
    """
    sessions: Sessions = request.app.state.sessions
    asked = asked_in(request)
    session = claim_session(request, asked.name.id if asked.name else state_of(request.scope).session_id)
    turn = TurnRequest(
        session=session,
        mode=session_mode(request.headers, asked.name),
        messages=[message for message in asked.messages if not isinstance(message, SystemMessage)],
        context=TurnContext(instructions=instructions(asked.messages)),
        refuse=partial(unpaired, asked.messages),
        quota=state_of(request.scope).quota,
        ask=sessions.asking("text", session),
    )
    asked.run = run = sessions.start(turn)
    speech = Speech()
    try:
        async for events in run.events():
            for event in joined(events):
                if isinstance(event, Text):
                    yield speech.hear(event.message_id, event.text)
    finally:
        # In a task of its own, since LangChain cancels this one repeatedly.
        await asyncio.shield(run.aclose())


async def read_conversation(request: Request) -> Json:
    """Read the body once, to its end; what arrives after it is the client's disconnect.

    Returns the body with the conversation in it; it is the request's from now on, and taken out for LangServe.

    Raises:
        InvalidRequest: it is no JSON, or does not say that it is: pages of others may send what does not. Or it has no
            conversation, or names no session that could be one.
    """
    kind = request.headers.get("content-type", "")
    if not is_json(kind):
        raise wrong_type(kind)
    body = await request.json()
    request.state.asked = Asked(load_conversation(body), state_of(request.scope).session_name)
    given = {**body}
    body["input"] = TAKEN_OUT
    return given


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await the work, after the request's body was read; it is cancelled when the client leaves.

    Raises:
        Unavailable: the client has left.
    """
    task = asyncio.create_task(work)
    try:
        async with on_disconnect(request.receive, task.cancel):
            await asyncio.wait({task})
    finally:
        task.cancel()
    if task.cancelled():
        raise Unavailable("The client has left.", code="run_stopped")
    return task.result()
