"""Addresses of HTTP servers: what is one, and which are on this machine."""

from collections.abc import Mapping

import httpx

# Mounts of an httpx client: what listens on loopback is not asked through a proxy, whatever NO_PROXY leaves out.
NO_PROXY_ON_LOOPBACK: Mapping[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}


def http_address(text: str) -> httpx.URL:
    """Return the address.

    Raises:
        ValueError: it is none; the message does not repeat it, since a password may be in it.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("it is not an http or https address")
    return url
