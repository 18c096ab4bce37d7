"""The API's document, /openapi.json: what FastAPI finds in the handlers, with headers, keys and descriptions.

Source: OpenAPI 3.1.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse

from server.docs.descriptions import describe_answers, describe_fields
from server.http.identity import OWN_HEADER

Json = dict[str, Any]

DOCUMENT = "/openapi.json"


class Protocol(NamedTuple):
    """A protocol that the server speaks: its routes, and a function that completes their part of the document."""

    router: APIRouter
    describe: Callable[[Json, str], None] = lambda _document, _model: None


ANSWER_HEADERS = {
    OWN_HEADER: {"description": "The session of the request.", "schema": {"type": "string"}},
    "x-request-id": {"description": "The request's own id, to be quoted with questions.", "schema": {"type": "string"}},
}


def add_document(app: FastAPI, protocols: Sequence[Protocol], *, model: str, needs_key: bool) -> None:
    """Serve the app's document, with examples for this model.

    It is made once, when it is asked for, and in a thread: that takes 0.3 s, in which others are answered.
    """

    def document() -> Json:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                separate_input_output_schemas=False,
            )
            _complete(made, protocols, model, needs_key)
            app.openapi_schema = made
        return app.openapi_schema

    async def answer(_: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(document))

    app.openapi = document  # type: ignore[method-assign]
    app.add_route(DOCUMENT, answer, include_in_schema=False)


def _complete(document: Json, protocols: Sequence[Protocol], model: str, needs_key: bool) -> None:
    schemas = document["components"]["schemas"]
    for protocol in protocols:
        protocol.describe(document, model)
    schemas["JsonValue"]["description"] = "Any JSON."
    describe_fields(schemas)
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        if operation["responses"].pop("422", None):  # FastAPI's validation error, which is a 400 here
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
        for response in operation["responses"].values():
            response["headers"] = ANSWER_HEADERS
        describe_answers(operation, schemas)
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        document["paths"]["/health"]["get"]["security"] = []
