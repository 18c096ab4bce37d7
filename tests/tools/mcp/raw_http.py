"""MCP servers over HTTP without any SDK, which answer POSTs as a test wants."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.tools.mcp.raw_server import GREETING

Json = dict[str, Any]
Reaction = Callable[[Json, Request], Awaitable[Response]]


def answer(message: Json, result: object) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})


class RawHttp:
    """A server at /mcp with these tools; `reactions` has what else it does, for a method."""

    def __init__(self, *tools: Json, path: str = "/mcp", **reactions: Reaction) -> None:
        self.received: list[Json] = []
        self.sessions = 0
        self._tools, self._reactions = list(tools), reactions
        self.app = Starlette(routes=[Route(path, self._post, methods=["POST"])])

    def methods(self) -> list[str]:
        return [message.get("method", "") for message in self.received]

    async def _post(self, request: Request) -> Response:
        message = json.loads(await request.body())
        self.received.append(message)
        method = message.get("method", "")
        if reaction := self._reactions.get(method.replace("tools/", "").replace("notifications/", "")):
            return await reaction(message, request)
        match method:
            case "initialize":
                self.sessions += 1
                response = answer(message, GREETING)
                response.headers["mcp-session-id"] = str(self.sessions)
                return response
            case "tools/list":
                return answer(message, {"tools": self._tools})
            case "ping":
                return answer(message, {})
            case _:
                return Response(status_code=202)


def says(text: str, kind: str = "application/json", status: int = 200) -> Reaction:
    """Answer with this text, with ID in the place of the request's id."""

    async def reaction(message: Json, _: Request) -> Response:
        return Response(text.replace("ID", str(message["id"])), status, media_type=kind)

    return reaction
