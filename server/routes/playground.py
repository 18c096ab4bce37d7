"""LangServe's chat playground at /agent/playground/, for trying the agent in a browser.

The page sends the whole conversation with every question, and names its session in a way of its own: it gives each
answer the id of the run that LangServe reports, and sends it back with the answer. So that id is the session's.
"""

import warnings
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.errors import ApiError, NotFound
from server.json_body import JsonRoute
from server.replies import EventStream
from server.routes.runnable import input_schema, output_schema
from server.runnable import PATH, Messages, api_handler, body_of, run_conversation
from server.sessions import SessionName

# The page asks for its schemas, and for answers when it is shared, under the hash of a configuration: this is of none.
NO_CONFIG = "/c/N4XyA"

# A key that ends an IME's composition is no key of the page's: with Korean, Enter sent the question without its last
# syllable being taken out of the box. Of a server that is not there the page says nothing. There is nothing to share
# but the page's own address; and a phone is narrower than the 640 pixels that the page takes.
PAGE_FIXES = """
<script>
addEventListener("keydown", event => event.isComposing && event.stopImmediatePropagation(), true);
const { fetch } = window;
window.fetch = (...request) => fetch(...request).catch(error => {
  if (error.name !== "AbortError") alert("서버에 연결할 수 없습니다 · The server cannot be reached");
  throw error;
});
</script>
<style>
.share-button { display: none }
@media (max-width: 700px) {
  .w-\\[640px\\] { width: 100%; padding: 0 1rem }
  .m-16 { margin: 1rem }
  .m-16 .ml-8 { margin-left: 0.5rem }
}
</style>
</head>""".encode()

warnings.filterwarnings("ignore", "astream_log is deprecated")  # the page knows no other endpoint


async def answer(messages: Messages, request: Request) -> AsyncGenerator[str]:
    """Yield the text of the answer, or of an error: the page shows no other sign of one."""
    try:
        name = SessionName(request.state.page_session, third_party=True)
        async with aclosing(run_conversation(messages, name, request)) as texts:
            async for text in texts:
                yield text
    except ApiError as error:
        yield error.message


def _with_session(config: dict[str, Any], request: Request) -> None:
    if session_id := getattr(request.state, "page_session", None):
        config["run_id"] = UUID(session_id)


handler = api_handler(answer, _with_session)


async def stream_log(request: Request) -> Response:
    """Answer the page."""
    request.state.page_session = request.state.session_id = page_session(await body_of(request))
    events = (await handler.stream_log(request)).body_iterator
    return EventStream(events, "An answer of the playground")


async def playground(request: Request, file_path: str) -> Response:
    """Return the page, or a file of it."""
    try:
        response: Response = await handler.playground(file_path, request)
    except (OSError, ValueError):  # a folder's name, one that is too long or has a zero in it
        response = Response(status_code=404)
    if response.status_code == 404:
        raise NotFound(f"Invalid URL (GET {request.url.path})")
    if response.media_type == "text/html":
        return Response(bytes(response.body).replace(b"</head>", PAGE_FIXES), media_type="text/html")
    return response


def page_session(body: Any) -> str:
    """Return the session that the page's newest answer is of, or a fresh one."""
    try:
        run_ids = [message["runId"] for message in body["input"]["messages"] if message.get("runId")]
        return str(UUID(run_ids[-1]))
    except (LookupError, TypeError, ValueError, AttributeError):
        return str(uuid4())


router = APIRouter(include_in_schema=False, route_class=JsonRoute)
for prefix in (PATH, PATH + NO_CONFIG):
    router.add_api_route(f"{prefix}/playground/{{file_path:path}}", playground, methods=["GET"])
    router.add_api_route(f"{prefix}/stream_log", stream_log, methods=["POST"])
router.add_api_route(f"{PATH}{NO_CONFIG}/input_schema", input_schema, methods=["GET"])
router.add_api_route(f"{PATH}{NO_CONFIG}/output_schema", output_schema, methods=["GET"])
