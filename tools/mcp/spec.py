"""What is known of an MCP server before it is connected."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from tools.addresses import http_address
from tools.mcp.names import fit_name

# What is not named like this, a folder or a mode, may be what a reason is about.
SECRET_NAME = re.compile("key|token|secret|pass|auth|cred|url|uri|dsn", re.IGNORECASE)


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


@dataclass(frozen=True)
class Unusable:
    """An entry that is no server, and why, as one sentence."""

    reason: str

    def secrets(self) -> Iterator[str]:
        """Yield what must not be repeated in a log."""
        return iter(())


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
    """Where a server is, which of its tools are offered, and how long one call may take if not as long as others."""

    address: StdioAddress | HttpAddress | Unusable
    tools: ToolFilter = ToolFilter()
    call_timeout: float | None = None
    first_wait: float = 3.0
    """Seconds that the first request waits for this server."""
