"""Check the address that a server will listen on, before the start."""

import errno
import socket

# What to do about an address that cannot be listened on, by the reason.
ADVICE = {
    errno.EADDRINUSE: "another program listens there; end it, or set {port} to another port",
    errno.EACCES: "ports below 1024 are for root; set {port} to another port",
    errno.EADDRNOTAVAIL: "it is no address of this machine; set {host} to 127.0.0.1, or to 0.0.0.0 for all of them",
}
UNKNOWN_NAME = (
    "ERROR: {host} is {name!r}, a name that this machine does not know; set {host} to 127.0.0.1 or to 0.0.0.0."
)


class AddressError(Exception):
    """It is not possible to listen there; the message says what to do."""


def require_free_address(host: str, port: int, *, of: str) -> None:
    """Check that it is possible to listen on the address.

    Args:
        host: Its host, by name or number.
        port: Its port.
        of: What the names of its settings begin with, `API` or `MCP`.

    Raises:
        AddressError: it is not; the message names the setting to change.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressError(UNKNOWN_NAME.format(host=f"{of}_HOST", name=host)) from error
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise AddressError(refusal(host, port, error, of)) from error


def refusal(host: str, port: int, error: OSError, of: str) -> str:
    """Return why it is not possible to listen on an address, and which setting to change."""
    reason = (error.strerror or str(error)).lower()
    advice = ADVICE.get(error.errno or 0, "set {host} and {port} to an address of this machine")
    what_to_do = advice.format(host=f"{of}_HOST", port=f"{of}_PORT")
    return f"ERROR: {host}:{port} cannot be used: {reason}; {what_to_do}."
