"""The chat-agent command, run to its end or until it is healthy."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.agent_server import CERTIFICATES, MODEL, AgentServer
from tests.support.canary import CANARY
from tests.support.loopback import free_port, served
from tests.support.waiting import until


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "server", *arguments]
    ended = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False)
    assert CANARY not in ended.stdout + ended.stderr, "a secret"
    return ended


class Serving:
    """A running command: what it has printed so far, and its process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def logged(self, level: str) -> list[str]:
        """Return the messages of a level that it has logged so far; its output is no terminal, so they are JSON."""
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith('{"time"')]
        return [line["message"] for line in lines if line["level"] == level]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(40)
        self._reader.join()
        assert CANARY not in self.output, "a secret"
        return status


def without_tools(model_url: str, **more: str) -> dict[str, str]:
    """Return the settings of an agent without tools, on a model endpoint."""
    return {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": model_url, "USE_MCP_TOOLS": "false", **more}


@contextmanager
def serving(
    *arguments: str, program: Sequence[str] = ("-m", "server"), **settings: str
) -> Iterator[tuple[Serving, AgentServer]]:
    """Run a serving command, or another program, on a free port until this ends, and wait until it is healthy."""
    port = int(settings.get("API_PORT") or free_port())
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        env=os.environ | {"API_PORT": str(port)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    command = Serving(process)
    server = AgentServer(f"http://127.0.0.1:{port}", process.pid)
    try:
        until(lambda: process.poll() is not None or is_healthy(server), within=60)
        assert process.poll() is None, command.output
        yield command, server
    finally:
        command.end()
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def serving_on(model: Any, **settings: str) -> Iterator[tuple[Serving, AgentServer]]:
    """Serve the agent without tools, as a process, on a model endpoint that is an ASGI app."""
    with served(model) as url:
        with serving("serve", **without_tools(f"{url}/v1", **settings)) as running:
            yield running


def workers_of(parent: int) -> set[int]:
    """The processes that serve; Python's own helper of multiprocessing is none."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()}


def is_healthy(server: AgentServer) -> bool:
    """Whether /health answers."""
    try:
        return httpx.get(f"{server.url}/health", verify=CERTIFICATES).is_success
    except httpx.TransportError:
        return False


WELCOMING = (
    "from server.command import commands as c; c._run_server(c.load_settings(c.ServerSettings), when_ready=c._welcome)"
)
