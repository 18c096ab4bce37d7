"""The log: one line for each event, with its time and the request that it is about; one for each request that is done.

At a terminal the lines are for a person, elsewhere they are JSON. What comes from others, such as an endpoint's error,
is escaped, so that it cannot look like a line of ours. Messages, keys and query strings are never logged.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from starlette.types import Scope
from uvicorn.logging import DefaultFormatter

from server.http.stats import RequestStats
from server.http.telemetry import WithoutSecrets
from tools.printed import printable
from tools.trace import current_trace

log = logging.getLogger("server.requests")

# Loggers whose lines are shown: ours, and those of what sends traces and metrics.
LOGGED = ("graph", "server", "tools", "opentelemetry")

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def log_config(uvicorns: Mapping[str, Any]) -> dict[str, Any]:
    """Give all loggers our format, and silence the MCP SDK: our client logs its failures in one line each."""
    ours = {"handlers": ["default"], "level": "INFO", "propagate": False}
    silent = {"handlers": [], "level": "CRITICAL"}
    line = {"()": Line, "fmt": "%(asctime)s %(levelprefix)s %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"}
    return {
        **uvicorns,
        "formatters": {**uvicorns["formatters"], "default": line if sys.stderr.isatty() else {"()": JsonLine}},
        "filters": {"secrets": {"()": WithoutSecrets}},
        "handlers": {**uvicorns["handlers"], "default": {**uvicorns["handlers"]["default"], "filters": ["secrets"]}},
        "loggers": {**uvicorns["loggers"], **dict.fromkeys(LOGGED, ours), "mcp": silent},
    }


class Line(DefaultFormatter):
    """A line of the log for a person."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return uvicorn's line, with the request's id behind it where there is one."""
        record.message = printable(record.message)
        line, request_id = super().formatMessage(record), REQUEST_ID.get()
        return f"{line} {request_id}" if request_id and request_id not in line else line

    def formatException(self, exc_info: Any) -> str:
        """Return a traceback, of which no line begins like one of the log."""
        return "\n".join(f"    {printable(line)}" for line in super().formatException(exc_info).split("\n"))


class JsonLine(logging.Formatter):
    """A line of the log for a program: an object with `time` (ISO 8601, UTC), `level`, `logger` and `message`.

    A line about a request has its `request_id`, and the `trace_id` of its trace; see `log_request` for the one of a
    request that is done.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line |= {"request_id": request_id, "trace_id": current_trace()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False).translate(LINE_ENDS)


# JSON allows these in a text, and some readers take them for the end of a line.
LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x7f\x85\u2028\u2029"}


def log_request(scope: Scope, stats: RequestStats, *, principal: str, session_id: str, status: int | None) -> None:
    """Write the line of a request that is done; it has no status where its client left before there was one."""
    if not log.isEnabledFor(logging.INFO):
        return
    path = (scope.get("raw_path") or scope["path"].encode()).decode("ascii", "backslashreplace")
    seconds = time.monotonic() - stats.began
    fields: dict[str, object] = {
        "method": scope["method"],
        "path": path,
        "status": status,
        "seconds": round(seconds, 3),
        "session": session_id,
        "principal": principal or None,
        "model": stats.model,
        "first_token_seconds": stats.first_token and round(stats.first_token, 3),
        "input_tokens": stats.input_tokens or None,
        "output_tokens": stats.output_tokens or None,
        "tools": stats.shown_tools() or None,
    }
    words = [f"{scope['method']} {path} {status or '-'} {seconds:.3f} s session {session_id}"]
    if principal:
        words.append(f"key {principal}")
    if stats.model:
        words.append(f"model {stats.model}")
    if stats.first_token is not None:
        words.append(f"first token {stats.first_token:.3f} s")
    if stats.output_tokens:
        words.append(f"tokens {stats.input_tokens}+{stats.output_tokens}")
    words += [f"{tool.name} {'failed after ' * tool.failed}{tool.seconds:.3f} s" for tool in stats.tools]
    known = {name: value for name, value in fields.items() if value is not None}
    log.info("%s", ", ".join(words), extra={"fields": known})
