"""What is compared with where BENCH_PEERS is set: langgraph-openai-serve, with a graph as small as a graph can be."""

import os

from fastapi import FastAPI
from langchain_core.messages import AnyMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_openai_serve import GraphConfig, GraphRegistry, LanggraphOpenaiServe

NAME = os.environ["OLLAMA_MODEL"]

model = ChatOpenAI(model=NAME, base_url=os.environ["OLLAMA_BASE_URL"], api_key="none", stream_usage=True)


async def call_model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    """Ask the model."""
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("model", call_model)
graph.add_edge(START, "model")

app = FastAPI()
graphs = {NAME: GraphConfig(graph=graph.compile(), description="A model")}
LanggraphOpenaiServe(registry=GraphRegistry(graphs=graphs), app=app).bind_openai_api("/v1")
