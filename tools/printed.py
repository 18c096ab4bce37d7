"""Text of others: escaped for a log or a terminal, and without secrets. Pure."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_plus, urlsplit

# All that moves the cursor, ends a line, or makes a terminal act; not the blank and the tab.
CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Shorter ones are words that texts have anyway.
SHORTEST_SECRET = 6


def without(secrets: Iterable[str], text: str) -> str:
    """Return a text with "…" for each secret in it."""
    for secret in sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def secrets_of_url(text: str) -> Iterator[str]:
    """Yield the password and the values of the query of an address, as they are written and as they are meant."""
    try:
        parts = urlsplit(text.partition("=")[2] if text.startswith("-") else text)
    except ValueError:
        return
    if not parts.scheme or not parts.netloc:
        return
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    for value in (password or user, *(pair.partition("=")[2] for pair in parts.query.split("&"))):
        yield from (value, unquote_plus(value))


def printable(text: str) -> str:
    """Return a text in which control characters, line ends and changes of direction are written as escapes."""
    return text if text.isprintable() else CONTROLS.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()
