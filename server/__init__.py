"""The OpenAI-compatible door to the agent: HTTP in, server-sent events out."""

__version__ = "0.1.0"
