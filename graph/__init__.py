"""The agent: a LangGraph graph, its model, its tools and its checkpoints. Knows no HTTP."""
