"""The agent as LangServe serves it: a runnable, its REST door, the playground."""
