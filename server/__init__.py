"""The OpenAI-compatible server of the agents: HTTP in, server-sent events out."""

__version__ = "0.1.0"
