"""The offline model of `chat-agent demo`: llama.cpp in a child process, one more OpenAI-compatible endpoint.

Native code can take its process down and slows a Python beside it, so it never runs in ours: the child has a lower
priority, one random key, a loopback port, dies with its parent and is started again when it crashes.
"""

import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from graph.offline.memory import WINDOWS, free_memory, window_for

log = logging.getLogger(__name__)

MODEL_NAME = "qwen2.5-coder-1.5b"
TEMPLATE = Path(__file__).with_name("template.jinja")
STOP_TIMEOUT = 5.0
FIRST_RETRY, LAST_RETRY = 0.5, 10.0


class EmbeddedModelError(Exception):
    """The child process does not start; the message says why."""


class EmbeddedModel:
    """A model file served on loopback for as long as the context is open.

    `base_url` and `api_key` stay the same when the child is started again. A request may have `window` tokens, prompt
    and answer together; without it, as many as there is memory for.
    """

    def __init__(self, weights: Path, *, window: int | None = None) -> None:
        self.api_key = secrets.token_urlsafe(32)
        self.base_url = ""
        self.window = window or _window_by_memory()
        self._weights = weights
        self._port = 0
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._child = self._start()
        self._keeper = threading.Thread(target=self._keep, name="embedded model", daemon=True)
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._child.terminate()
        self._keeper.join(STOP_TIMEOUT)
        with self._child:  # closes its pipes
            self._child.kill()

    @property
    def process_id(self) -> int:
        """The child's process id at this moment."""
        return self._child.pid

    def _start(self) -> subprocess.Popen[str]:
        """Start the child, hand it its orders on standard input and wait for its address on standard output."""
        child = subprocess.Popen(
            # Import our package, not a folder "graph" in the user's working directory.
            [sys.executable, "-P", "-m", "graph.offline.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads that spin while they wait slow down their neighbours, and are slowed down by them, eight times.
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert child.stdin is not None
        assert child.stdout is not None
        orders = Orders(
            weights=str(self._weights),
            template=TEMPLATE.read_text(),
            api_key=self.api_key,
            port=self._port,
            window=self.window,
        )
        with suppress(BrokenPipeError):  # if the child dies early, no address comes
            child.stdin.write(orders.dump())
            child.stdin.flush()
        address = child.stdout.readline().strip()
        if not address:
            with child:
                child.kill()
            raise EmbeddedModelError("The embedded model does not start; its own words are above.")
        self.base_url = f"{address}/v1"
        self._port = int(address.rpartition(":")[2])
        return child

    def _keep(self) -> None:
        """Start the child again whenever it has ended without being told to."""
        retry = FIRST_RETRY
        while True:
            with self._child as child:
                status = child.wait()
            if self._closing.wait(retry):
                return
            log.warning("The embedded model has ended (status %s); starting it again.", status)
            try:
                self._child = self._start()
                retry = FIRST_RETRY
            except EmbeddedModelError as error:
                log.error("%s", error)
                retry = min(2 * retry, LAST_RETRY)


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the child is told, as one line of JSON on its standard input: a key does not belong on a command line."""

    weights: str
    template: str
    api_key: str
    port: int
    window: int

    def dump(self) -> str:
        """Return the line."""
        return json.dumps(self.__dict__) + "\n"

    @classmethod
    def load(cls, line: str) -> Self:
        """Return what a line says."""
        return cls(**json.loads(line))


def _window_by_memory() -> int:
    free = free_memory()
    window, longest = window_for(free), max(WINDOWS)
    if window < longest:
        log.warning(
            "Only %.1f GB of memory are free: the embedded model takes %d tokens a request, not %d.",
            free / 1e9,
            window,
            longest,
        )
    return window
