"""One entry of a file of MCP servers, in the form of any host, to a ServerSpec."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values

from tools.mcp.spec import HttpAddress, ServerSpec, StdioAddress, ToolFilter, Unusable
from tools.mcp.variables import UnsetVariableError, Variables

URLS = ("url", "httpUrl", "serverUrl", "endpoint")
HEADERS = ("headers", "http_headers")
ALLOWED = ("allowedTools", "includeTools", "enabledTools", "enabled_tools", "tools")
DISABLED = ("disabledTools", "excludeTools", "disabled_tools")
TRANSPORTS: Mapping[str, Literal["stdio", "http", "sse"]] = {
    "stdio": "stdio",
    "local": "stdio",
    "http": "http",
    "streamablehttp": "http",
    "streamable": "http",
    "remote": "http",
    "sse": "sse",
}
# Cline's timeouts and ours are in seconds, Gemini CLI's in milliseconds; none is longer than an hour.
LONGEST_TIMEOUT = 3600


class EntryError(ValueError):
    """An entry cannot be used as a server; the message says why, as the end of a sentence about it."""


def server_spec(entry: Any, *, name: str, variables: Variables, verify_ssl: bool) -> ServerSpec:
    """Return the server that an entry means; one that cannot be used says why."""
    try:
        return _spec(variables.expanded(entry), verify_ssl=verify_ssl)
    except (UnsetVariableError, EntryError) as error:
        return ServerSpec(address=Unusable(f"MCP_CONFIG: MCP server {name!r} {error}."))
    except (AttributeError, TypeError, ValueError, OSError) as error:
        return ServerSpec(address=Unusable(f"MCP_CONFIG: MCP server {name!r} cannot be used: {error}."))


def _spec(entry: Any, *, verify_ssl: bool) -> ServerSpec:
    if not isinstance(entry, dict):
        raise EntryError('needs a "command" (stdio) or a "url" (HTTP)')
    transport = _transport(entry)
    command, url = _command(entry), next((entry[key] for key in URLS if isinstance(entry.get(key), str)), None)
    address: StdioAddress | HttpAddress
    if command and transport in (None, "stdio"):
        address = _stdio(entry, command)
    elif url is not None and transport != "stdio":
        headers = _texts(_first(entry, HEADERS))
        kind: Literal["http", "sse"] = "sse" if transport == "sse" else "http"
        address = HttpAddress(url=url, headers=headers, verify_ssl=verify_ssl, transport=kind)
    else:
        raise EntryError('needs a "command" (stdio) or a "url" (HTTP)')
    return ServerSpec(address=address, tools=_filter(entry), call_timeout=_timeout(entry))


def _transport(entry: Mapping[str, Any]) -> Literal["stdio", "http", "sse"] | None:
    named = _first(entry, ("type", "transport", "transportType"))
    if named is None:
        return None
    known = TRANSPORTS.get(str(named).lower().replace("-", "").replace("_", ""))
    if known is None:
        raise EntryError(f'has the type {named!r}; it may be "stdio", "http" or "sse"')
    return known


def _command(entry: Mapping[str, Any]) -> Sequence[str]:
    """Return the command with its arguments, which some hosts keep in one list or in an object of their own."""
    match entry.get("command"):
        case str(command) if command:
            return (command, *_arguments(entry.get("args")))
        case {"path": str(command), **nested} if command:
            return (command, *_arguments(nested.get("args")))
        case [str(command), *arguments] if entry.get("type") == "local":
            return (command, *_arguments(arguments))
        case _:
            return ()


def _arguments(arguments: Any) -> list[str]:
    if not isinstance(arguments, list | None):
        raise EntryError('has "args" that are not a list')
    return [_at_home(_text(argument)) for argument in arguments or ()]


def _stdio(entry: Mapping[str, Any], command: Sequence[str]) -> StdioAddress:
    own = _texts(_first(entry, ("env", "environment")) or _own(entry["command"], "env"))
    cwd = entry.get("cwd")
    return StdioAddress(
        command=_at_home(command[0]),
        args=tuple(command[1:]),
        env={**_file_of_variables(entry.get("envFile")), **own},
        cwd=Path(cwd).expanduser() if cwd else None,
    )


def _file_of_variables(path: Any) -> Mapping[str, str]:
    if not path:
        return {}
    file = Path(path).expanduser()
    if not file.is_file():
        raise EntryError(f"has the envFile {path}, which is not there")
    return {name: value for name, value in dotenv_values(file, interpolate=False).items() if value is not None}


def _filter(entry: Mapping[str, Any]) -> ToolFilter:
    allowed, switched_off = None, list[str]()
    for key in ALLOWED:
        match entry.get(key):
            case list() as names if all(isinstance(name, str) for name in names):
                allowed = [*(allowed or ()), *names]
            case dict() as switches:
                switched_off += [name for name, value in switches.items() if value is False]
    disabled = [str(name) for key in DISABLED for name in _list(entry, key)]
    return ToolFilter(allowed=allowed, disabled=(*disabled, *switched_off))


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    value = entry.get(key)
    if not isinstance(value, list | None):
        raise EntryError(f'has "{key}" that is not a list')
    return value or []


def _timeout(entry: Mapping[str, Any]) -> float | None:
    value = entry.get("timeout")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise EntryError('has a "timeout" that is not a number of seconds')
    return float(value) if value <= LONGEST_TIMEOUT else value / 1000


def _texts(values: Any) -> dict[str, str]:
    if not isinstance(values, dict | None):
        raise EntryError("has variables or headers that are not an object")
    return {str(key): _text(value) for key, value in (values or {}).items() if value is not None}


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case _:
            raise EntryError(f"has {type(value).__name__} where a text must be")


def _at_home(path: str) -> str:
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path


def _own(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((entry[key] for key in keys if entry.get(key) is not None), None)
