"""Runs: each is owned by one task, one at a time for each session.

A client that goes away must stop the model, but AnyIO's cancellation stops LangGraph's own clean-up first
(langgraph#5682). So no handler runs the graph: the owner task does, tells a queue its events, is cancelled and is
awaited to its end.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from math import inf
from typing import Any
from uuid import uuid4

import anyio
from langchain_core.runnables.config import var_child_runnable_config

from graph.event_queue import EventQueue
from graph.events import RunEvent, ToolStarted
from server.errors import AgentError, ApiError, RunTimedOut, Unavailable
from server.http.foreign_errors import as_api_error
from server.http.stats import STATS, RequestStats
from server.sessions.leases import Leases
from server.sessions.naming import Session
from server.sessions.observed import observe

log = logging.getLogger(__name__)

Work = Callable[[EventQueue], Coroutine[Any, Any, object]]
"""What a run does: it tells the queue its events."""

STOP_TIMEOUT = 10.0
CANCEL_AGAIN = 0.2


class Run:
    """One run: its events, and the way to stop it."""

    def __init__(
        self,
        owner: "RunOwner",
        thread_id: str,
        work: Work,
        queue: EventQueue,
        session: Session | None,
        repeatable: bool,
    ) -> None:
        self.thread_id, self.session = thread_id, session
        self.began = time.time()
        self._repeatable = repeatable
        self._stopped_with: ApiError | None = None
        self._queue = queue
        self.task = asyncio.create_task(self._own(owner, work), name=f"run of {thread_id}", context=own_context())
        # Not in the task itself: one that is cancelled before its first step never gets to its end.
        self.task.add_done_callback(lambda _: self._queue.close())

    async def begun(self, *, within: float) -> None:
        """Wait for the first event, for so many seconds at the most.

        Raises:
            ApiError: the run failed, or was stopped, before it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._queue.ready()
        if self.task.done():
            self._raise_failure()

    async def events(self) -> AsyncGenerator[Sequence[RunEvent]]:
        """Yield the run's events, all that are new at once; the end comes when everything is stored.

        Raises:
            ApiError: the run failed, or was stopped.
        """
        stats = STATS.get() or RequestStats()
        while new := await self._queue.take():
            observe(new, stats)
            yield new
        await self.ended()
        self._raise_failure()

    def stop(self, told: ApiError | None = None) -> None:
        """Cancel the run, unless it is being stored already; its reader is told why. The first reason counts."""
        if self._stopped_with is None and not self.task.done() and not self._queue.is_complete:
            self._stopped_with = told or run_stopped()
            self._queue.stop(self._stopped_with)
            self._cancel()

    @property
    def is_stopping(self) -> bool:
        """Whether it was stopped and has not ended yet."""
        return self._stopped_with is not None and not self.task.done()

    async def ended(self) -> None:
        """Wait until the run has ended, in whatever way."""
        if not self.task.done():
            await asyncio.wait({self.task})

    async def aclose(self) -> None:
        """Stop the run and wait for its end, even in a scope that is being cancelled."""
        if self.task.done():
            return
        self.stop()
        with anyio.move_on_after(STOP_TIMEOUT, shield=True) as waiting:
            await self.ended()
        if waiting.cancelled_caught:
            log.error("%s does not end though it was cancelled.", self.task.get_name())

    async def _own(self, owner: "RunOwner", work: Work) -> None:
        held = owner.leases.held(self.session, run_began=self.began) if self.session else nullcontext()
        async with held:
            deadline = asyncio.get_running_loop().call_later(owner.run_timeout, self.stop, RunTimedOut())
            try:
                await work(self._queue)
            finally:
                deadline.cancel()

    def _cancel(self) -> None:
        """Cancel the task, and again while it does not end: `asyncio.wait_for` may lose one on Python 3.11."""
        if not self.task.done():
            self.task.cancel()
            asyncio.get_running_loop().call_later(CANCEL_AGAIN, self._cancel)

    def _raise_failure(self) -> None:
        failure = self._failure()
        if failure:
            error = as_api_error(failure)
            acted = any(isinstance(event, ToolStarted) for event in self._queue.events)
            raise (error if self._repeatable and not acted else error.not_to_be_repeated()) from failure

    def log_failure(self) -> None:
        """Log why the run failed: a defect of ours with its traceback, other failures in one line."""
        error = self._failure()
        if error is None or (error is self._stopped_with and not isinstance(error, RunTimedOut)):
            return
        answer = as_api_error(error)
        is_defect = isinstance(answer, AgentError)
        level, trace = (logging.ERROR, error) if is_defect else (logging.WARNING, None)
        name, kind = self.task.get_name(), type(error).__name__
        log.log(level, "%s failed: %s (%s)", name, answer.message, kind, exc_info=trace)

    def _failure(self) -> BaseException | None:
        if self.task.cancelled():
            return self._stopped_with or run_stopped()
        return self.task.exception() or self._stopped_with


