"""Health, the playground and the docs: what else answers beside the API."""

import asyncio

import httpx
import pytest

from server.app import create_app
from server.settings import ServerSettings
from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.loopback import free_port
from tests.support.upstream import Upstream


def test_the_upstream_gets_the_configured_key_and_never_the_clients(upstream: Upstream, upstream_url: str) -> None:
    settings = {"ollama_base_url": upstream_url, "ollama_api_key": "upstream-key\n"}  # as the files of secrets end
    with agent_server(use_mcp_tools=False, **settings) as server:
        server.ask("hello")
    assert upstream.keys == ["Bearer upstream-key"]


def test_health_is_healthy(server: AgentServer) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "healthy"}


def test_ready_tells_of_every_part(weather_server: AgentServer) -> None:
    weather_server.ask("hello")  # waits for the tools
    response = httpx.get(f"{weather_server.url}/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "model": {"state": "ready", "error": None},
        "checkpointer": {"state": "ready", "error": None},
        "mcp": {"bundled": {"state": "ready", "tools": 2, "error": None}},
    }


def test_ready_says_which_part_is_down() -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with agent_server(ollama_base_url=nobody, mcp_base_url=nobody) as server:
        response = httpx.get(f"{server.url}/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert response.json()["model"] == {
        "state": "down",
        "error": "The model endpoint cannot be reached. Is it running? See OLLAMA_BASE_URL.",
    }


def test_an_mcp_server_that_is_down_degrades_and_does_not_stop(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, mcp_base_url=f"http://127.0.0.1:{free_port()}") as server:
        assert server.ask("hello") == "You said: hello"
        response = httpx.get(f"{server.url}/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["mcp"]["mcp"] == {
        "state": "down",
        "tools": 0,
        "error": "All connection attempts failed",
    }


def test_the_address_alone_leads_a_browser_on(upstream_url: str) -> None:
    for settings, page in (({}, "/agent/playground/"), ({"playground": False}, "/docs")):
        with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, **settings) as server:
            led = httpx.get(server.url)
            assert (led.status_code, led.headers["location"]) == (307, page)


def test_the_docs_describe_the_api(server: AgentServer) -> None:
    assert "swagger" in httpx.get(f"{server.url}/docs").text.lower()
    assert "/v1/chat/completions" in httpx.get(f"{server.url}/openapi.json").json()["paths"]


async def test_a_start_that_is_cancelled_ends_what_it_began(upstream_url: str) -> None:
    app = create_app(ServerSettings(ollama_model=MODEL, ollama_base_url=upstream_url, use_mcp_tools=False))
    before = asyncio.all_tasks()
    with pytest.raises(asyncio.CancelledError):
        async with app.router.lifespan_context(app):
            raise asyncio.CancelledError
    assert asyncio.all_tasks() == before
