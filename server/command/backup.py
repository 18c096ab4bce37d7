"""Copy a SQLite database while a server uses it."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path


class BackupError(Exception):
    """There is no copy; the message says why."""


@dataclass(frozen=True)
class Backup:
    """A copy: what is in it, and its bytes."""

    path: Path
    sessions: int
    turns: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.sessions} sessions, {self.turns} turns, {self.size:,} bytes"


def back_up(database: Path, to: Path) -> Backup:
    """Copy a database as it is at one moment, and check the copy; turns go on to be stored meanwhile.

    The copy is for its owner alone, and has its name only once it is whole.

    Raises:
        BackupError: there is no such database, something has the copy's name, or it cannot be written.
    """
    if not database.is_file():
        raise BackupError(f"There is no database {database}. Is CHECKPOINT_URL right?")
    if to.exists():
        raise BackupError(f"{to} exists already. Choose another name.")
    part = to.with_name(f"{to.name}.part")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            [(checked,)] = target.execute("PRAGMA integrity_check(1)")
            if checked != "ok":
                raise BackupError(f"The copy of {database} is damaged, and so is that database: {checked}.")
            sessions, turns = (_count(target, table) for table in ("sessions", "turns"))
        os.link(part, to)  # unlike a move, it replaces nothing
        return Backup(to, sessions, turns, to.stat().st_size)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"{database} cannot be copied to {to}: {getattr(error, 'strerror', None) or error}."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _count(database: sqlite3.Connection, table: str) -> int:
    (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)
