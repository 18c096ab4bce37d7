"""Flags of the commands: other names for settings, which win over the environment and `.env`, and their own."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from server.settings import ServerSettings
from tools.bundled.settings import ToolSettings

FIELDS: Mapping[str, FieldInfo] = {**ServerSettings.model_fields, **ToolSettings.model_fields}

# Flags by their settings; the settings' descriptions are their help.
FLAGS: Mapping[str, str] = {
    "ollama_model": "--model",
    "ollama_base_url": "--base-url",
    "ollama_api_key": "--endpoint-key",
    "embedded_model": "--embedded-model",
    "api_host": "--host",
    "api_port": "--port",
    "api_keys": "--api-keys",
    "temperature": "--temperature",
    "system_prompt": "--system-prompt",
    "mcp_base_url": "--mcp-base-url",
    "mcp_config": "--mcp-config",
    "checkpoint_url": "--database",
    "mcp_host": "--host",
    "mcp_port": "--port",
}
ENDPOINT = ("ollama_model", "ollama_base_url", "ollama_api_key")
SERVER = (
    "api_host",
    "api_port",
    "api_keys",
    "temperature",
    "system_prompt",
    "mcp_base_url",
    "mcp_config",
    "checkpoint_url",
)
COMMON: Mapping[str, Sequence[str]] = {
    "serve": (*ENDPOINT, *SERVER),
    "demo": ("embedded_model", *SERVER),
    "mcp": ("mcp_host", "mcp_port"),
    "backup": ("checkpoint_url",),
}
"""By command, the settings that it takes as flags."""
SECRETS = ("ollama_api_key", "api_keys")


def add_flags(parser: argparse.ArgumentParser, command: str) -> None:
    """Let a command take its flags: those of settings, and its own."""
    for name in COMMON.get(command, ()):
        parser.add_argument(
            FLAGS[name],
            dest=name,
            default=argparse.SUPPRESS,
            metavar=name.upper(),
            help=described(name).replace("%", "%%"),
        )
    if add_own_flags := OWN_FLAGS.get(command):
        add_own_flags(parser)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as flags."""
    return {name: value for name, value in vars(options).items() if name in FLAGS}


def settings_list() -> str:
    """Return every setting with what it is for and its default, one a line."""
    return "\n".join(f"  {name.upper():<25} {described(name)}" for name in FIELDS)


def described(name: str) -> str:
    """Return what a setting is for, and its default."""
    field = FIELDS[name]
    return f"{field.description} ({default})" if (default := _default(field)) else str(field.description)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None | () | SecretStr() | {}:
            return ""
        case bool(value):
            text = str(value).lower()
        case tuple(values):
            text = ",".join(values)
        case value:
            text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return f"default: {text if len(text) <= 60 else text[:57] + ' …'}"


def _flags_of_chat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-q", "--question", metavar="TEXT", help="ask this alone; standard input is asked where it is a pipe"
    )
    parser.add_argument("--session", metavar="NAME", help="go on with this session (default: a fresh one)")
    parser.add_argument("--url", help="the server (default: the one of API_HOST and API_PORT)")
    parser.add_argument("--key", help="a key that it takes (default: the first of API_KEYS)")
    parser.add_argument("--model", metavar="NAME", help="the model to ask (default: the server's first)")


def _flags_of_mcp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stdio", action="store_true", help="speak over standard input and output")


def _flags_of_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the copy, which must not exist yet")


def _flags_of_migrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="sqlite:///file.db or postgresql://…, which no server is using")
    parser.add_argument("target", metavar="TO", help="the database that gets what it does not have")
    parser.add_argument("--dry-run", action="store_true", help="say how many sessions there are, and copy nothing")


OWN_FLAGS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "chat": _flags_of_chat,
    "mcp": _flags_of_mcp,
    "backup": _flags_of_backup,
    "migrate": _flags_of_migrate,
}
