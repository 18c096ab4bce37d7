"""The servers that the benchmarks compare, each a process of its own. Linux only: CPU time is read from /proc."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.endpoint import MODEL
from tests.support.loopback import free_port
from tests.support.waiting import until

PROJECT = Path(__file__).parents[1]
PEERS = PROJECT / ".venv-clients"
TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_TIMEOUT = 60


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    name: str
    port: int
    process_id: int

    def cpu(self) -> float:
        """Return the CPU seconds of the process and its children so far."""
        return sum(_ticks(process) for process in _tree(self.process_id)) * TICK

    def cpu_with_ended(self) -> float:
        """Return the same, with the children that have ended."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        return self.cpu() + (int(fields[13]) + int(fields[14])) * TICK

    def memory(self) -> float:
        """Return the resident memory of the process alone, in MiB."""
        pages = int(Path(f"/proc/{self.process_id}/statm").read_text().split()[1])
        return pages * PAGE / 2**20


@contextmanager
def endpoint() -> Iterator[str]:
    """Run the model endpoint and yield its address."""
    command = [sys.executable, "-m", "benchmarks.endpoint"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.stdin.close()


@contextmanager
def serving(name: str, url: str, folder: Path, **settings: str) -> Iterator[Running]:
    """Run one of the servers in a folder of its own, with its database there unless the settings name another."""
    port = free_port()
    command = COMMANDS[name](port)
    place = folder / name
    place.mkdir(exist_ok=True)
    with open(place / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=place, env={**_environment(url, port), **settings}, stdout=log, stderr=log
        )
    try:
        _wait_for(port, process)
        yield Running(name, port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _uvicorn(app: str, port: int, python: Path = Path(sys.executable)) -> Sequence[str]:
    return [str(python), "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]


COMMANDS: Mapping[str, Callable[[int], Sequence[str]]] = {
    "hop": lambda port: _uvicorn("benchmarks.hop:app", port),
    "naive": lambda port: _uvicorn("benchmarks.naive:app", port),
    "chat-agent": lambda _: [sys.executable, "-m", "server", "serve"],
    "langgraph-openai-serve": lambda port: _uvicorn(
        "benchmarks.peer:app", port, PEERS / "langgraph_openai_serve/bin/python"
    ),
    "litellm": lambda port: [
        str(PEERS / "litellm_proxy/bin/litellm"),
        *("--config", str(PROJECT / "benchmarks/litellm.yaml"), "--port", str(port)),
    ],
}


def _environment(url: str, port: int) -> Mapping[str, str]:
    ours = {"OLLAMA_BASE_URL": url, "OLLAMA_MODEL": MODEL, "API_PORT": str(port), "PYTHONPATH": str(PROJECT)}
    ours["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # it would be downloaded
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | ours


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    def listens() -> bool:
        assert process.poll() is None, f"{process.args!r} has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listens, within=START_TIMEOUT)


def _tree(process_id: int) -> Iterator[int]:
    yield process_id
    for children in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _ticks(process_id: int) -> int:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
