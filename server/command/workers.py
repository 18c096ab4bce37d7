"""Several server processes that listen on one address: API_WORKERS. One that dies is started again."""

import logging
import logging.config
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from types import FrameType

import uvicorn
from uvicorn.config import LOGGING_CONFIG, STARTUP_FAILURE

from server.command.imports import light_imports
from server.command.systemd import READY, STOPPING, notify
from server.http.logs import log_config
from server.settings import ServerSettings

log = logging.getLogger(__name__)

Serve = Callable[[ServerSettings, socket.socket, bool, Callable[[], None]], None]
"""Serves on a socket until told to stop. Takes whether it is the first worker, and what to call when it is ready."""

PROCESSES = multiprocessing.get_context("spawn")
# Seconds between two looks at what there is to do, and before a worker that died is started again.
LOOK, PAUSE = 0.2, 1.0


def run_workers(settings: ServerSettings, serve: Serve) -> int:
    """Run the workers until told to stop, and return the status to end with."""
    logging.config.dictConfig(log_config(LOGGING_CONFIG))
    config = uvicorn.Config("", host=settings.api_host, port=settings.api_port, log_config=None)
    with config.bind_socket() as listener:
        return Workers(settings, serve, listener).run()


class Workers:
    """The workers and the signals that are passed on to them."""

    def __init__(self, settings: ServerSettings, serve: Serve, listener: socket.socket) -> None:
        self._settings, self._serve, self._listener = settings, serve, listener
        self._signals: list[int] = []
        self._is_ending, self._status = False, 0
        self._workers: list[SpawnProcess] = []
        self._start_at: list[float] = []
        """When workers are started again, by `time.monotonic`."""
        self._told, self._tell_ready = PROCESSES.Pipe(duplex=False)
        self._ready, self._were_ready = 0, False

    def run(self) -> int:
        """Run them until all have ended, and return the status to end with."""
        reads_keys = self._settings.api_keys_file and not sys.stdin.isatty()
        for number in (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if reads_keys else ())):
            signal.signal(number, self._note)
        self._workers = [self._started(is_first=not number) for number in range(self._settings.api_workers)]
        while self._workers or (self._start_at and not self._is_ending):
            connection.wait([self._told, *(worker.sentinel for worker in self._workers)], timeout=LOOK)
            while self._signals:
                self._pass_on(self._signals.pop(0))
            while self._told.poll():
                self._told.recv()
                self._note_ready()
            for dead in [worker for worker in self._workers if not worker.is_alive()]:
                self._workers.remove(dead)
                self._note_end(dead)
            while self._start_at and not self._is_ending and self._start_at[0] <= time.monotonic():
                self._start_at.pop(0)
                self._workers.append(self._started())
        return self._status

    def _started(self, *, is_first: bool = False) -> SpawnProcess:
        given = (pickle.dumps(self._serve), self._settings, self._listener, is_first, self._tell_ready)
        worker = PROCESSES.Process(target=work, args=given)
        # Ctrl-C at the terminal is for the parent: a worker begins with it blocked, until it has left the group.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return worker

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _note_ready(self) -> None:
        self._ready += 1
        if self._ready == self._settings.api_workers:
            self._were_ready = True
            notify(READY)

    def _pass_on(self, number: int) -> None:
        """Let SIGTERM or Ctrl-C end the workers in order, and again at once; SIGHUP lets them read their keys again."""
        if number == signal.SIGHUP:
            self._tell(signal.SIGHUP)
            return
        self._tell(signal.SIGINT if self._is_ending else signal.SIGTERM)
        self._end()

    def _end(self) -> None:
        self._is_ending = True
        self._listener.close()  # with the workers' own, so that new connections are refused and not left waiting
        notify(STOPPING)

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid and worker.is_alive():
                os.kill(worker.pid, number)

    def _note_end(self, dead: SpawnProcess) -> None:
        if self._is_ending:
            return
        if dead.exitcode == STARTUP_FAILURE and not self._were_ready:
            log.error("A worker cannot start; the server ends.")
            self._status = 1
            self._tell(signal.SIGTERM)
            self._end()
            return
        log.error("A worker ended with status %s. It is started again.", dead.exitcode)
        self._start_at.append(time.monotonic() + PAUSE)


def work(
    pickled: bytes, settings: ServerSettings, listener: socket.socket, is_first: bool, ready: connection.Connection
) -> None:
    """Serve in a worker's process, which ends with its parent; what serves is imported here, with its modules."""
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.pop("NOTIFY_SOCKET", None)  # the parent speaks to systemd
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=[parent.sentinel], daemon=True).start()
    with light_imports():
        serve: Serve = pickle.loads(pickled)  # noqa: S301 - by our own parent
    serve(settings, listener, is_first, partial(ready.send, True))


def _end_after(parent: int) -> None:
    connection.wait([parent])
    os.kill(os.getpid(), signal.SIGTERM)
