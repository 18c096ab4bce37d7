"""The agent in LangServe's protocol: a runnable, its REST routes, the playground."""
