"""API keys, and the passes that browsers get for them. Pure except for the clock.

A browser's pages cannot send a key, so it logs in with one and keeps a pass in a cookie: an expiry, signed with the
key. The server stores no passes; removing a key also ends its passes.
"""

import hmac
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from hashlib import sha256

PASS_SECONDS = 7 * 24 * 60 * 60
HASHED = "sha256:"
NAMED = re.compile(r"([A-Za-z0-9_.@-]{1,64}):(.+)", re.DOTALL)
DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Key:
    """A key, or its hash, the name by which logs and metrics call its holder, and what the holder may do."""

    digest: bytes
    """SHA-256 of the key."""
    secret: bytes
    """What its passes are signed with."""
    given_name: str = ""
    _: KW_ONLY
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    runs_at_once: int | None = None
    stored_bytes: int | None = None

    @property
    def name(self) -> str:
        """Its name; without one the first letters of its hash."""
        return self.given_name or f"key-{self.digest.hex()[:8]}"

    @property
    def is_example(self) -> bool:
        """Whether everybody knows it."""
        return self.digest in KNOWN_TO_ALL

    @property
    def principal(self) -> str:
        """Whose sessions its holder has."""
        return self.digest.hex()


# Keys that everybody knows, as examples have them.
EXAMPLES = (
    "key", "your_key", "your-key", "your_api_key", "your-api-key", "api-key", "apikey", "my-key", "changeme",
    "change-me", "change_me", "secret", "password", "test", "example", "placeholder", "xxx", "sk-xxx", "sk-1234",
    "1234", "admin", "token", "none", "default", "sk-your-key", "…",
)  # fmt: skip
KNOWN_TO_ALL = frozenset(
    sha256(text.encode()).digest() for key in EXAMPLES for text in (key, key.upper(), key.capitalize())
)

# Signs the passes of keys of which only the hash is known; they end with the process.
PROCESS_SECRET = secrets.token_bytes(32)


def load_key(text: str, name: str = "") -> Key:
    """Return the key in a text: `key`, `name:key`, `sha256:<hash in hex>` or `name:sha256:<hash in hex>`.

    Raises:
        ValueError: the hash is none.
    """
    if not text.startswith(HASHED) and (named := NAMED.fullmatch(text)):
        name, text = named[1], named[2]
    if not text.startswith(HASHED):
        return plain_key(text, name)
    if not DIGEST.fullmatch(given := text.removeprefix(HASHED)):
        raise ValueError("a hash is sha256: and 64 hexadecimal digits")
    digest = bytes.fromhex(given)
    return Key(digest, PROCESS_SECRET + digest, name)


def plain_key(text: str, name: str = "") -> Key:
    """Return the key that is this text."""
    return Key(sha256(text.encode()).digest(), text.encode(), name)


class Keys:
    """The keys that are taken, and the passes signed with them; they can be exchanged while the server runs."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.replace(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Take these keys from now on."""
        self._keys = {key.digest: key for key in keys}

    def of(self, given: str) -> Key | None:
        """Return the key that was given, if it is one of ours."""
        digest = sha256(given.encode()).digest()
        # Every key is compared, so that the time does not tell which one is close.
        same = [key for known, key in self._keys.items() if hmac.compare_digest(digest, known)]
        return same[0] if same else None

    def holder(self, given: str) -> Key | None:
        """Return the key whose pass it is, if it is one of ours and has not expired."""
        expiry, _, signature = given.partition(".")
        signed = [
            key
            for key in self._keys.values()
            if hmac.compare_digest(_signature(key, expiry).encode(), signature.encode())
        ]
        return signed[0] if signed and expiry.isdecimal() and int(expiry) > time.time() else None


def make_pass(key: Key, *, seconds: int = PASS_SECONDS) -> str:
    """Return a pass for the holder of a key, which is good for so many seconds."""
    expiry = str(int(time.time()) + seconds)
    return f"{expiry}.{_signature(key, expiry)}"


def _signature(key: Key, expiry: str) -> str:
    # With the key itself, not with its digest: the database holds that, as the name of the principal.
    return hmac.new(key.secret, f"chat-agent pass until {expiry}".encode(), sha256).hexdigest()
