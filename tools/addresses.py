"""Addresses of HTTP servers: checked, and those on this machine."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # half a second of imports, which `--help` does without
    import httpx

# Mounts of an httpx client: servers on loopback are not asked through a proxy, even if NO_PROXY does not list them.
NO_PROXY_ON_LOOPBACK: Mapping[str, None] = {"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None}


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host."""
    try:
        return host == "localhost" or ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:  # another name
        return False


def http_address(text: str) -> "httpx.URL":
    """Return the address.

    Raises:
        ValueError: it is not an address; the message does not repeat it, since it may contain a password.
    """
    import httpx

    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("it is not an http or https address")
    return url
