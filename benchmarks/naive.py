"""What is compared with: FastAPI, ChatOpenAI and AsyncSqliteSaver, put together as tutorials do."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.one_node import graph


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Compile the graph on a database."""
    async with AsyncSqliteSaver.from_conn_string("naive.db") as saver:
        app.state.graph = graph.compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions", response_model=None)
async def completions(request: Request) -> Any:
    """Answer a conversation."""
    body = await request.json()
    config = {"configurable": {"thread_id": request.headers.get("x-session-id") or str(uuid4())}}
    given = {"messages": body["messages"]}
    if body.get("stream"):
        return StreamingResponse(_events(given, config, request), media_type="text/event-stream")
    state = await request.app.state.graph.ainvoke(given, config)
    message = {"role": "assistant", "content": state["messages"][-1].content}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


async def _events(given: Any, config: Any, request: Request) -> AsyncIterator[str]:
    async for chunk, _ in request.app.state.graph.astream(given, config, stream_mode="messages"):
        yield _event({"content": chunk.content}, None)
    yield _event({}, "stop")
    yield "data: [DONE]\n\n"


def _event(delta: dict[str, Any], finish_reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
