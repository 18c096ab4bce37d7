"""The agent as a LangChain runnable for LangServe: a conversation in, the text of its answer out.

LangServe's own `add_routes` is not used: with config hashes off its page cannot find out what to send, and with them on
anyone can have the server unpack a hash of 60 kB to half a gigabyte.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from fastapi import Request
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig, RunnableGenerator
from langserve import APIHandler
from pydantic import BaseModel, Field

from graph.state import TurnContext
from server.errors import InvalidRequest, Unavailable
from server.json_body import is_json
from server.messages import instructions
from server.replies import on_disconnect
from server.services import Services, session_of
from server.sessions import SessionName, session_mode
from server.stream import dump_chunks
from server.turns import Turn, run_turn
from server.validation import wrong_type

PATH = "/agent"

Json = dict[str, Any]
Messages = list[AnyMessage]
Answer = Callable[[Messages, Request], AsyncIterator[str]]
Result = TypeVar("Result")


class Conversation(BaseModel):
    """What the runnable takes."""

    messages: list[HumanMessage | AIMessage | SystemMessage] = Field(min_length=1)


def api_handler(answer: Answer, with_request: Callable[[Json, Request], None]) -> APIHandler:
    """Return LangServe's handlers for a way to answer; `with_request` may add to the config of a run.

    What a client says of its run's config is not taken.
    """

    async def answers(inputs: AsyncIterator[Mapping[str, Messages]], config: RunnableConfig) -> AsyncGenerator[str]:
        async for conversation in inputs:  # LangServe unpacks the model that it validated
            said = False
            async for text in answer(conversation["messages"], config["configurable"]["request"]):
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


async def run_conversation(messages: Messages, name: SessionName | None, request: Request) -> AsyncGenerator[str]:
    """Yield the text of the agent's answer, in a session of this name.

    Raises:
        ApiError: the run failed, or was stopped.
    """
    services: Services = request.app.state.services
    turn = Turn(
        session=session_of(request, name.id if name else request.state.session_id),
        mode=session_mode(request.headers, name),
        stored=True,
        messages=[fresh(message) for message in messages if not isinstance(message, SystemMessage)],
        context=TurnContext(instructions=instructions(messages)),
    )
    run = services.runs.start(turn.session.thread_id, run_turn(services.assembly, services.index, turn))
    try:
        async for chunk in dump_chunks([run.messages()], model=services.models.default, include_usage=False):
            if text := chunk.choices[0].delta.content:
                yield text
    finally:
        # In a task of its own: the one that LangChain runs this in is cancelled again and again.
        await asyncio.shield(run.aclose())


def fresh(message: AnyMessage) -> AnyMessage:
    """Return what a message says, under an id of ours: one with an id of the thread's would take its place.

    Raises:
        InvalidRequest: it says something that is not text.
    """
    parts = message.content if isinstance(message.content, list) else []
    if any(isinstance(part, dict) and part.get("type") != "text" for part in parts):
        raise InvalidRequest("Only text can be sent here; for images and files use /v1/chat/completions.")
    kind = AIMessage if isinstance(message, AIMessage) else HumanMessage
    return kind(str(message.text), id=str(uuid4()))


async def body_of(request: Request) -> Any:
    """Read the body to its end, once for all who ask for it; what comes after it is the client's leaving.

    Raises:
        InvalidRequest: it is no JSON, or does not say that it is: pages of others may send what does not.
    """
    kind = request.headers.get("content-type", "")
    if not is_json(kind):
        raise wrong_type(kind)
    return await request.json()


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
