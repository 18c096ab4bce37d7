"""Whether a server goes on answering while something else is done to it."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.support.agent_server import AgentServer

# Seconds in which /health answers, whatever else is done to the server.
BOUND = 0.25
PAUSE = 0.01
NANOSECOND = 1e-9


@contextmanager
def responsive(server: AgentServer, within: float = BOUND) -> Iterator[None]:
    """Fail if /health does not answer in time, at any moment until this ends.

    Time in which a thread of the server, or the client's, was ready and got no processor is the machine's, and does
    not count: other tests run beside this one.
    """
    done, took = threading.Event(), list[float]()

    def waited() -> dict[Path, float]:
        own = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}")
        return waits([own, *threads_of(server.process_id)])

    def probe() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while True:
                before, began = waited(), time.perf_counter()
                assert client.get("/health").is_success
                elapsed = time.perf_counter() - began
                took.append(elapsed - longest_wait(before, waited()))
                if done.wait(PAUSE):
                    return

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield
    finally:
        done.set()
        prober.join()
    assert took, "/health did not answer"
    assert max(took) < within, f"/health took {max(took):.3f} s"


def threads_of(process_id: int) -> Iterator[Path]:
    """Yield the threads of a process, as Linux names them."""
    return Path(f"/proc/{process_id}/task").iterdir()


def waits(threads: Iterable[Path]) -> dict[Path, float]:
    """Return for how many seconds each thread has been ready without a processor, since it began.

    The second field of `schedstat`, in nanoseconds, says it (Documentation/scheduler/sched-stats.rst).
    """
    waited = {}
    for thread in threads:
        with suppress(FileNotFoundError):  # it has ended
            waited[thread] = int((thread / "schedstat").read_text().split()[1]) * NANOSECOND
    return waited


def longest_wait(before: dict[Path, float], after: dict[Path, float]) -> float:
    """Return the longest wait of one thread between two readings: waits of several overlap, so they are not added."""
    return max(waited - before.get(thread, 0) for thread, waited in after.items())
