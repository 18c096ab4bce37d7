"""The agent as a LangChain runnable for LangServe: a conversation in, the text of its answer out.

LangServe's own `add_routes` is not used: with config hashes off its page cannot find out what to send, and with them on
anyone can have the server unpack a hash of 60 kB to half a gigabyte.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableGenerator
from langserve import APIHandler
from pydantic import BaseModel, Field

from graph.events import Text
from graph.state import TurnContext
from server.errors import Unavailable
from server.http.complaints import wrong_type
from server.http.event_stream import on_disconnect
from server.http.json_body import is_json
from server.langserve.conversation import load_conversation
from server.messages.convert import instructions, unpaired
from server.sessions.dependencies import Services, session_of
from server.sessions.naming import named_session, session_mode
from server.sessions.speech import Speech
from server.sessions.turn import Turn, TurnRequest

PATH = "/agent"

Json = dict[str, Any]
Answer = Callable[[Request], AsyncIterator[str]]
Result = TypeVar("Result")


class Conversation(BaseModel):
    """What the runnable says that it takes; it takes more, see `load_conversation`."""

    messages: list[HumanMessage | AIMessage | SystemMessage | ToolMessage] = Field(json_schema_extra={"minItems": 1})


TAKEN_OUT: Json = {"messages": []}
"""What LangServe finds in place of the conversation, which was read before."""


def api_handler(answer: Answer, with_request: Callable[[Json, Request], None]) -> APIHandler:
    """Return LangServe's handlers for a way to answer; `with_request` may add to the config of a run.

    What a client says of its run's config is not taken.
    """

    async def answers(inputs: AsyncIterator[Mapping[str, Any]], config: RunnableConfig) -> AsyncGenerator[str]:
        async for _ in inputs:
            said = False
            async for text in answer(config["configurable"]["request"]):
                said = True
                yield text
            if not said:
                yield ""  # which is an answer too

    def modified(config: Json, request: Request) -> Json:
        config["configurable"] = {"request": request}
        with_request(config, request)
        return config

    return APIHandler(
        RunnableGenerator(answers),  # type: ignore[arg-type]  # it may take a config, which its type does not say
        path=PATH,
        input_type=Conversation,
        output_type=str,  # the chat page takes no other
        config_keys=(),
        playground_type="chat",
        per_req_config_modifier=modified,
    )


async def run_conversation(request: Request) -> AsyncGenerator[str]:
    """Yield the text of the agent's answer to the request's conversation, in its session.

    Raises:
        ApiError: the run failed, or was stopped.
    """
    services: Services = request.app.state.services
    messages, name = request.state.conversation, request.state.session_name
    asked = TurnRequest(
        session=session_of(request, name.id if name else request.state.session_id),
        is_named=not hasattr(request.state, "page_session") and name is not None,
        mode=session_mode(request.headers, name),
        messages=[message for message in messages if not isinstance(message, SystemMessage)],
        context=TurnContext(instructions=instructions(messages)),
        refuse=partial(unpaired, messages),
    )
    turn = Turn(asked, services.assembly, services.index)
    run = services.runs.start(asked.session.thread_id, turn.run())
    speech = Speech()
    try:
        async for event in run.events():
            if isinstance(event, Text):
                yield speech.hear(event.message_id, event.text)
    finally:
        # In a task of its own: the one that LangChain runs this in is cancelled again and again.
        await asyncio.shield(run.aclose())


async def read_conversation(request: Request) -> Json:
    """Read the body to its end, once for all who ask for it; what comes after it is the client's leaving.

    Returns the body with the conversation in it; it is the request's from now on, and taken out for LangServe.

    Raises:
        InvalidRequest: it is no JSON, or does not say that it is: pages of others may send what does not. Or it has no
            conversation, or names no session that could be one.
    """
    kind = request.headers.get("content-type", "")
    if not is_json(kind):
        raise wrong_type(kind)
    body = await request.json()
    services: Services = request.app.state.services
    request.state.conversation = load_conversation(body)
    request.state.session_name = named_session(request.headers, {}, services.session_headers)
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
