"""Ctrl-C at a real terminal, at every moment: no traceback, and a server that was up ends with status 0."""

import time

import httpx
import pytest

from server.http.event_stream import DRAIN_SECONDS
from tests.support.agent_server import MODEL
from tests.support.command import WELCOMING
from tests.support.interrupts import pressed, settings
from tests.support.loopback import free_port
from tests.support.terminal import at_terminal, chat_agent
from tests.support.upstream import Answer, Upstream


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("Started server process", 0),
        ("chat-agent is ready", 0.05),
        *(
            pytest.param(*moment, marks=pytest.mark.nightly)
            for moment in [
                ("Application startup complete", 0),
                ("chat-agent is ready", 0),
                ("chat-agent is ready", 0.5),
                ("is ready with 2 tools", 0),
            ]
        ),
    ],
)
def test_f8_ctrl_c_at_a_server_is_quiet(upstream_url: str, text: str, after: float) -> None:
    with at_terminal(chat_agent("serve"), **settings(upstream_url)) as terminal:
        assert pressed(terminal, text, after) == 0
    assert "Traceback" not in terminal.text
    assert "Exception" not in terminal.text


@pytest.mark.parametrize(
    "after", [1, 2.5, *(pytest.param(other, marks=pytest.mark.nightly) for other in (0.3, 0.6, 1.5, 4))]
)
def test_f8_ctrl_c_before_the_server_is_up_is_quiet_too(upstream_url: str, after: float) -> None:
    with at_terminal(chat_agent("serve"), **settings(upstream_url)) as terminal:
        pressed(terminal, "", after)
    # What Python itself says while it starts, before a line of ours has run, cannot be helped.
    assert "Traceback" not in terminal.text or "server/" not in terminal.text


@pytest.mark.parametrize(
    "again", [0.1, 0.4, *(pytest.param(other, marks=pytest.mark.nightly) for other in (0.05, 0.2, 0.3, 0.6))]
)
def test_f8_pressing_it_again_while_the_server_ends_is_quiet(upstream_url: str, again: float) -> None:
    with at_terminal(chat_agent("serve"), **settings(upstream_url)) as terminal:
        assert pressed(terminal, "is ready with 2 tools", again=again) == 0
    assert "Traceback" not in terminal.text


def test_f8_pressing_it_again_does_not_wait_for_answers(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["Hel"], hold=True))
    environment = settings(upstream_url)
    url = f"http://127.0.0.1:{environment['API_PORT']}/v1/chat/completions"
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with at_terminal(chat_agent("serve"), **environment) as terminal:
        terminal.until("is ready with 2 tools")
        with httpx.stream("POST", url, json=body) as answer:
            lines = answer.iter_lines()
            assert any("Hel" in line for line in lines)
            terminal.interrupt()
            terminal.until("Waiting for connections to close")
            began = time.monotonic()
            terminal.interrupt()
            assert "run_stopped" in "".join(lines)
        assert terminal.end() == 0
        assert time.monotonic() - began < DRAIN_SECONDS / 2
    assert "Traceback" not in terminal.text


def test_f8_ctrl_c_while_the_demo_lets_its_model_read_is_quiet(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["Hel"], hold=True))
    command = [*chat_agent()[:1], "-c", WELCOMING]
    with at_terminal(command, **settings(upstream_url)) as terminal:
        assert pressed(terminal, "Letting the model read", 0.2) == 0
    assert "Traceback" not in terminal.text


def test_f8_ctrl_c_at_the_bundled_tools_is_quiet() -> None:
    with at_terminal(chat_agent("mcp"), MCP_PORT=str(free_port())) as terminal:
        assert pressed(terminal, "MCP server on http", 1) in (0, 130)
    assert "Traceback" not in terminal.text
