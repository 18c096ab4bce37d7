"""SIGHUP, which comes when a terminal closes, ends the command as SIGTERM does; under nohup it does nothing."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from graph.offline.process import EmbeddedModel
from graph.offline.weights import find_weights
from tests.support.agent_server import MODEL, AgentServer
from tests.support.command import is_healthy, serving, without_tools
from tests.support.loopback import free_port
from tests.support.processes import running
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")

SLOWLY = Answer(["one ", "two ", "three"], pause=0.3)
QUESTION = {"model": MODEL, "stream": True, "session_id": "s", "messages": [{"role": "user", "content": "count"}]}

# What a shell in a terminal does before it starts a command.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "server", "serve"])
"""
UNDER_NOHUP = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from server.__main__ import main
main(["serve"])
"""


@contextmanager
def in_a_terminal(**settings: str) -> Iterator[tuple[subprocess.Popen[bytes], AgentServer, int]]:
    """Serve in a terminal of its own, and yield the process, the server, and the terminal's other end."""
    ours, theirs = pty.openpty()
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL],
        env=os.environ | settings | {"API_PORT": str(port)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    server = AgentServer(f"http://127.0.0.1:{port}")
    try:
        until(lambda: process.poll() is not None or is_healthy(server), within=60)
        yield process, server, ours
    finally:
        with process:
            process.kill()


def asked_last(upstream: Upstream) -> list[str]:
    return [message["content"] for message in upstream.last["messages"] if message["role"] != "system"]


@pytest.mark.timeout(240)  # two whole programs start
def test_m21_a_turn_in_progress_is_finished_and_kept(upstream: Upstream, upstream_url: str) -> None:
    settings = without_tools(upstream_url)
    upstream.script(SLOWLY)
    with serving("serve", **settings) as (command, server):
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=QUESTION) as response:
            parts = response.iter_text()
            received = next(parts)
            command.process.send_signal(signal.SIGHUP)
            received += "".join(parts)
        assert command.process.wait(10) == 0, "as SIGTERM ends it"
    assert received.endswith("data: [DONE]\n\n")
    assert "Application shutdown complete." in command.output
    assert "Traceback" not in command.output
    with serving("serve", **settings) as (_, server):
        server.ask("and?", session="s")
    assert asked_last(upstream) == ["count", "one two three", "and?"]


@pytest.mark.timeout(240)  # two whole programs start
def test_m21_a_terminal_that_closes_loses_no_turn_and_no_tool(
    upstream: Upstream, upstream_url: str, open_meteo_url: str
) -> None:
    settings = {
        "OLLAMA_MODEL": MODEL,
        "OLLAMA_BASE_URL": upstream_url,
        "OPEN_METEO_GEOCODING_URL": open_meteo_url,
        "OPEN_METEO_FORECAST_URL": open_meteo_url,
    }
    calling = Answer(["Let me ", "see. "], pause=0.3, calls=[Call("get_weather", '{"city": "Seoul"}')])
    upstream.script(calling, Answer(["It is 5.3 °C."]))
    with in_a_terminal(**settings) as (process, server, terminal):
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=QUESTION) as response:
            parts = response.iter_text()
            received = next(parts)
            os.close(terminal)
            received += "".join(parts)
        assert process.wait(20) == 0
    assert "It is 5.3 °C." in received
    assert received.endswith("data: [DONE]\n\n")
    assert "5.3 °C" in asked_last(upstream)[-1], "the tool answered"
    with serving("serve", **settings) as (_, server):
        server.ask("and?", session="s")
    assert asked_last(upstream)[-2:] == ["It is 5.3 °C.", "and?"]


def test_m21_under_nohup_the_server_goes_on(upstream_url: str) -> None:
    settings = without_tools(upstream_url)
    with serving(program=("-c", UNDER_NOHUP), **settings) as (command, server):
        command.process.send_signal(signal.SIGHUP)
        assert server.ask("one", session="s") == "You said: one"
        assert command.process.poll() is None
        assert command.end(signal.SIGTERM) == 0


def test_m21_the_mcp_server_ends_in_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("MCP_PORT", str(port))
    with running(["-m", "server", "mcp"], port) as process:
        status, said = process.end(signal.SIGHUP)
    assert status == -signal.SIGTERM
    assert "Traceback" not in said


@pytest.mark.xdist_group("the offline model")  # which takes a core and two gigabytes
@pytest.mark.timeout(400)
def test_m21_the_embedded_model_leaves_a_closing_terminal_to_its_parent() -> None:
    with EmbeddedModel(find_weights()) as model:
        os.kill(model.process_id, signal.SIGHUP)
        child = model.process_id
        health = httpx.get(model.base_url.removesuffix("/v1") + "/health")
        assert (health.status_code, model.process_id) == (200, child)
