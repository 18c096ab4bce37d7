"""The requests of one session that wait for their answers, and how a transport says that none will come."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from tools.mcp.reasons import UnansweredError, lost


class Pending:
    """Which requests wait. The session opens them, the transport may fail them, either may end.

    The SDK's transports do not tell a request that its HTTP request failed; it would wait until its time is over.
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
        """Whether somebody waits for this answer."""
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
        """Do inside what serves one request, until nobody wants its answer any more."""
        with anyio.CancelScope() as scope:
            self._work[request_id] = scope
            if not self.waits(request_id):
                scope.cancel()
            try:
                yield
            finally:
                del self._work[request_id]

    def forget(self, request_id: int) -> None:
        """Say that nobody wants an answer any more, so that the transport may let its connection go."""
        if scope := self._work.get(request_id):
            scope.cancel()
