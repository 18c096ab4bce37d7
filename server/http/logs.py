"""The log: each line with its time, and with the request that it is about; one line for each request that is done.

Messages, keys and query strings are never logged.
"""

import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from starlette.types import Scope
from uvicorn.logging import DefaultFormatter

log = logging.getLogger("server.requests")

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def log_config(uvicorns: Mapping[str, Any]) -> dict[str, Any]:
    """Give all loggers our format, and silence the MCP SDK: our client logs its failures in one line each."""
    ours = {"handlers": ["default"], "level": "INFO", "propagate": False}
    silent = {"handlers": [], "level": "CRITICAL"}
    line = {"()": Line, "fmt": "%(asctime)s %(levelprefix)s %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
    return {
        **uvicorns,
        "formatters": {**uvicorns["formatters"], "default": line},
        "loggers": {**uvicorns["loggers"], "graph": ours, "server": ours, "tools": ours, "mcp": silent},
    }


class Line(DefaultFormatter):
    """A line of the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return uvicorn's line, with the request's id behind it where there is one."""
        line, request_id = super().formatMessage(record), REQUEST_ID.get()
        return f"{line} {request_id}" if request_id and request_id not in line else line


def log_request(scope: Scope, *, session_id: str, status: int | None, began: float) -> None:
    """Write the line of a request that is done; it has no status where its client left before there was one."""
    if log.isEnabledFor(logging.INFO):
        path = scope.get("raw_path") or scope["path"].encode()
        log.info(
            "%s %s %s %.3f s session %s",
            scope["method"],
            path.decode("ascii", "backslashreplace"),
            status or "-",
            time.monotonic() - began,
            session_id,
        )
