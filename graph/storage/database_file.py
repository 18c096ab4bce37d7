"""The file of a SQLite database: locked for one process, and checked to be still the file that was opened."""

import errno
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

# Errors of file systems without locks, such as some network ones.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class DatabaseInUse(Exception):
    """Another process uses the database; the message says what to do."""


class DatabaseMoved(Exception):
    """The opened file is no longer at its path, so anything written to it would be lost."""


class DatabaseFile:
    """The files of an open database, as they were when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        # SQLite keeps its log, where new turns are at first, beside the file that a symbolic link leads to.
        self._log = Path(f"{self._path.resolve()}-wal")
        self._opened = self._identities()

    def check(self) -> None:
        """Check that the same files are still there, by asking the file system, without opening them.

        Opening and closing the file would take SQLite's own locks on it away from this process.

        Raises:
            DatabaseMoved: they were deleted, moved away or replaced.
        """
        if self._identities() != self._opened:
            raise DatabaseMoved(
                f"The database file {self._path.name} was deleted, moved or replaced while the server was running. "
                "Put it back, or restart the server."
            )

    def _identities(self) -> list[tuple[int, int] | None]:
        return [_identity(self._path), _identity(self._log)]


def make_private(path: Path) -> None:
    """Make the folder and an empty file that only its owner may read, unless they exist.

    An existing file is not opened: to close it would take SQLite's locks on it away from this process.

    Raises:
        OSError: it cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path.resolve(), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if sys.platform != "win32" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        _tell_of_other_readers(path, mode)


@cache  # it is opened several times
def _tell_of_other_readers(path: Path, mode: int) -> None:
    log.warning("%s can be read by other users (mode %o). Run: chmod 600 %s", path, mode, path)


@contextmanager
def used_alone(path: Path) -> Iterator[None]:
    """Keep other processes from using a database; this process may enter it again.

    Only within one process does each session have one run at a time. The lock is on a file beside the database, since
    SQLite locks the database itself; the system releases it when the process ends, in whatever way.

    Raises:
        DatabaseInUse: another process has the lock.
        OSError: the file of the lock cannot be made.
    """
    lock = FileLock(
        f"{path.resolve()}.lock",
        timeout=0,
        mode=0o600,
        thread_local=False,
        is_singleton=True,
        fallback_to_soft=False,
        preserve_lock_file=True,
    )
    try:
        lock.acquire()
    except Timeout as error:
        raise DatabaseInUse(
            f"{path} is in use by another process. Stop that one (`chat-agent serve`, `chat-agent demo` or "
            "`make studio`), or set CHECKPOINT_URL to another file for this one."
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("The file system of %s has no locks; see to it that no other process uses the file.", path)
    try:
        yield
    finally:
        lock.release()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
