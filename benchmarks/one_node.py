"""The graph of a tutorial, for the servers that are compared with: one node, which asks the model."""

import os

from langchain_core.messages import AnyMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

NAME = os.environ["OLLAMA_MODEL"]

model = ChatOpenAI(model=NAME, base_url=os.environ["OLLAMA_BASE_URL"], api_key="none", stream_usage=True)


async def call_model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    """Ask the model."""
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("model", call_model)
graph.add_edge(START, "model")
