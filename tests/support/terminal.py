"""A program at a terminal: a real pty, on which a test reads and types as a person would."""

import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import ioctl

from tests.support.canary import CANARY

PATIENCE = 60.0
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_=>]")
# What the chat shows while it waits, a Ctrl-C that was pressed meanwhile, and the erasing of both.
WAITED = re.compile(r"\x1b\[2m…\x1b\[0m(\^C)?\r\x1b\[K")
CURSOR_REQUEST, CURSOR_POSITION = "\x1b[6n", "\x1b[1;1R"


class Terminal:
    """The terminal of one program: what it has shown, and when."""

    def __init__(self, process_id: int, descriptor: int) -> None:
        self.process_id, self._descriptor = process_id, descriptor
        self.raw = ""
        self.shown: list[tuple[float, str]] = []
        """What came, each with its time."""
        self.status: int | None = None
        self._bytes = b""
        self._seen = 0

    @property
    def text(self) -> str:
        """All that was shown, without colours and the like."""
        return ESCAPES.sub("", WAITED.sub("", self.raw)).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def until(self, text: str, *, within: float = PATIENCE) -> None:
        """Read until a text has been shown after what was waited for before; fail where it is not in time."""
        deadline = time.monotonic() + within
        while text not in self.text[self._seen :]:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text}"
            assert self._read(0.1), f"it has ended without {text!r}:\n{self.text}"
        self._seen = self.text.index(text, self._seen) + len(text)

    def end(self, *, within: float = PATIENCE) -> int:
        """Read until the program ends, and return its status."""
        deadline = time.monotonic() + within
        while self._read(0.1):
            assert time.monotonic() < deadline, f"it has not ended:\n{self.text}"
        return self._reap()

    def close(self) -> None:
        """End the program if it has not ended."""
        if self.status is None:
            os.kill(self.process_id, signal.SIGKILL)
            self._reap()
        os.close(self._descriptor)
        assert CANARY not in self.raw, "a secret"

    def _read(self, patience: float) -> bool:
        """Read what has been shown, for so long at the most; return whether there can be more."""
        if not select.select([self._descriptor], [], [], patience)[0]:
            return True
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux says that nobody has the other side open any more
            data = b""
        self._bytes += data
        text = self._bytes.decode(errors="ignore")
        new, self.raw = text[len(self.raw) :], text
        if new:
            self.shown.append((time.monotonic(), new))
        if CURSOR_REQUEST in new:
            self.type(CURSOR_POSITION)
        return bool(data)

    def _reap(self) -> int:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])
        return self.status


@contextmanager
def at_terminal(command: Sequence[str], **environment: str) -> Iterator[Terminal]:
    """Run a command on a terminal of its own, of 24 lines of 100 columns, in this folder."""
    settings = os.environ | {"TERM": "xterm-256color"} | environment
    process_id, descriptor = pty.fork()
    if process_id == 0:
        os.execvpe(command[0], list(command), settings)
    ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    terminal = Terminal(process_id, descriptor)
    try:
        yield terminal
    finally:
        terminal.close()


def chat_agent(*arguments: str) -> list[str]:
    """The command line of our command."""
    return [sys.executable, "-m", "server", *arguments]
