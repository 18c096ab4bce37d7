"""The description of an MCP server: how to reach it, and what to offer of it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from tools.addresses import http_address
from tools.mcp.names import fit_name
from tools.printed import secrets_of_url

# Names of variables and flags with secrets. Other values, such as a folder, are shown, since the reason why a server
# does not start may be about them. A flag's URL is shown too, without its secrets.
SECRET_FLAG = re.compile("key|token|secret|pass|pwd|auth|cred|dsn", re.IGNORECASE)
SECRET_NAME = re.compile(f"{SECRET_FLAG.pattern}|url|uri", re.IGNORECASE)
# `--name=value`, `NAME=value` as `docker run -e` takes it, and `Name: value` of a header.
NAMED_VALUE = re.compile(r"-{0,2}([\w.-]+)(?:=|:\s+)(.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class StdioAddress:
    """A command that speaks MCP over its standard input and output."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def secrets(self) -> Iterator[str]:
        """Yield what must not be repeated in a log."""
        yield from (value for name, value in self.env.items() if SECRET_NAME.search(name))
        yield from _secrets_of_arguments(self.args)
        for value in (*self.args, *self.env.values()):
            yield from secrets_of_url(value)


@dataclass(frozen=True, kw_only=True)
class HttpAddress:
    """An MCP server over HTTP; `sse` is the transport of 2024, which some servers still have alone."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    verify_ssl: bool = True
    transport: Literal["http", "sse"] = "http"

    def __post_init__(self) -> None:
        http_address(self.url)

    def secrets(self) -> Iterator[str]:
        """Yield what must not be repeated in a log."""
        for value in self.headers.values():
            yield from (value, value.rpartition(" ")[2])  # without "Bearer", which is none
        yield from secrets_of_url(self.url)


def _secrets_of_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the values of flags, variables and headers whose names say that they are secret."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if before.startswith("-") and "=" not in before and SECRET_FLAG.search(before) and argument[:1] != "-":
            yield argument
        if (named := NAMED_VALUE.fullmatch(argument)) and SECRET_FLAG.search(named[1]):
            yield from (named[2], named[2].rpartition(" ")[2])


@dataclass(frozen=True)
class Unusable:
    """An entry that cannot be used as a server, and why, as one sentence."""

    reason: str


@dataclass(frozen=True)
class ToolFilter:
    """Which of a server's tools are offered, as globs on the server's names for them or on the model's."""

    allowed: Sequence[str] | None = None
    disabled: Sequence[str] = ()

    def lets_in(self, name: str) -> bool:
        """Whether a tool is offered; what is disabled is not, even if it is allowed too."""
        is_allowed = self.allowed is None or _matches(name, self.allowed)
        return is_allowed and not _matches(name, self.disabled)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(known, glob) for glob in globs for known in (name, fit_name(name)))


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """Where a server is, which of its tools are offered, and its own limits of time, if it has any."""

    address: StdioAddress | HttpAddress | Unusable
    tools: ToolFilter = ToolFilter()
    call_timeout: float | None = None
    first_wait: float = 3.0
    """Seconds that the first request waits for this server."""
