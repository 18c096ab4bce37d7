"""How long a conversation the embedded model can hold, by the memory that is free."""

import os
from collections.abc import Mapping
from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30

# Free memory that each window needs: the model (2 GiB), two windows, a cache of that size, and room for the rest.
WINDOWS: Mapping[int, int] = {16_384: 6 * GIB, 8_192: 4 * GIB, 4_096: 0}
TOKEN = 28 << 10  # bytes
NO_LIMIT = 1 << 62

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def window_for(free: int) -> int:
    """Return how many tokens a request may have, prompt and answer together, where so many bytes are free."""
    return next(window for window, needed in WINDOWS.items() if free >= needed)


def free_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Return how many bytes of memory a new process may take, a container's limit included.

    Where the system does not tell what is available (macOS), half of all memory counts as free.
    """
    try:
        available = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(int(available.split()[1]) << 10, _left_in_container(cgroup))


def _left_in_container(cgroup: Path) -> int:
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        details = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return limit - used + int(details["inactive_file"])  # cached files, such as the model's, can be dropped
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return NO_LIMIT
