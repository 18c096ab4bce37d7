"""How many files and connections may be open at once."""

import sys
from contextlib import suppress

# macOS allows no more.
WANTED = 10_240
# Files that are no connections: the database, logs, pipes of MCP servers.
OTHERS = 64


def allow_files() -> None:
    """Raise the limit on open files: a stream has two connections, and macOS begins with 256 files."""
    if sys.platform == "win32":
        return
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if most == resource.RLIM_INFINITY else min(WANTED, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def most_connections() -> int:
    """Return how many clients may be connected: each stream has a connection to the model endpoint too."""
    if sys.platform == "win32":
        return WANTED // 2
    import resource

    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = WANTED if now == resource.RLIM_INFINITY else min(now, WANTED)
    return max(files - OTHERS, 2) // 2
