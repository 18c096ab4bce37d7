"""systemd is told when the server is ready, and when it ends."""

import configparser
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command import serving, without_tools
from tests.support.project import ROOT


def told(listener: socket.socket, count: int) -> Sequence[str]:
    listener.settimeout(30)
    return [listener.recv(100).decode() for _ in range(count)]


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, upstream_url: str, is_abstract: bool) -> None:
    settings = without_tools(upstream_url)
    place = f"@{tmp_path}" if is_abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(place.replace("@", "\0", 1))
        with serving("serve", **settings, NOTIFY_SOCKET=place) as (command, _):
            assert told(listener, 1) == ["READY=1"]
            assert command.end() == 0
        assert told(listener, 1) == ["STOPPING=1"]


def test_a_socket_that_is_gone_is_one_line(tmp_path: Path, upstream_url: str) -> None:
    settings = without_tools(upstream_url)
    with serving("serve", **settings, NOTIFY_SOCKET=str(tmp_path / "gone")) as (command, server):
        assert server.ask("hello") == "You said: hello"
    assert "systemd cannot be told READY=1" in command.logged("warning")[0]


def test_the_unit_is_of_that_kind_and_patient_enough() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read(ROOT / "deploy/chat-agent.service")
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["ExecStart"].endswith("chat-agent serve")
    assert int(unit["Service"]["TimeoutStopSec"]) > 20
