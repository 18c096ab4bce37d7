"""The routes of a protocol, and how an app gets them."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from server.http.json_body import JsonRequest


class JsonRoute(APIRoute):
    """A route whose handler gets a `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handler


class Router(APIRouter):
    """A protocol's routes; in the API's document their operations have the names of their handlers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=JsonRoute, generate_unique_id_function=lambda route: route.name, **options)


def add_routes(app: FastAPI, router: APIRouter) -> None:
    """Add a router's routes to the app, without copies of them.

    FastAPI's `include_router` makes copies when the first request for one of them comes. That takes up to 100 ms, in
    which no other request is answered. It also looks for the route of each request twice.
    """
    app.router.routes += router.routes
