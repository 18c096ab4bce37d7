"""Which MCP servers there are, as connections that langchain-mcp-adapters can open.

The file form is the one that other MCP hosts read: {"mcpServers": {"name": {"command": …} or {"url": …}}}.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values
from langchain_mcp_adapters.sessions import Connection

from tools.addresses import NO_PROXY_ON_LOOPBACK, http_address
from tools.settings import ToolSettings

PROJECT = Path(__file__).parents[1]
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
GOODBYE_TIMEOUT = 2.0
HTTP_TRANSPORTS = ("http", "streamable_http", "streamable-http")


class McpConfigError(ValueError):
    """The file of MCP servers cannot be used; the message says what to change."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"MCP_CONFIG: {reason}")


def bundled_connection() -> Connection:
    """Return how to start the bundled server over stdio, with the settings and proxies that it may see."""
    passed_on = (*(name.upper() for name in ToolSettings.model_fields), *PROXY_VARIABLES)
    environment = {name: value for name, value in os.environ.items() if name.upper() in passed_on}
    return {
        "transport": "stdio",
        "command": sys.executable,
        # Our package, not a folder "tools" that happens to be where the user works.
        "args": ["-P", "-m", "tools.mcp_server"],
        "env": environment | {"PYTHONPATH": str(PROJECT)},
    }


def http_connection(url: str, *, verify_ssl: bool, headers: Mapping[str, str] | None = None) -> Connection:
    """Return the connection to a streamable HTTP server; an address without a path means `/mcp`.

    Raises:
        ValueError: it is no address of one.
    """
    parsed = http_address(url)
    return {
        "transport": "streamable_http",
        "url": str(parsed.copy_with(path="/mcp") if parsed.path in ("", "/") else parsed),
        "headers": dict(headers or {}),
        "httpx_client_factory": partial(_http_client, verify_ssl),
    }


def load_connections(path: Path, *, verify_ssl: bool) -> dict[str, Connection]:
    """Read the `mcpServers` of a JSON file, with variables from the environment or `.env`.

    Raises:
        McpConfigError: the file cannot be read, or an entry is not a server.
    """
    try:
        servers = json.loads(path.read_text(encoding="utf-8"))["mcpServers"]
        entries = dict(servers.items())
    except OSError as error:
        raise McpConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise McpConfigError(f'{path} must be JSON of the form {{"mcpServers": {{…}}}}.') from error
    environment = {**dotenv_values(".env"), **os.environ}
    return {
        name: _connection(name, _expanded(entry, name, environment), verify_ssl)
        for name, entry in entries.items()
        if not (isinstance(entry, dict) and entry.get("disabled"))
    }


def _connection(name: str, entry: Any, verify_ssl: bool) -> Connection:
    try:
        return _opened_with(entry, name, verify_ssl)
    except McpConfigError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise McpConfigError(f"MCP server {name!r} cannot be used: {error}.") from error


def _opened_with(entry: Any, name: str, verify_ssl: bool) -> Connection:
    match entry:
        case {"command": str(command)}:
            return {
                "transport": "stdio",
                "command": command,
                "args": [str(argument) for argument in entry.get("args") or ()],
                "env": {key: str(value) for key, value in (entry.get("env") or {}).items()},
                "cwd": entry.get("cwd"),
            }
        case {"url": str(url)} if entry.get("type", entry.get("transport", "http")) in HTTP_TRANSPORTS:
            headers = {key: str(value) for key, value in (entry.get("headers") or {}).items()}
            return http_connection(url, verify_ssl=verify_ssl, headers=headers)
        case _:
            raise McpConfigError(f'MCP server {name!r} needs a "command" (stdio) or a "url" (streamable HTTP).')


def _expanded(value: Any, server: str, environment: Mapping[str, str | None]) -> Any:
    """Replace ${NAME} and ${NAME:-default} by the environment's values, everywhere in an entry."""

    def replacement(match: re.Match[str]) -> str:
        found = environment.get(match["name"], match["default"])
        if found is None:
            raise McpConfigError(f"MCP server {server!r} needs the environment variable {match['name']}.")
        return found

    match value:
        case str():
            return VARIABLE.sub(replacement, value)
        case list():
            return [_expanded(item, server, environment) for item in value]
        case dict():
            return {key: _expanded(item, server, environment) for key, item in value.items()}
        case _:
            return value


def _http_client(
    verify_ssl: bool,
    headers: dict[str, str] | None = None,
    timeout: httpx.Timeout | None = None,
    auth: httpx.Auth | None = None,
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=verify_ssl,
        headers=headers,
        timeout=timeout,
        auth=auth,
        mounts=NO_PROXY_ON_LOOPBACK,
        event_hooks={"request": [_hurry_goodbye]},
    )


async def _hurry_goodbye(request: httpx.Request) -> None:
    """Bound the DELETE that ends a session: a server that hangs must not keep the agent from ending."""
    if request.method == "DELETE":
        request.extensions["timeout"] = httpx.Timeout(GOODBYE_TIMEOUT).as_dict()
