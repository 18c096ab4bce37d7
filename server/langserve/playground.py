"""LangServe's chat playground at /agent/playground/, for trying the agent in a browser.

The page sends the whole conversation with every question, and names its session in a way of its own: it gives each
answer the id of the run that LangServe reports, and sends it back with the answer. So that id is the session's.
"""

import warnings
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from fastapi import Request
from starlette.responses import Response

from server.errors import NotFound
from server.http.identity import SessionName
from server.http.routing import Router
from server.langserve.route import AnswerStream, handler, input_schema, output_schema
from server.langserve.runnable import PATH, asked_in, read_conversation
from server.sessions.dependencies import claim_session

# The page puts the hash of a configuration into its paths; this is the hash of an empty one.
NO_CONFIG = "/c/N4XyA"

PAGE_FIXES = (Path(__file__).parent / "playground.html").read_bytes() + b"</head>"

warnings.filterwarnings("ignore", "astream_log is deprecated")  # the page knows no other endpoint


async def stream_log(request: Request) -> Response:
    """Answer the page, or a client of LangServe's that names its session in a header."""
    body = await read_conversation(request)
    asked = asked_in(request)
    if asked.name is None:
        asked.page_session = page_session(body)
        asked.name = SessionName(claim_session(request, asked.page_session).id, third_party=True)
    return AnswerStream(await handler.stream_log(request), request)


async def playground(request: Request, file_path: str) -> Response:
    """Return the page, or a file of it."""
    try:
        response: Response = await handler.playground(file_path, request)
    except (OSError, ValueError):  # a directory, a name that is too long, or one with a null byte
        response = Response(status_code=404)
    if response.status_code == 404:
        raise NotFound(f"Invalid URL (GET {request.url.path})")
    if response.media_type == "text/html":
        return Response(bytes(response.body).replace(b"</head>", PAGE_FIXES), media_type="text/html")
    return response


def page_session(body: Any) -> str:
    """Return the session of the page's newest answer, or a new one."""
    try:
        run_ids = [message["runId"] for message in body["input"]["messages"] if message.get("runId")]
        return str(UUID(run_ids[-1]))
    except (LookupError, TypeError, ValueError, AttributeError):
        return str(uuid4())


router = Router(include_in_schema=False)
for prefix in (PATH, PATH + NO_CONFIG):
    router.add_api_route(f"{prefix}/playground/{{file_path:path}}", playground, methods=["GET"])
    router.add_api_route(f"{prefix}/stream_log", stream_log, methods=["POST"])
router.add_api_route(f"{PATH}{NO_CONFIG}/input_schema", input_schema, methods=["GET"])
router.add_api_route(f"{PATH}{NO_CONFIG}/output_schema", output_schema, methods=["GET"])
