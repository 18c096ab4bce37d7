"""Several server processes that listen on one address: API_WORKERS. One that dies is started again."""

import logging
import logging.config
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from types import FrameType

import uvicorn
from uvicorn.config import LOGGING_CONFIG, STARTUP_FAILURE

from server.http.logs import log_config
from server.settings import ServerSettings

log = logging.getLogger(__name__)

Serve = Callable[[ServerSettings, socket.socket, bool], None]
"""Serves on a socket until told to stop; the first worker says where everything is. In the worker's process."""

PROCESSES = multiprocessing.get_context("spawn")
# Seconds between two looks at signals, and before a worker that died is started again.
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

    def run(self) -> int:
        """Run them until all have ended, and return the status to end with."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)
        self._workers = [self._started(is_first=not number) for number in range(self._settings.api_workers)]
        while self._workers:
            connection.wait([worker.sentinel for worker in self._workers], timeout=LOOK)
            while self._signals:
                self._pass_on(self._signals.pop(0))
            for dead in [worker for worker in self._workers if not worker.is_alive()]:
                self._workers.remove(dead)
                self._replace(dead)
        return self._status

    def _started(self, *, is_first: bool = False) -> SpawnProcess:
        worker = PROCESSES.Process(target=work, args=(self._serve, self._settings, self._listener, is_first))
        worker.start()
        return worker

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _pass_on(self, number: int) -> None:
        """Let SIGTERM or Ctrl-C end the workers in order, and again at once; SIGHUP lets them read their keys again."""
        if number == signal.SIGHUP:
            self._tell(signal.SIGHUP)
            return
        self._tell(signal.SIGINT if self._is_ending else signal.SIGTERM)
        self._is_ending = True

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid and worker.is_alive():
                os.kill(worker.pid, number)

    def _replace(self, dead: SpawnProcess) -> None:
        if self._is_ending:
            return
        if dead.exitcode == STARTUP_FAILURE:
            log.error("A worker cannot start; the server ends.")
            self._is_ending, self._status = True, 1
            self._tell(signal.SIGTERM)
            return
        log.error("A worker ended with status %s. It is started again.", dead.exitcode)
        time.sleep(PAUSE)
        self._workers.append(self._started())


def work(serve: Serve, settings: ServerSettings, listener: socket.socket, is_first: bool) -> None:
    """Serve in a worker's process, which ends with its parent."""
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for the parent, which passes it on
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=[parent.sentinel], daemon=True).start()
    serve(settings, listener, is_first)


def _end_after(parent: int) -> None:
    connection.wait([parent])
    os.kill(os.getpid(), signal.SIGTERM)
