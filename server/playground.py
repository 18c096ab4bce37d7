"""The LangServe chat playground at /agent/playground/, for trying the agent in a browser.

Its page sends the whole conversation with every question and no session, so its runs are not stored.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from uuid import uuid4

from fastapi import APIRouter, FastAPI
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableGenerator
from langserve import add_routes
from langserve.server import EndpointName
from pydantic import BaseModel

from graph.state import TurnContext
from server.errors import ApiError
from server.services import Services
from server.stream import dump_chunks
from server.turns import run_unstored

# Not batch, which is unbounded, nor invoke, which goes on when its client has left; and nothing that shows a run's
# inner events, such as the system prompt.
ENDPOINTS: Sequence[EndpointName] = ["stream", "stream_log", "playground", "input_schema", "output_schema"]


class Conversation(BaseModel):
    """What the page sends: the whole conversation."""

    messages: list[HumanMessage | AIMessage]


def add_playground(app: FastAPI) -> None:
    """Mount the playground on the app; it works once the app's lifespan has made its services."""

    async def answer(inputs: AsyncIterator[Mapping[str, list[AnyMessage]]]) -> AsyncGenerator[str]:
        services: Services = app.state.services
        async for conversation in inputs:  # LangServe unpacks the model that it validated
            events = run_unstored(services.assembly, conversation["messages"], TurnContext())
            run = services.runs.start(str(uuid4()), events)
            try:
                async for chunk in dump_chunks([run.events()], model=services.models.default, include_usage=False):
                    if text := chunk.choices[0].delta.content:
                        yield text
            except ApiError as error:
                yield error.message  # raised, it would break LangServe's stream and log what the upstream said
            finally:
                # In a task of its own: the one that LangChain runs this in is cancelled again and again.
                await asyncio.shield(run.aclose())

    router = APIRouter()
    add_routes(
        router,
        RunnableGenerator(answer),
        path="/agent",
        input_type=Conversation,
        output_type=str,
        playground_type="chat",
        enabled_endpoints=ENDPOINTS,
        enable_feedback_endpoint=False,
    )
    app.include_router(router, include_in_schema=False)  # LangServe's own documents describe what it does
