"""What the command shows at a terminal. Pure: settings in, text out."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from server.settings import ServerSettings
from tools.settings import ToolSettings

RULE = "=" * 60
SHOWN = ("ollama_model", "ollama_base_url", "temperature", "use_mcp_tools", "api_host", "api_port")
FIRST_QUESTION = "서울 날씨 알려줘"


def settings_list() -> str:
    """Return every setting with what it is for, one a line."""
    fields: dict[str, FieldInfo] = {**ServerSettings.model_fields, **ToolSettings.model_fields}
    return "\n".join(f"  {name.upper():<25} {field.description}" for name, field in fields.items())


def unusable(kind: type[BaseSettings], errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what to do about settings that are missing, or else about those that are wrong."""
    missing = [str(error["loc"][0]) for error in errors if error["type"] == "missing"]
    if missing:
        return missing_screen({name: kind.model_fields[name].description or "" for name in missing})
    return "\n".join(_wrong_value(kind, error) for error in errors)


def missing_screen(described: Mapping[str, str]) -> str:
    """Return the screen that says which required settings are missing and what to do."""
    listed = "\n".join(f"  - {name.upper()}: {description}" for name, description in described.items())
    return (
        f"{RULE}\nERROR: Missing required environment variables\n{RULE}\n\n"
        f"The following variables must be set in .env file:\n\n{listed}\n\n"
        "Please create a .env file with these variables.\nYou can copy from .env.example:\n\n"
        "  cp .env.example .env\n\n"
        f"Then edit .env and set the appropriate values.\n{RULE}"
    )


def banner(settings: ServerSettings) -> str:
    """Return what was configured, without any secret."""
    lines = [f"{name.upper()}: {_shown(getattr(settings, name))}" for name in SHOWN]
    return "\n".join([RULE, "Configuration Loaded", RULE, *lines, RULE])


def open_to_all(host: str) -> str:
    """Return the warning that an address is reached from outside and no key guards it."""
    return (
        f"WARNING: {host} can be reached from other machines and API_KEYS is empty: anybody there can use this agent."
    )


def doors(settings: ServerSettings) -> str:
    """Return where everything is."""
    paths = {"API": "/v1", "Docs": "/docs"}
    if settings.playground:
        paths["Playground"] = "/agent/playground/"
    listed = "\n".join(f"  {name:<11} {_url(settings)}{path}" for name, path in paths.items())
    return f"\nchat-agent is ready.\n\n{listed}\n"


def invitation(settings: ServerSettings) -> str:
    """Return where everything is, and a first question to paste."""
    question = f'{{"role": "user", "content": "{FIRST_QUESTION}"}}'
    key = "-H 'Authorization: Bearer YOUR_KEY' " if settings.api_keys else ""
    return f"""{doors(settings)}
Ask it something from another terminal:

  curl -N {_url(settings)}/v1/chat/completions {key}-H 'Content-Type: application/json' \\
    -d '{{"model": "{settings.ollama_model}", "stream": true, "messages": [{question}]}}'

Ctrl-C ends it.
"""


def _url(settings: ServerSettings) -> str:
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
    return f"http://{host}:{settings.api_port}"


def _wrong_value(kind: type[BaseSettings], error: Mapping[str, Any]) -> str:
    name = str(error["loc"][0])
    message = str(error["msg"]).removeprefix("Value error, ")
    description = kind.model_fields[name].description
    return f"ERROR: {name.upper()} has a value that cannot be used: {message}. It is: {description}."


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"//[^/@]*@", "//", str(value))  # a password may stand before the host
