"""Ctrl-C at a real terminal."""

import time

from tests.support.agent_server import MODEL
from tests.support.loopback import free_port
from tests.support.terminal import Terminal


def pressed(terminal: Terminal, text: str, after: float = 0, again: float | None = None) -> int:
    """Wait for a text, press Ctrl-C `after` seconds later and once more `again` seconds later; return the status."""
    if text:
        terminal.until(text)
    time.sleep(after)
    terminal.interrupt()
    if again:
        time.sleep(again)
        terminal.interrupt()
    return terminal.end()


def settings(upstream_url: str) -> dict[str, str]:
    return {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": upstream_url, "API_PORT": str(free_port())}
