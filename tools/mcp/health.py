"""The health of the servers, as `/ready` shows it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ServerHealth:
    """The health of one server.

    `tools` is how many it offers; `error` says in one sentence why it is down, or which of its tools are left out.
    """

    state: Literal["starting", "ready", "down"] = "starting"
    tools: int = 0
    error: str | None = None
