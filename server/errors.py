"""Every error that a client can get, in OpenAI's envelope.

    ApiError
    ├── InvalidRequest      400  the request is not what the API takes
    ├── Unauthorized        401  no key, or a wrong one
    ├── NotFound            404  no such model, session or URL
    ├── SessionBusy         409  the session's run before this one has not ended
    ├── RunCancelled        409  somebody cancelled the run
    ├── RateLimited         429  the key has used up its requests or tokens of this minute
    ├── QuotaUsedUp         429  the principal's sessions have stored as much as they may
    ├── UpstreamError       502  the model endpoint failed (504 timeout, 429 rate limit, 402 no credit)
    ├── Unavailable         503  the run was stopped, or the database cannot be used
    ├── RunTimedOut         504  the run took longer than RUN_TIMEOUT
    └── AgentError          500  a defect of ours

Other libraries' exceptions become these in http/foreign_errors.py.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from typing_extensions import TypedDict  # Python's own is not enough for pydantic before 3.12

# Characters: what a client sent is not sent back to it, or logged, at any length.
MAX_MESSAGE, MAX_PARAM = 1_000, 200


class Error(TypedDict):
    """What went wrong, for a person and for a program."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(TypedDict):
    """The body of every error; all its keys are always there."""

    error: Error


class ApiError(Exception):
    """An answer in OpenAI's error envelope: message, type, param and code, under an HTTP status."""

    status: ClassVar[int] = 500
    type: str = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message, self.param = shortened(message, MAX_MESSAGE), param and shortened(param, MAX_PARAM)
        super().__init__(self.message)
        self.code = code
        self.status_code = status or self.status
        self.headers = dict(headers or {})

    def not_to_be_repeated(self) -> Self:
        """Tell SDKs, which repeat failed requests, not to repeat this one: it may have had effects."""
        self.headers["x-should-retry"] = "false"
        return self

    def envelope(self) -> ErrorEnvelope:
        """Return the JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters; a longer one is cut, and says so."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


class InvalidRequest(ApiError):
    """The request is not what the API takes."""

    status, type = 400, "invalid_request_error"


class Unauthorized(ApiError):
    """No key, or a wrong one."""

    status, type = 401, "invalid_request_error"


class NotFound(ApiError):
    """No such model, session or URL."""

    status, type = 404, "invalid_request_error"


class SessionBusy(ApiError):
    """The session's run before this one has not ended."""

    status, type = 409, "conflict_error"


class RunCancelled(ApiError):
    """Somebody cancelled the run; SDKs must not start it again."""

    status, type = 409, "conflict_error"

    def __init__(self) -> None:
        super().__init__("The run was cancelled.", code="run_cancelled")
        self.not_to_be_repeated()


class UpstreamError(ApiError):
    """The model endpoint failed."""

    status, type = 502, "server_error"


class RunTimedOut(ApiError):
    """The run took too long; what it did until then is stored, so SDKs must not start it again."""

    status, type = 504, "server_error"

    def __init__(self) -> None:
        super().__init__("The run took too long.", code="run_timeout")
        self.not_to_be_repeated()


class RateLimited(ApiError):
    """A key has used up what it has in a minute: its requests, or its tokens."""

    status = 429

    def __init__(self, message: str, kind: str, *, retry_after: int) -> None:
        super().__init__(message, code="rate_limit_exceeded", headers={"Retry-After": str(retry_after)})
        self.type = kind  # as OpenAI has it


class QuotaUsedUp(ApiError):
    """The sessions of a principal have stored as much as they may; to ask again does not help."""

    status, type = 429, "insufficient_quota"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="insufficient_quota")
        self.not_to_be_repeated()


class Unavailable(ApiError):
    """The run was stopped, by the server's shutdown or on request, or the database cannot be used."""

    status, type = 503, "server_error"


class AgentError(ApiError):
    """A defect of ours; the log has the traceback."""

    status, type = 500, "server_error"


DESCRIPTIONS = {
    400: "The request is not what the API takes; `param` names what is wrong.",
    401: "No API key, or a wrong one.",
    402: "The account at the model endpoint has no credit left.",
    404: "No such model, session or branch.",
    409: "The session is busy with another request, or its run was cancelled.",
    413: "The request is larger than the server reads.",
    415: "The request's body is not JSON.",
    429: "The model endpoint limits its requests, or the server those of the key.",
    500: "A defect of the server.",
    502: "The model endpoint failed.",
    503: "The run was stopped, by the server's end or by somebody else.",
    504: "The model endpoint did not answer in time, or the run took too long.",
}


def may_fail(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of an operation, for its `responses`."""
    return {status: {"model": ErrorEnvelope, "description": DESCRIPTIONS[status]} for status in statuses}
