"""What is compared with where BENCH_PEERS is set: langgraph-openai-serve with a graph of one node."""

from fastapi import FastAPI
from langgraph_openai_serve import GraphConfig, GraphRegistry, LanggraphOpenaiServe

from benchmarks.one_node import NAME, graph

app = FastAPI()
graphs = {NAME: GraphConfig(graph=graph.compile(), description="A model")}
LanggraphOpenaiServe(registry=GraphRegistry(graphs=graphs), app=app).bind_openai_api("/v1")