def own_context() -> Context:
    """Return the context of the request, its trace included, without the config in which LangChain keeps callbacks.

    LangServe's would otherwise see inside the run.
    """
    context = copy_context()
    context.run(var_child_runnable_config.set, None)
    return context


def run_stopped() -> Unavailable:
    """Return the error for the reader of a run that was stopped."""
    return Unavailable("The run was stopped before it was done.", code="run_stopped")


class RunOwner:
    """All runs in progress.

    Args:
        leases: the sessions that this process holds.
        run_timeout: seconds after which a run is stopped.
    """

    def __init__(self, leases: Leases, *, run_timeout: float) -> None:
        self.leases, self.run_timeout = leases, run_timeout
        self._runs: dict[Run, None] = {}  # in the order in which they were started

    def start(self, session: Session, work: Work) -> Run:
        """Start a run in a session's thread; it waits for its turn in the task that owns it.

        Clients may repeat the request if the run ends before it has let tools run.
        """
        return self._started(session.thread_id, work, EventQueue(), session)

    def start_together(self, answers: Sequence[Work]) -> list[Run]:
        """Start the runs of one request, each in a thread of its own; when one fails, all do.

        They go on while the one before them is read, and none is to be repeated, since another may have acted.
        """
        if len(answers) == 1:
            return [self._started(str(uuid4()), answers[0], EventQueue())]
        runs = [self._started(str(uuid4()), answer, EventQueue(ahead=inf), repeatable=False) for answer in answers]
        for run in runs:
            run.task.add_done_callback(lambda task: _fail_together(task, runs))
        return runs

    def _started(
        self, thread_id: str, work: Work, queue: EventQueue, session: Session | None = None, repeatable: bool = True
    ) -> Run:
        run = Run(self, thread_id, work, queue, session, repeatable)
        self._runs[run] = None
        run.task.add_done_callback(lambda _: self._forget(run))
        return run

    def __len__(self) -> int:
        return len(self._runs)

    def in_sessions_of(self, principal: str) -> list[Run]:
        """Return the runs in a principal's sessions, the one that was started last first."""
        return [run for run in reversed(self._runs) if run.session and run.session.principal == principal]

    def of(self, thread_id: str) -> list[Run]:
        """Return the runs of a thread: the one in progress, and those that wait for its end."""
        return [run for run in self._runs if run.thread_id == thread_id]

    def stop_first(self, thread_id: str, told: ApiError) -> Run | None:
        """Stop the run in progress in a thread, and return it, if there is one; its reader is told why."""
        for run in self.of(thread_id)[:1]:
            run.stop(told)
            return run
        return None

    def stop_all(self) -> None:
        """Stop every run; their readers are told."""
        for run in self._runs:
            run.stop()

    async def aclose(self) -> None:
        """Stop every run and wait for their ends."""
        self.stop_all()
        await asyncio.gather(*(run.aclose() for run in list(self._runs)))

    def _forget(self, run: Run) -> None:
        del self._runs[run]
        run.log_failure()


def _fail_together(task: asyncio.Task[None], runs: Sequence[Run]) -> None:
    if not task.cancelled() and (error := task.exception()):
        for run in runs:
            run.stop(as_api_error(error))
