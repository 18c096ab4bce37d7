"""The requests of one session that wait for answers; a transport fails those that will get none."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from tools.mcp.reasons import UnansweredError, lost


class Pending:
    """The waiting requests. The session adds them, the transport may fail them, and either may end them all.

    The SDK's transports do not report a failed HTTP request to its caller, who would wait for the timeout.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, anyio.CancelScope] = {}
        self._failures: dict[int, UnansweredError] = {}
        self._work: dict[int, anyio.CancelScope] = {}
        self._ended = False
        self.idle = asyncio.Event()
        self.idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def waits(self, request_id: int) -> bool:
        """Whether a request waits for this answer."""
        return request_id in self._waiting and request_id not in self._failures

    @contextmanager
    def waiting(self, request_id: int) -> Iterator[None]:
        """Wait for an answer inside.

        Raises:
            UnansweredError: none will come.
        """
        if self._ended:
            raise lost(taken=False)
        with anyio.CancelScope() as scope:
            self._waiting[request_id] = scope
            self.idle.clear()
            try:
                yield
            finally:
                del self._waiting[request_id]
                if not self._waiting:
                    self.idle.set()
        if failure := self._failures.pop(request_id, None):
            raise failure

    def fail(self, request_id: int, failure: UnansweredError) -> None:
        """Say that a request gets no answer; without effect if it has one."""
        if scope := self._waiting.get(request_id):
            self._failures.setdefault(request_id, failure)
            scope.cancel()

    def end(self) -> None:
        """Say that nothing comes any more."""
        self._ended = True
        for request_id in list(self._waiting):
            self.fail(request_id, lost())

    @contextmanager
    def wanted(self, request_id: int) -> Iterator[None]:
        """Run the body, which serves one request, until its answer is no longer wanted."""
        with anyio.CancelScope() as scope:
            self._work[request_id] = scope
            if not self.waits(request_id):
                scope.cancel()
            try:
                yield
            finally:
                del self._work[request_id]

    def forget(self, request_id: int) -> None:
        """Say that an answer is no longer wanted, so that the transport can close its connection."""
        if scope := self._work.get(request_id):
            scope.cancel()
