"""The API's document, /openapi.json: what FastAPI finds in the handlers, with headers, keys and descriptions.

Source: OpenAPI 3.1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from server.docs.descriptions import describe_answers, describe_fields
from server.http.identity import OWN_HEADER

Json = dict[str, Any]


class Protocol(NamedTuple):
    """A protocol that the server speaks: its routes, and a function that completes their part of the document."""

    router: APIRouter
    describe: Callable[[Json, str], None] = lambda _document, _model: None


ANSWER_HEADERS = {
    OWN_HEADER: {"description": "The session of the request.", "schema": {"type": "string"}},
    "x-request-id": {"description": "The request's own id, to be quoted with questions.", "schema": {"type": "string"}},
}


def describes(app: FastAPI, protocols: Sequence[Protocol], *, model: str, needs_key: bool) -> Callable[[], Json]:
    """Return the function that makes the app's document, once, with examples for this model."""

    def document() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                separate_input_output_schemas=False,
            )
            _complete(app.openapi_schema, protocols, model, needs_key)
        return app.openapi_schema

    return document


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
