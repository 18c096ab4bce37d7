"""How long work takes a server, without the time in which it had no processor: other tests run beside this one."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

NANOSECOND = 1e-9


def seconds_of(work: Callable[[], object], process_id: int) -> float:
    """Do some work that a server answers, and return how long that took.

    Time in which a thread of the server, or the caller's, was ready and got no processor is the machine's, and does not
    count.
    """

    def waited() -> dict[Path, float]:
        own = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}")
        return waits([own, *threads_of(process_id)])

    before, began = waited(), time.perf_counter()
    work()
    elapsed = time.perf_counter() - began
    return elapsed - longest_wait(before, waited())


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
