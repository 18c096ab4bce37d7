"""Swagger UI at /docs and ReDoc at /redoc, with their scripts from a package, not from a CDN."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from server.docs.document import DOCUMENT
from server.http.routing import add_routes

ASSETS = "/docs/assets"
PACKAGE, FILES, REDOC = "fastapi_offline", "static", "redoc.standalone.js"
# ReDoc loads its maker's logo from the internet.
LOGO, NO_LOGO = (
    "https://cdn.redoc.ly/redoc/logo-mini.svg",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>",
)
# The pages load nothing from other hosts, and are in no frame.
HERE_ALONE = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; "
    "frame-ancestors 'none'"
}

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def swagger_ui() -> Response:
    """Return the page to try the API on."""
    return _here_alone(
        get_swagger_ui_html(
            openapi_url=DOCUMENT,
            title="chat-agent",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},  # otherwise it sends the document to its maker's validator
        )
    )


@router.get("/redoc")
async def redoc() -> Response:
    """Return the page to read."""
    return _here_alone(
        get_redoc_html(
            openapi_url=DOCUMENT,
            title="chat-agent",
            redoc_js_url=f"{ASSETS}/{REDOC}",
            redoc_favicon_url=f"{ASSETS}/favicon.png",
            with_google_fonts=False,
        )
    )


@router.get(f"{ASSETS}/{REDOC}")
async def redoc_script() -> Response:
    """Return ReDoc's script without the request for the logo."""
    return Response(_redoc_script(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


@cache
def _redoc_script() -> str:
    return (files(PACKAGE) / FILES / REDOC).read_text(encoding="utf-8").replace(LOGO, NO_LOGO)


def add_docs(app: FastAPI) -> None:
    """Serve the pages and their files."""
    add_routes(app, router)
    app.mount(ASSETS, StaticFiles(packages=[(PACKAGE, FILES)]))


def _here_alone(page: HTMLResponse) -> Response:
    page.headers.update(HERE_ALONE)
    return page
