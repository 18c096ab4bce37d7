"""A database is one process's: a second one is refused with a sentence, in whatever way it comes to the same file."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graph.storage.opening import claimed, open_checkpointer
from graph.storage.saver import CheckpointUrlError
from tests.support.agent_server import MODEL, agent_server
from tests.support.command import run
from tests.support.loopback import free_port
from tests.support.processes import PythonProcess
from tests.support.processes import running as python
from tests.support.project import ROOT
from tests.support.studio import COMMAND, CONFIG, QUIET
from tests.support.studio import running as studio
from tests.support.upstream import Upstream
from tests.support.waiting import until

URL = "sqlite:///data/chat-agent.db"
SENTENCE = (
    "ERROR: CHECKPOINT_URL: data/chat-agent.db is in use by another process. Stop that one (`chat-agent serve`, "
    "`chat-agent demo` or `make studio`), or set CHECKPOINT_URL to another file for this one.\n"
)
NOWHERE = {"OLLAMA_MODEL": MODEL, "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1", "USE_MCP_TOOLS": "false"}

# Uses a database, starts a child that outlives it, and says so.
HOLDER = """
import subprocess, sys
from graph.storage.opening import claimed
with claimed(sys.argv[1]):
    child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for line in sys.stdin:
        print(child.pid, flush=True)
"""


@contextmanager
def another_process(url: str = URL) -> Iterator[PythonProcess]:
    """Let a process use the database."""
    with python(["-c", HOLDER, url]) as process:
        child = int(process.send("Do you have it?"))
        try:
            yield process
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.fixture(autouse=True)
def our_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def refused(url: str) -> bool:
    """Whether this process may not use the database."""
    try:
        with claimed(url):
            return False
    except CheckpointUrlError:
        return True


def refused_elsewhere() -> bool:
    """Whether no other process may use it."""
    ended = subprocess.run(
        [sys.executable, "-c", HOLDER, URL], input="", capture_output=True, text=True, timeout=60, check=False
    )
    return "is in use by another process" in ended.stderr


def test_m22_a_second_server_on_the_same_file_is_refused_with_one_sentence() -> None:
    with another_process():
        second = run("serve", **NOWHERE, API_PORT=str(free_port()))
    assert (second.returncode, second.stderr) == (1, SENTENCE)


@pytest.mark.timeout(240)  # two whole programs start
def test_m22_of_two_that_start_at_once_one_is_refused_with_the_sentence(upstream_url: str) -> None:
    settings = os.environ | NOWHERE | {"OLLAMA_BASE_URL": upstream_url}
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "server", "serve"],
            env=settings | {"API_PORT": str(free_port())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        until(lambda: any(process.poll() is not None for process in both), within=200)
        (loser,) = (process for process in both if process.returncode is not None)
        assert loser.stderr
        assert (loser.returncode, loser.stderr.read()) == (1, SENTENCE)
    finally:
        for process in both:
            with process:
                process.kill()


def test_m22_studio_beside_a_server_is_refused() -> None:
    with another_process():
        ended = subprocess.run(
            [sys.executable, *COMMAND, "dev", "--config", str(CONFIG), "--no-browser", "--no-reload"],
            env=os.environ | QUIET | NOWHERE,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.endswith(SENTENCE)
    assert "Traceback" not in ended.stderr


@pytest.mark.timeout(240)  # two whole programs start
def test_m22_a_server_beside_studio_is_refused(upstream_url: str) -> None:
    settings = NOWHERE | {"OLLAMA_BASE_URL": upstream_url}
    with studio(**settings) as beside:
        assert run("serve", **settings, API_PORT=str(free_port())).stderr == SENTENCE
        assert beside.server.ask("one", session="s") == "You said: one"


def test_m22_the_lock_goes_with_its_process_and_not_with_its_children() -> None:
    with another_process() as process:
        assert refused(URL)
        process.end(signal.SIGKILL)
        assert not refused(URL), "its child lives, and must not have inherited the lock"


@pytest.mark.parametrize(
    "path",
    [
        "data/chat-agent.db",
        "data/./chat-agent.db",
        "data/../data/chat-agent.db",
        "link.db",
        "linked/chat-agent.db",
        "{here}/data/chat-agent.db",
    ],
)
def test_m22_every_way_to_write_the_path_is_the_same_file(path: str, tmp_path: Path) -> None:
    Path("link.db").symlink_to("data/chat-agent.db")
    Path("linked").symlink_to("data")
    with another_process():
        assert refused(f"sqlite:///{path.format(here=tmp_path)}")
        assert not refused("sqlite:///data/other.db")
        assert not refused("memory://")


async def test_m22_one_process_may_open_its_database_again() -> None:
    with claimed(URL):
        async with open_checkpointer(URL), open_checkpointer(URL):
            pass
        assert refused_elsewhere()
    with another_process():
        pass


def test_m22_a_folder_in_which_no_lock_can_be_made_is_named() -> None:
    Path("data").mkdir()
    Path("data/chat-agent.db.lock").mkdir()
    with pytest.raises(CheckpointUrlError, match=f"chat-agent.db cannot be written: {os.strerror(errno.EISDIR)}"):
        with claimed(URL):
            pass


def test_m22_a_server_that_ended_leaves_its_file_to_the_next(upstream: Upstream, upstream_url: str) -> None:
    for question in ("one", "two"):
        with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
            server.ask(question, session="s")
            assert refused_elsewhere()
    assert [message["content"] for message in upstream.last["messages"][1:]] == ["one", "You said: one", "two"]
