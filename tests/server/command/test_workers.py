"""API_WORKERS: several processes on one port and one database."""

import os
import signal
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.server.sessions.test_replicas import body, post, questions
from tests.support.agent_server import AgentServer
from tests.support.command import is_healthy, run, serving, without_tools, workers_of
from tests.support.interrupts import settings as at_a_terminal
from tests.support.loopback import free_port
from tests.support.postgres import Postgres
from tests.support.terminal import at_terminal, chat_agent
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until


@pytest.fixture
def shared(upstream_url: str, postgres: Postgres) -> dict[str, str]:
    """The settings of two workers."""
    return without_tools(
        upstream_url, CHECKPOINT_URL=postgres.new_database(), API_WORKERS="2", PLAYGROUND="false", MAX_RUNS="50"
    )


def test_workers_share_a_port_and_the_sessions_and_are_replaced(shared: dict[str, str], upstream: Upstream) -> None:
    with serving("serve", **shared) as (command, server):
        parent = command.process.pid
        workers = workers_of(parent)
        assert len(workers) == 2
        with ThreadPoolExecutor(6) as pool:
            sessions = [f"s{number}" for number in range(6)]
            for number in range(5):
                asked = pool.map(lambda session, number=number: post(server, f"{number}", session), sessions)
                assert {answer.status_code for answer in asked} == {200}
        post(server, "last", "s3")
        assert questions(upstream) == ["0", "1", "2", "3", "4", "last"]
        victim = workers.pop()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(workers_of(parent) - {victim}) == 2, within=20)
        assert workers < workers_of(parent)
        assert command.end() == 0
        assert not is_healthy(server)
    assert "A worker ended with status -9. It is started again." in command.logged("error")


def refuses(server: AgentServer) -> bool:
    """Whether new connections are refused, and not left waiting until they are reset."""
    try:
        httpx.get(f"{server.url}/health", timeout=10)
    except httpx.ConnectError:
        return True
    return False


def test_systemd_is_told_once_by_the_parent(shared: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.settimeout(30)
        listener.bind(str(tmp_path / "n"))
        with serving("serve", **shared, NOTIFY_SOCKET=str(tmp_path / "n")) as (command, _):
            assert told_by(listener) == ("READY=1", command.process.pid)
            assert command.end() == 0
        assert told_by(listener) == ("STOPPING=1", command.process.pid)


def told_by(listener: socket.socket) -> tuple[str, int]:
    """What is told next, and by which process."""
    text, credentials, _, _ = listener.recvmsg(100, socket.CMSG_SPACE(12))
    return text.decode(), struct.unpack("3i", credentials[0][2])[0]


def test_workers_end_in_order_and_with_their_parent(shared: dict[str, str], upstream: Upstream) -> None:
    with serving("serve", **shared) as (command, server):
        upstream.script(Answer(["A", "B", "C"], pause=0.3))
        request = body("slow", stream=True)
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=request, timeout=30) as answer:
            lines = answer.iter_lines()
            assert any('"A"' in line for line in lines)
            command.process.send_signal(signal.SIGTERM)
            until(lambda: refuses(server))
            rest = "".join(lines)
        assert '"C"' in rest
        assert "[DONE]" in rest
        assert command.end() == 0
    with serving("serve", **shared) as (command, server):
        workers = workers_of(command.process.pid)
        command.end(signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers), within=20)


@pytest.mark.nightly
def test_ctrl_c_ends_all_workers(shared: dict[str, str], upstream_url: str) -> None:
    with at_terminal(chat_agent("serve"), **{**at_a_terminal(upstream_url), **shared}) as terminal:
        terminal.until("chat-agent is ready")
        terminal.interrupt()
        assert terminal.end() == 0
    assert "Traceback" not in terminal.text


def test_workers_cannot_share_sqlite(upstream_url: str) -> None:
    ended = run("serve", **without_tools(upstream_url, API_WORKERS="2"))
    assert (ended.returncode, ended.stderr) == (
        1,
        "ERROR: API_WORKERS: several processes need a database that they can share, which SQLite is not. "
        "Set CHECKPOINT_URL=postgresql://…, or API_WORKERS=1.\n",
    )


def test_workers_that_cannot_start_end_the_server(shared: dict[str, str]) -> None:
    Path("broken.py").write_text("def agent():\n    raise RuntimeError('no agent today')\n")
    ended = run("serve", **shared, AGENTS="broken:agent", API_PORT=str(free_port()))
    assert ended.returncode == 1
    assert "no agent today" in ended.stderr
    assert "A worker cannot start; the server ends." in ended.stderr
