"""Errors as answers in OpenAI's envelope: ours, FastAPI's and Starlette's."""

import json
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from server.errors import ApiError, InvalidRequest, NotFound
from server.http.complaints import NOT_JSON, invalid_body, wrong_type
from server.http.foreign_errors import as_api_error
from server.http.json_body import is_json


def error_response(error: ApiError) -> Response:
    """Answer with the envelope."""
    return Response(
        json.dumps(error.envelope()),
        status_code=error.status_code,
        headers=error.headers,
        media_type="application/json",
    )


async def _answer_api_error(_: Request, error: Exception) -> Response:
    return error_response(as_api_error(error))


async def _answer_invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "")
    if error.body is not None and not is_json(kind):
        return error_response(wrong_type(kind))
    return error_response(invalid_body(error.errors()))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):  # FastAPI's, for an error while it read the body
        return error_response(error.__cause__)
    match error.status_code:
        case 404:
            return error_response(NotFound(f"Invalid URL ({request.method} {request.url.path})"))
        case 405:
            return error_response(_not_allowed(request))
        case 400:  # FastAPI's, for a body that it cannot decode
            message = NOT_JSON
        case _:
            message = str(error.detail)
    return error_response(InvalidRequest(message, status=error.status_code, headers=error.headers))


def _not_allowed(request: Request) -> InvalidRequest:
    # Starlette names the methods of one route, and a path of ours may have several.
    routes = iter_route_contexts(request.app.routes)
    others = [route.methods or () for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    methods = {method for methods in others for method in methods} or {"GET"}  # a file's
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return InvalidRequest(
        f"Not allowed to {request.method} on {request.url.path}. (HINT: use {allowed}.)",
        code="method_not_supported",
        status=405,
        headers={"Allow": allowed},
    )


ERROR_HANDLERS: dict[int | type[Exception], Any] = {
    ApiError: _answer_api_error,
    RequestValidationError: _answer_invalid_body,
    HTTPException: _answer_http_error,
}
