"""Explain what is wrong with the settings to the person who wrote them. Reads `.env`; the rest is pure."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import BaseSettings

from server.command.flags import FIELDS, FLAGS, SECRETS
from server.command.screens import RULE, without_password
from tools.environment import ENCODING, ENV_FILE

NAMES = [name.upper() for name in FIELDS]
# Similar names of other programs' settings, which may well be in the environment.
OF_OTHERS = ("AGENT", "API_KEY", "MODEL", "OLLAMA_MODELS")
NEAR, VERY_NEAR = 0.8, 0.9
VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)")

# By pydantic's type of the error; for other types, pydantic's own words are used.
REASONS: Mapping[str, str] = {
    "float_parsing": "it is not a number",
    "int_parsing": "it is not a whole number",
    "int_from_float": "it is not a whole number",
    "bool_parsing": "it is neither true nor false",
    "less_than_equal": "it must be less than or equal to {le}",
    "less_than": "it must be less than {lt}",
    "greater_than_equal": "it must be greater than or equal to {ge}",
    "greater_than": "it must be greater than {gt}",
}


def unusable(
    kind: type[BaseSettings],
    errors: Sequence[Mapping[str, Any]],
    flags: Iterable[str] = (),
    file: Path = Path(ENV_FILE),
) -> str:
    """Return what to do about settings that are missing, or else about those that are wrong."""
    missing = [str(error["loc"][0]) for error in errors if error["type"] == "missing"]
    if missing:
        return missing_screen({name: kind.model_fields[name].description or "" for name in missing}, file)
    return "\n".join(_wrong_value(kind, error, flags) for error in errors)


def missing_screen(described: Mapping[str, str], file: Path) -> str:
    """Return the screen that says which required settings are missing and what to do."""
    listed = "\n".join(f"  - {name.upper()}: {description}" for name, description in described.items())
    return (
        f"{RULE}\nERROR: Missing required environment variables\n{RULE}\n\n"
        f"The following variables must be set in .env file:\n\n{listed}\n\n{_what_to_do(file)}\n{RULE}"
    )


def misspelt() -> Iterator[str]:
    """Yield a sentence for each name in `.env` or the environment that is nearly one of ours."""
    elsewhere = _variables_of_mcp_config()
    for place, names, cutoff in (
        (ENV_FILE, _names_in(Path(ENV_FILE)), NEAR),
        ("the environment", os.environ, VERY_NEAR),
    ):
        for name, near in near_misses(set(names) - elsewhere, cutoff).items():
            if place == ENV_FILE or name not in OF_OTHERS:
                yield f"{name} in {place} is not a setting; did you mean {near}?"


def near_misses(names: Iterable[str], cutoff: float = NEAR) -> dict[str, str]:
    """Return the names that are almost, but not quite, those of settings, each with the nearest setting."""
    found = {}
    for name in sorted(names):
        spelt = name.upper().replace("-", "_")
        near = get_close_matches(spelt, NAMES, n=1, cutoff=cutoff)
        if near and name.upper() not in NAMES:
            found[name] = near[0]
    return found


def _what_to_do(file: Path) -> str:
    if not file.is_file():
        return (
            "Please create a .env file with these variables.\nYou can copy from .env.example:\n\n"
            "  cp .env.example .env\n\nThen edit .env and set the appropriate values."
        )
    hints = [
        f"\n{name} in it is not a setting; did you mean {near}?" for name, near in near_misses(_names_in(file)).items()
    ]
    return f"There is {file.resolve()}, which does not set them; add them there.{''.join(hints)}"


def _wrong_value(kind: type[BaseSettings], error: Mapping[str, Any], flags: Iterable[str]) -> str:
    name = str(error["loc"][0])
    reason = REASONS.get(error["type"], str(error["msg"]).removeprefix("Value error, ")).format(**error.get("ctx", {}))
    place = f" ({FLAGS[name]})" if name in flags else _place_of(name)
    value = error["input"]
    is_secret = name in SECRETS or "password=" in str(value)
    what = "has a value that cannot be used" if is_secret else f"cannot be {without_password(str(value))!r}"
    if error["type"] == "float_parsing" and re.fullmatch(r"-?\d+,\d+", str(value)):
        reason += f"; write {str(value).replace(',', '.')}"
    return f"ERROR: {name.upper()}{place} {what}: {reason}. It is: {kind.model_fields[name].description}."


def _place_of(name: str) -> str:
    """Say where a setting was read; the environment wins over `.env`."""
    if name in map(str.lower, os.environ):
        return " in the environment"
    return " in .env" if name in map(str.lower, _names_in(Path(ENV_FILE))) else ""


def _names_in(file: Path) -> Mapping[str, str | None]:
    return dotenv_values(file, encoding=ENCODING, interpolate=False) if file.is_file() else {}


def _variables_of_mcp_config() -> set[str]:
    """Return the names that the file of MCP servers asks for, which are settings of those servers."""
    path = os.environ.get("MCP_CONFIG") or _names_in(Path(ENV_FILE)).get("MCP_CONFIG")
    try:
        return set(VARIABLE.findall(Path(path).read_text(encoding=ENCODING))) if path else set()
    except (OSError, UnicodeDecodeError):
        return set()
