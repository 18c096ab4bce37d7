"""Keep other sites' web pages out of a server that needs no key.

A page that its user merely visits may send requests to this machine. It is told apart by what the browser says of it
(`Origin`, `Sec-Fetch-Site`), or, if its name was pointed at this machine (DNS rebinding), by the name in `Host`.
curl, SDKs and other programs send neither, and name a host of this machine.
"""

import re
import socket
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import ApiError, InvalidRequest
from server.http.error_handlers import error_response

ANY = "*"
READING = ("GET", "HEAD", "OPTIONS")
# Whoever watches the server may ask for this under any name, or none.
OPEN = "/health"
POLICY_VIOLATION = 1008
# Names that every machine has; the others are what containers of Docker and Podman call the machine that they run on.
EVERYWHERE = ("localhost", "host.docker.internal", "host.containers.internal")


class SiteGuard:
    """Pure ASGI middleware that refuses requests to foreign hosts (421), and changes by foreign pages (403).

    Args:
        app: what is guarded.
        hosts: the names under which the server may be asked; `*.example.com` are all below one, `*` all there are.
            Addresses are always allowed: no page's name is one.
        origins: the origins of other pages that may change something, see `matching`.
        needs_key: whether every request needs a key, which a foreign page has not.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: re.Pattern[str], needs_key: bool) -> None:
        self._app, self._hosts, self._origins, self._needs_key = app, hosts, origins, needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or scope["path"] == OPEN:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope.get("method", ""), Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await error_response(refusal)(scope, receive, send)
        else:  # a WebSocket, which browsers open to any server
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    def _refusal(self, method: str, headers: Headers) -> ApiError | None:
        if ANY not in self._hosts:
            given = headers.getlist("host")
            host = host_name(given[0]) if len(given) == 1 else None
            if host is None:
                return InvalidRequest("The request must name its host, once: 'Host: localhost'.", code="invalid_host")
            if not is_named(host, self._hosts):
                return foreign_host(host)
        origin = headers.get("origin", "")
        if self._needs_key or method in READING or from_own_page(headers) or self._origins.fullmatch(origin):
            return None
        return foreign_page(origin)


def from_own_page(headers: Headers) -> bool:
    """Say whether a request is not from another site's page: from a page of ours, a typed address, or a program.

    SameSite stops other sites alone, and another port of the same host is the same site.
    """
    if site := headers.get("sec-fetch-site"):  # sent over https and to localhost
        return site in ("same-origin", "none")
    origin = headers.get("origin")  # sent with all but GET
    try:
        return origin is None or urlsplit(origin).netloc == headers.get("host")
    except ValueError:  # it is none
        return False


def matching(origins: Sequence[str]) -> re.Pattern[str]:
    """Return the pattern of these origins; `*` are all there are."""
    return re.compile("|".join(".*" if origin == ANY else re.escape(origin) for origin in origins) or "(?!)")


def own_names(api_host: str) -> Collection[str]:
    """Return the names of this machine: those that every machine has, its own, and the one it listens on."""
    machine = socket.gethostname().lower()
    return {*EVERYWHERE, machine, f"{machine}.local", api_host.lower()}


def host_name(host: str) -> str | None:
    """Return the name or address in a Host header, without its port; None if it is not valid."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises if it is none
    except ValueError:
        return None
    is_alone = parts.netloc == host and "@" not in host and " " not in host and host.isprintable()
    return parts.hostname if is_alone else None


def is_named(host: str, names: Collection[str]) -> bool:
    """Say whether a host is an address, or one of the names."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        host = host.removesuffix(".")
        above = (f"*.{host.split('.', at)[-1]}" for at in range(1, host.count(".") + 1))
        return host in names or host.endswith(".localhost") or any(pattern in names for pattern in above)
    return True


def foreign_host(host: str) -> InvalidRequest:
    """Return the error for a host that is not one of the server's."""
    message = f"This server does not answer for the host {host[:100]!r}. If it is one of its names, add it to "
    return InvalidRequest(f"{message}ALLOWED_HOSTS, or set API_KEYS.", code="host_not_allowed", status=421)


def foreign_page(origin: str) -> InvalidRequest:
    """Return the error for a request of another site's page."""
    page = f"A web page of {origin[:100]!r}" if origin else "A web page of another site"
    message = f"{page} may not change anything on a server without keys. Add its origin to CORS_ORIGINS, or set "
    return InvalidRequest(f"{message}API_KEYS.", code="cross_site_request", status=403)
