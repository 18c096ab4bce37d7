"""How other libraries' exceptions are told to clients; the only module that knows them.

`ENDPOINT_ANSWERS` has a row for each failure of a model endpoint: the error, and whether SDKs may repeat the request.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

from graph.model.failures import Failure, Meaning, ModelFailure
from graph.storage.database import CommitUnknown, DatabaseUnavailable
from graph.storage.database_file import DatabaseMoved
from server.errors import AgentError, ApiError, InvalidRequest, Unavailable, UpstreamError


@dataclass(frozen=True, slots=True)
class Told:
    """How a failure of the model endpoint is told: our sentence, the endpoint's words, and advice."""

    sentence: str
    advice: str = ""
    kind: type[ApiError] = UpstreamError
    _: KW_ONLY
    status: int | None = None
    code: str | None = "upstream_error"
    param: str | None = None
    has_words: bool = True
    is_repeatable: bool = True
    """Whether the same request may succeed later; SDKs repeat what has a status of 408, 409, 429 or 5xx."""

    def answer(self, failure: Failure) -> ApiError:
        """Return the answer."""
        error = self.kind(self._message(failure), status=self.status, code=self.code, param=self.param)
        if failure.retry_after and self.is_repeatable:
            error.headers["Retry-After"] = failure.retry_after
        return error if self.is_repeatable else error.not_to_be_repeated()

    def _message(self, failure: Failure) -> str:
        status = f"answered with status {failure.status}" if failure.status else "reported an error"
        words = f": {failure.words}" if failure.words and self.has_words else "."
        rest = " ".join(filter(None, [failure.detail, self.advice]))
        end = "." if rest and words[-1].isalnum() else ""
        return f"{self.sentence.format(status=status)}{words}{end} {rest}".strip()


ENDPOINT_ANSWERS: Mapping[Meaning, Told] = {
    "context too long": Told(
        "The conversation is longer than the model's context",
        "Start a new session or send less.",
        InvalidRequest,
        param="messages",
        code="context_length_exceeded",
    ),
    "no tools": Told("The model takes no tools", "", InvalidRequest, param="tools", code="unsupported_value"),
    "no images": Told(
        "The model takes no images", "", InvalidRequest, param="messages", code="unsupported_value", has_words=False
    ),
    "no temperature": Told("The model endpoint refused the request", "", InvalidRequest, code=None),
    "no stream options": Told("The model endpoint refused the request", "", InvalidRequest, code=None),
    "filtered": Told(
        "The model endpoint's content filter refused the prompt",
        "",
        InvalidRequest,
        param="prompt",
        code="content_filter",
        has_words=False,
    ),
    "no model": Told("The model endpoint does not have the model", "See OLLAMA_MODEL.", is_repeatable=False),
    "wrong address": Told(
        "The model endpoint {status}",
        "OLLAMA_BASE_URL may name another address than that of its API, which mostly ends in /v1.",
        is_repeatable=False,
    ),
    "wrong key": Told(
        "The model endpoint {status}",
        "Its key may be wrong; see OLLAMA_API_KEY.",
        has_words=False,
        is_repeatable=False,
    ),
    "no credit": Told(
        "The account at the model endpoint has no credit left",
        status=402,
        code="insufficient_quota",
        is_repeatable=False,
    ),
    "rate limited": Told(
        "The model endpoint is rate limited",
        "Try again later.",
        status=429,
        code="upstream_rate_limited",
        has_words=False,
    ),
    "too large": Told(
        "The request is too large for the model endpoint", "", InvalidRequest, status=413, code="request_too_large"
    ),
    "timed out": Told("The model endpoint did not answer in time", status=504, code="upstream_timeout"),
    "refused": Told("The model endpoint refused the request", "", InvalidRequest, code=None),
    "failed": Told("The model endpoint {status}"),
    "no memory": Told("The model does not fit into the endpoint's memory"),
    "unreachable": Told("The model endpoint cannot be reached", "Is it running? See OLLAMA_BASE_URL.", has_words=False),
    "broke off": Told("The connection to the model endpoint broke off", has_words=False),
    "stalled": Told("The model stopped answering", status=504, code="upstream_timeout"),
    "incomplete": Told("The model's answer ended in the middle"),
}


# The lowest byte of SQLite's codes is the kind of error; the others are details.
PRIMARY_CODE = 0xFF

# What to do about errors with a cause outside; other codes are defects of ours.
DATABASE_ADVICE = {
    sqlite3.SQLITE_BUSY: "Another program is writing to it. Try again.",
    sqlite3.SQLITE_LOCKED: "Another program is writing to it. Try again.",
    sqlite3.SQLITE_FULL: "Make room on its disk.",
    sqlite3.SQLITE_IOERR: "Check its disk: it may be full, broken or gone.",
    sqlite3.SQLITE_READONLY: "Let the server write to its file and folder.",
    sqlite3.SQLITE_PERM: "Let the server write to its file and folder.",
    sqlite3.SQLITE_CANTOPEN: "Check that its folder is there, and that the server may write to it.",
    sqlite3.SQLITE_CORRUPT: "Restore its file from a copy, or set CHECKPOINT_URL to a new one.",
    sqlite3.SQLITE_NOTADB: "Restore its file from a copy, or set CHECKPOINT_URL to a new one.",
    sqlite3.SQLITE_PROTOCOL: "Another program is writing to it. Try again.",
    sqlite3.SQLITE_NOLFS: "Its file has become too large for its file system.",
}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def as_api_error(error: BaseException) -> ApiError:
    """Return what the client is told about an error; an unknown foreign one is a defect of ours."""
    match error:
        case ApiError():
            return error
        case ModelFailure(failure=failure):
            return ENDPOINT_ANSWERS[failure.meaning].answer(failure)
        case sqlite3.Error() if (told := _database_failed(error)) is not None:
            return told
        case CommitUnknown():
            return _storage_unavailable(str(error)).not_to_be_repeated()
        case DatabaseMoved() | DatabaseUnavailable():
            return _storage_unavailable(str(error))
    return AgentError(
        "The server had an error while processing your request. Sorry about that!", code="agent_error"
    ).not_to_be_repeated()


def _database_failed(error: sqlite3.Error) -> ApiError | None:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE  # the module's own have none
    if code not in DATABASE_ADVICE:
        return None
    # SQLite's own words: a short sentence for each code, with nothing of the data in it.
    told = _storage_unavailable(f"The database cannot be used: {error}. {DATABASE_ADVICE[code]}")
    return told.not_to_be_repeated() if code in DAMAGED else told


def _storage_unavailable(message: str) -> ApiError:
    # SDKs may repeat the request: nothing was committed. The run forbids it if tools have run.
    return Unavailable(message, code="storage_unavailable", headers={"Retry-After": "5"})
