"""The `chat-agent` command: what it is told, what it does, what it shows."""
