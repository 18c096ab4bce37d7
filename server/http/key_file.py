"""The keys that the settings name: in API_KEYS, and in a file with a table for each.

[mina]
key = "…"                     # or sha256 = "…"
requests_per_minute = 60      # each of these may be left out
tokens_per_minute = 100_000
runs_at_once = 4
stored_bytes = 1_000_000_000
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.http.keys import HASHED, Key, load_key, plain_key

LIMITS = ("requests_per_minute", "tokens_per_minute", "runs_at_once", "stored_bytes")


class KeysError(Exception):
    """The keys cannot be used; the message says why."""


def configured_keys(given: Sequence[str], path: Path | None, limits: Mapping[str, int]) -> list[Key]:
    """Return the keys that are given, and those of the file; the limits are for those that have none of their own.

    Raises:
        KeysError: the file cannot be read, or something in it is wrong.
    """
    keys = [load_key(key) for key in given] + (_keys_in(path) if path else [])
    return [_with_limits(key, limits) for key in keys]


def _with_limits(key: Key, limits: Mapping[str, int]) -> Key:
    missing: dict[str, Any] = {name: most for name, most in limits.items() if most and getattr(key, name) is None}
    return replace(key, **missing)


def _keys_in(path: Path) -> list[Key]:
    try:
        keys = list(_load(tomllib.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise KeysError(f"API_KEYS_FILE: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # tomllib's too, whose words show the place and not the text
        raise KeysError(f"API_KEYS_FILE: {path}: {error}.") from error
    if not keys:  # it would open the server to everybody
        raise KeysError(f"API_KEYS_FILE: {path} has no keys.")
    return keys


def _load(tables: Mapping[str, object]) -> Iterator[Key]:
    for name, table in tables.items():
        if not isinstance(table, dict) or table.keys() - {"key", "sha256", *LIMITS}:
            raise ValueError(f"[{name}] may have key or sha256, {', '.join(LIMITS)}, and nothing else")
        limits = {limit: table[limit] for limit in LIMITS if limit in table}
        if any(type(most) is not int or most < 1 for most in limits.values()):
            raise ValueError(f"the limits of [{name}] are numbers from 1")
        match table.get("key"), table.get("sha256"):
            case str(key), None if key:
                known = plain_key(key, name)
            case None, str(digest):
                known = load_key(HASHED + digest, name)
            case _:
                raise ValueError(f"[{name}] needs a key or a sha256, as text")
        yield replace(known, **limits)
