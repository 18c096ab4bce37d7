"""Servers as processes of their own, and waiting for what they do."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PATIENCE = 20.0


class PythonProcess:
    """`python ARGUMENTS`, or another program, as a process, which answers on a port where one is given."""

    def __init__(self, arguments: Sequence[str], port: int | None = None, *, program: str = sys.executable) -> None:
        self._arguments, self._port, self._program = arguments, port, program

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [self._program, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        deadline = time.monotonic() + PATIENCE
        while self._port is not None and not _listens(self._port):
            assert self._process.poll() is None, self._process.communicate()[1]
            assert time.monotonic() < deadline, "the process does not listen"
            time.sleep(0.02)

    def send(self, text: str) -> str:
        """Write a line to its standard input and return the line that it answers on standard output."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def halt(self) -> None:
        """Let it hang: it is there, and does nothing any more."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `halt`."""
        self._process.send_signal(signal.SIGCONT)

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Send it a signal, wait for its end, and return its status and what it wrote to standard error."""
        self._process.send_signal(how)
        return self._wait()

    def close(self) -> tuple[int, str]:
        """Close its standard input, wait for its end, and return its status and what it wrote to standard error."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._wait()

    def kill(self) -> None:
        """End it, if it has not ended, without letting it know."""
        if self._process.returncode is None:
            self._process.kill()
            with self._process:
                self._process.wait(PATIENCE)

    def _wait(self) -> tuple[int, str]:
        with self._process:  # which closes its pipes in the end, and not before
            status = self._process.wait(PATIENCE)
            assert self._process.stderr
            return status, self._process.stderr.read()


@contextmanager
def running(
    arguments: Sequence[str], port: int | None = None, *, program: str = sys.executable
) -> Iterator[PythonProcess]:
    """Start a process, and end it if the test has not."""
    process = PythonProcess(arguments, port, program=program)
    try:
        process.start()
        yield process
    finally:
        process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
