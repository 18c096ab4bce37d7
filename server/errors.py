"""Everything that a client can be told went wrong, in OpenAI's envelope.

    ApiError
    ├── InvalidRequest      400  the request is not what the API takes
    ├── Unauthorized        401  no key, or a wrong one
    ├── NotFound            404  no such model, session or URL
    ├── SessionBusy         409  the session's run before this one has not ended
    ├── RunCancelled        409  somebody cancelled the run
    ├── UpstreamError       502  the model endpoint failed (504 timeout, 429 rate limit)
    ├── Unavailable         503  the run was stopped
    └── AgentError          500  a defect of ours

`as_api_error` is the one place that knows other libraries' exceptions.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import httpx2
import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_openai import StreamChunkTimeoutError
from typing_extensions import TypedDict  # Python's own is not enough for pydantic before 3.12

from graph.model import IncompleteAnswer
from graph.text import paired_surrogates


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
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code
        self.status_code = status or self.status
        self.headers = dict(headers or {})

    def not_to_be_repeated(self) -> Self:
        """Tell the SDKs, which repeat requests that failed, that this one has had effects."""
        self.headers["x-should-retry"] = "false"
        return self

    def envelope(self) -> ErrorEnvelope:
        """Return the JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


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


class Unavailable(ApiError):
    """The run was stopped, by the server's end or by somebody else."""

    status, type = 503, "server_error"


class AgentError(ApiError):
    """A defect of ours; the log has the traceback."""

    status, type = 500, "server_error"


def as_api_error(error: BaseException) -> ApiError:
    """Return what the client is told of an error; the first row of the table that fits decides."""
    if isinstance(error, ApiError):
        return error
    return next(answer(error) for kind, answer in FOREIGN_ERRORS if isinstance(error, kind))


def _context_too_long(_: Exception) -> ApiError:
    return InvalidRequest(
        "The conversation is longer than the model's context. Start a new session or send less.",
        param="messages",
        code="context_length_exceeded",
    )


def _rate_limited(error: openai.RateLimitError) -> ApiError:
    retry_after = error.response.headers.get("retry-after")
    return UpstreamError(
        "The model endpoint is rate limited. Try again later.",
        status=429,
        code="upstream_rate_limited",
        headers={"Retry-After": retry_after} if retry_after else {},
    )


def _refused(error: openai.BadRequestError) -> ApiError:
    # The one upstream message that is passed on: it is about this request ("… does not support tools").
    said = error.body.get("message") if isinstance(error.body, dict) else None
    reason = paired_surrogates(str(said or error.message))
    if TOO_LONG.search(reason):
        return _context_too_long(error)
    if error.code == FILTERED:
        return InvalidRequest("The model endpoint's content filter refused the prompt.", param="prompt", code=FILTERED)
    return InvalidRequest(f"The model endpoint refused the request: {reason[:500]}")


def _upstream_status(error: openai.APIStatusError) -> ApiError:
    if NO_IMAGES.search(error.message):
        return InvalidRequest("The model takes no images.", param="messages", code="unsupported_value")
    advice = ADVICE.get(error.status_code, "")
    return UpstreamError(f"The model endpoint answered with status {error.status_code}.{advice}", code="upstream_error")


def _fixed(kind: type[ApiError], message: str, **details: Any) -> Callable[[Any], ApiError]:
    return lambda _: kind(message, **details)


# As OpenAI and vLLM, and as llama.cpp put it.
TOO_LONG = re.compile(r"maximum context length|context size", re.IGNORECASE)

# As llama.cpp puts it, under the status 500.
NO_IMAGES = re.compile(r"image input is not supported", re.IGNORECASE)

FILTERED = "content_filter"

ADVICE = {
    401: " Its key may be wrong; see OLLAMA_API_KEY.",
    403: " Its key may be wrong; see OLLAMA_API_KEY.",
    404: " It may not have this model, or live at another address; see OLLAMA_MODEL and OLLAMA_BASE_URL.",
}

FOREIGN_ERRORS: list[tuple[type[BaseException], Callable[[Any], ApiError]]] = [
    (ContextOverflowError, _context_too_long),
    (
        openai.APITimeoutError,
        _fixed(UpstreamError, "The model endpoint did not answer in time.", status=504, code="upstream_timeout"),
    ),
    (
        openai.APIConnectionError,
        _fixed(
            UpstreamError,
            "The model endpoint cannot be reached. Is it running? See OLLAMA_BASE_URL.",
            code="upstream_error",
        ),
    ),
    (openai.RateLimitError, _rate_limited),
    (openai.BadRequestError, _refused),
    (openai.APIStatusError, _upstream_status),
    (
        httpx2.TransportError,
        _fixed(UpstreamError, "The connection to the model endpoint broke.", code="upstream_error"),
    ),
    (openai.APIError, _fixed(UpstreamError, "The model endpoint reported an error.", code="upstream_error")),
    (
        StreamChunkTimeoutError,
        _fixed(UpstreamError, "The model stopped answering.", status=504, code="upstream_timeout"),
    ),
    (
        IncompleteAnswer,
        _fixed(UpstreamError, "The model's answer ended in the middle.", code="upstream_error"),
    ),
    (
        TimeoutError,
        # What it did until then is kept, as that of any run that was cut.
        _fixed(
            UpstreamError,
            "The run took too long.",
            status=504,
            code="run_timeout",
            headers={"x-should-retry": "false"},
        ),
    ),
    (
        BaseException,
        _fixed(
            AgentError,
            "The server had an error while processing your request. Sorry about that!",
            code="agent_error",
            headers={"x-should-retry": "false"},
        ),
    ),
]
