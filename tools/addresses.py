"""Addresses of HTTP servers: what is one, and which are on this machine."""

import httpx


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
