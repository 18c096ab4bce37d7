"""Which MCP servers there are: the bundled one, an address, or a file in the form that other MCP hosts read.

The files of Claude Desktop, Claude Code, Cursor, Windsurf, Cline and Gemini CLI have their servers under `mcpServers`,
those of VS Code under `servers`; their entries differ in small ways, and all of these are understood.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from tools.bundled.settings import ToolSettings
from tools.mcp.entry import server_spec
from tools.mcp.spec import HttpAddress, ServerSpec, StdioAddress
from tools.mcp.variables import Variables, workspace_of

PROJECT = Path(__file__).parents[2]
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
BUNDLED_WAIT = 10.0

COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', re.DOTALL)

# Where a host's file has its servers.
PLACES = (("mcpServers",), ("servers",), ("mcp", "servers"), ("mcp", "mcpServers"), ("context_servers",))
# opencode has its servers directly under `mcp`, and names their types so.
OPENCODES = ("local", "remote")


class McpConfigError(ValueError):
    """The file of MCP servers cannot be used; the message says what to change."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"MCP_CONFIG: {reason}")


def bundled_server() -> ServerSpec:
    """Return how to start the bundled server over stdio, with the settings and proxies that it may see."""
    passed_on = (*(name.upper() for name in ToolSettings.model_fields), *PROXY_VARIABLES)
    environment = {name: value for name, value in os.environ.items() if name.upper() in passed_on}
    address = StdioAddress(
        command=sys.executable,
        # Import our package, not a folder "tools" in the user's working directory.
        args=("-P", "-m", "tools.bundled.server"),
        env=environment | {"PYTHONPATH": str(PROJECT)},
    )
    return ServerSpec(address=address, first_wait=BUNDLED_WAIT)


def http_server(url: str, *, verify_ssl: bool) -> ServerSpec:
    """Return the server at an address.

    Raises:
        ValueError: it is not an address of a server.
    """
    return ServerSpec(address=HttpAddress(url=url, verify_ssl=verify_ssl))


def load_servers(path: Path, *, verify_ssl: bool) -> dict[str, ServerSpec]:
    """Read a host's file of servers, with variables from the environment or `.env`.

    An unusable entry stays in the result with the reason, so that one mistake does not disable the other servers.

    Raises:
        McpConfigError: the file cannot be read, or has no servers in it.
    """
    document = _read(path)
    variables = Variables(
        environment={**dotenv_values(".env"), **os.environ}, inputs=_inputs(document), folder=workspace_of(path)
    )
    entries = _entries(document)
    if entries is None:
        raise _wrong_form(path)
    return {
        name: server_spec(entry, name=name, variables=variables, verify_ssl=verify_ssl)
        for name, entry in entries.items()
        if not _is_off(entry)
    }


def parse_json(text: str) -> Any:
    """Parse JSON that may have comments and trailing commas, as editors' settings do.

    Raises:
        ValueError: it is not JSON even then.
    """
    without_comments = COMMENT.sub(lambda match: match[1] or " ", text)
    return json.loads(TRAILING_COMMA.sub(lambda match: match[1] or "", without_comments))


def _read(path: Path) -> Any:
    try:
        content = path.read_bytes()
        return parse_json(content.decode(json.detect_encoding(content)).removeprefix("\ufeff"))
    except OSError as error:
        raise McpConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise _wrong_form(path) from error


def _wrong_form(path: Path) -> McpConfigError:
    return McpConfigError(f'{path} must be JSON of the form {{"mcpServers": {{…}}}}.')


def _entries(document: Any) -> dict[str, Any] | None:
    """Return the servers of a document, from wherever a host has them; None if it has no place for them."""
    found = [servers for place in PLACES if isinstance(servers := _at(document, place), dict)]
    if opencodes := {name: entry for name, entry in _items(_at(document, ("mcp",))) if _type(entry) in OPENCODES}:
        found.append(opencodes)
    return {name: entry for servers in found for name, entry in servers.items()} if found else None


def _at(document: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _type(entry: Any) -> Any:
    return entry.get("type") if isinstance(entry, dict) else None


def _inputs(document: Any) -> Mapping[str, str]:
    """Return the defaults of what VS Code would ask its user for."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    return {
        str(entry["id"]): entry["default"]
        for entry in (inputs if isinstance(inputs, list) else ())
        if isinstance(entry, dict) and "id" in entry and isinstance(entry.get("default"), str)
    }


def _is_off(entry: Any) -> bool:
    return isinstance(entry, dict) and (bool(entry.get("disabled")) or entry.get("enabled") is False)
