"""API keys, and the passes that browsers get for them. Pure except for the clock.

A browser's pages cannot send a key, so it logs in with one and keeps a pass in a cookie: an expiry, signed with the
key. The server stores no passes; removing a key also ends its passes.
"""

import hmac
import time
from collections.abc import Sequence
from hashlib import sha256

PASS_SECONDS = 7 * 24 * 60 * 60


class Keys:
    """The configured keys, and the passes signed with them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = {sha256(key.encode()).digest(): key.encode() for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def principal(self, key: str) -> str | None:
        """Return the principal of a key, if it is one of ours."""
        digest = sha256(key.encode()).digest()
        # Every key is compared, so that the time does not tell which one is close.
        same = [known for known in self._keys if hmac.compare_digest(digest, known)]
        return same[0].hex() if same else None

    def make_pass(self, key: str, *, seconds: int = PASS_SECONDS) -> str:
        """Return a pass for the holder of a key, which is good for so many seconds."""
        expiry = str(int(time.time()) + seconds)
        return f"{expiry}.{_signature(key.encode(), expiry)}"

    def holder(self, given: str) -> str | None:
        """Return the principal whose pass it is, if it is one of ours and has not expired."""
        expiry, _, signature = given.partition(".")
        signed = [
            digest
            for digest, key in self._keys.items()
            if hmac.compare_digest(_signature(key, expiry).encode(), signature.encode())
        ]
        return signed[0].hex() if signed and int(expiry) > time.time() else None


def _signature(key: bytes, expiry: str) -> str:
    # With the key itself, not with its digest: the database holds that, as the name of the principal.
    return hmac.new(key, f"chat-agent pass until {expiry}".encode(), sha256).hexdigest()
