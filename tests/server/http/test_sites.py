"""Web pages of other sites and a server without keys: by header, and in a real browser."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from server.http.sites import SiteGuard, host_name, is_named, matching, own_names
from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.browser import chromium
from tests.support.loopback import served
from tests.support.upstream import Upstream

ASKING: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
INVOKING: dict[str, Any] = {"input": {"messages": [{"type": "human", "content": "hello"}]}}
FOREIGN = [
    {"Origin": "https://evil.com"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
]
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/chat/completions", {"json": ASKING}),
    ("POST", "/agent/invoke", {"json": INVOKING}),
    ("POST", "/agent/stream", {"json": INVOKING}),
    ("POST", "/agent/stream_log", {"json": INVOKING}),
    ("POST", "/v1/sessions/mina/reset", {"data": {"a": "b"}}),
    ("POST", "/v1/sessions/mina/cancel", {}),
    ("DELETE", "/v1/sessions/mina", {}),
]


@pytest.fixture
def mina(server: AgentServer) -> AgentServer:
    """A server with the session that others are after."""
    server.ask("hello", session="mina")
    return server


def turns_of_mina(server: AgentServer) -> int:
    turns: int = httpx.get(f"{server.url}/v1/sessions/mina").json()["turns"]
    return turns


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(("method", "path", "sent"), CHANGES)
def test_a_page_of_another_site_changes_nothing(
    mina: AgentServer, upstream: Upstream, headers: dict[str, str], method: str, path: str, sent: dict[str, Any]
) -> None:
    refused = httpx.request(method, mina.url + path, headers=headers, **sent)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site_request")
    assert "CORS_ORIGINS" in refused.json()["error"]["message"]
    assert (turns_of_mina(mina), len(upstream.requests)) == (1, 1)


def test_our_own_pages_programs_and_named_origins_may(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "cors_origins": "https://chat.example.com"}
    with agent_server(**options) as server:
        for headers in (
            {},
            {"Origin": server.url},
            {"Origin": server.url, "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://chat.example.com", "Sec-Fetch-Site": "cross-site"},
        ):
            assert server.post(ASKING, headers=headers).status_code == 200, headers


def test_a_key_is_enough(upstream_url: str) -> None:
    """A page of another site does not have it, and a cookie is not sent along from there."""
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key") as server:
        foreign = {"Origin": "https://evil.com", "Host": "evil.com"}
        assert server.post(ASKING, headers={**foreign, "Authorization": "Bearer key"}).status_code == 200
        assert server.post(ASKING, headers=foreign).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:23000", "127.0.0.1.evil.com", "localhost.evil.com", "evil.com."]
)
def test_a_name_that_was_pointed_at_this_machine_reads_and_deletes_nothing(mina: AgentServer, host: str) -> None:
    for method, path in (("GET", "/v1/sessions"), ("DELETE", "/v1/sessions/mina"), ("OPTIONS", "/v1/sessions")):
        refused = httpx.request(method, mina.url + path, headers={"Host": host})
        assert (refused.status_code, refused.json()["error"]["code"]) == (421, "host_not_allowed")
    assert turns_of_mina(mina) == 1


@pytest.mark.parametrize("host", ["", "a b", "a:b", "[::1", "me@localhost", "localhost/x", "localhost#", "localhost?"])
def test_a_host_that_is_none_is_refused(server: AgentServer, host: str) -> None:
    refused = httpx.get(f"{server.url}/v1/models", headers={"Host": host})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_host")


def test_whoever_watches_the_server_may_ask_under_any_name(server: AgentServer) -> None:
    assert httpx.get(f"{server.url}/health", headers={"Host": "evil.com"}).status_code == 200


async def test_a_page_of_another_site_opens_no_websocket() -> None:
    """LangGraph's platform has some."""
    sent: list[Any] = []

    async def app(*_: object) -> None:
        sent.append("opened")

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    guard = SiteGuard(app, hosts=["localhost"], origins=matching([]), needs_key=False)
    for host, origin in (("evil.com", None), ("localhost", "http://evil.com"), ("localhost", "http://localhost")):
        headers = [(b"host", host.encode()), *([(b"origin", origin.encode())] if origin else [])]
        await guard({"type": "websocket", "path": "/x", "headers": headers}, receive, send)
    assert sent == ["websocket.close", "websocket.close", "opened"]


def test_two_hosts_are_refused(server: AgentServer) -> None:
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 0)) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\nConnection: close\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_host" in answer


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:5", "192.168.0.7:23000", "a.localhost", "localhost."]
)
def test_this_machine_s_names_are_taken(server: AgentServer, host: str) -> None:
    assert httpx.get(f"{server.url}/v1/models", headers={"Host": host}).status_code == 200


def test_other_names_can_be_allowed(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "allowed_hosts": "agent, *.Example.com"}
    with agent_server(**options) as server:

        def status(host: str) -> int:
            return httpx.get(f"{server.url}/v1/models", headers={"Host": host}).status_code

        assert [status(host) for host in ("agent:80", "a.example.com", "a.b.example.com", "127.0.0.1")] == [200] * 4
        assert [status(host) for host in ("example.com", "localhost", "agent.com")] == [421] * 3


@given(st.text(max_size=30))
def test_no_host_is_taken_for_an_address_or_a_name_that_it_is_not(text: str) -> None:
    host = host_name(text)
    if host is not None and is_named(host, own_names("0.0.0.0")):
        assert not set(host) & set("/?#@ \\")
        assert host.removesuffix(".") in own_names("0.0.0.0") or host.endswith(".localhost") or set(host) & set(":.")


def test_pages_are_in_no_frame_and_nothing_is_sniffed(server: AgentServer) -> None:
    for path in ("/docs", "/redoc", "/agent/playground/"):
        page = httpx.get(server.url + path)
        assert page.headers["content-type"].startswith("text/html")
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "same-origin"
    for path in ("/docs", "/v1/models", "/nothing", "/openapi.json"):
        assert httpx.get(server.url + path).headers["x-content-type-options"] == "nosniff"


PAGE = """<!DOCTYPE html><title>evil</title>
<form id="form" method="post" action="{url}/v1/sessions/mina/reset" target="frame"><input name="a" value="b"></form>
<iframe name="frame"></iframe><iframe src="{url}/agent/playground/"></iframe>
<script>
  const body = JSON.stringify({{input: {{messages: [{{type: "human", content: "hello"}}]}}}});
  async function attack() {{
    const types = ["text/plain; charset=json", "text/plain, application/json", "multipart/form-data; boundary=json"];
    for (const type of types)
      await fetch("{url}/agent/invoke", {{method: "POST", mode: "no-cors", body, headers: {{"Content-Type": type}}}});
    navigator.sendBeacon("{url}/agent/invoke", new Blob([body], {{type: "text/plain;charset=json"}}));
    await fetch("{url}/v1/sessions/mina", {{method: "DELETE"}}).catch(() => 0);
    document.getElementById("form").submit();
  }}
</script>"""


@pytest.fixture
def evil_url(mina: AgentServer) -> Iterator[str]:
    """A page that attacks the server."""
    page = HTMLResponse(PAGE.format(url=mina.url))
    with served(Starlette(routes=[Route("/", lambda _: page)])) as url:
        yield url


def test_a_browser_on_another_site_s_page(mina: AgentServer, upstream: Upstream, evil_url: str) -> None:
    for page_url in (evil_url, evil_url.replace("127.0.0.1", "evil.test")):
        with chromium("http://", names={"evil.test": "127.0.0.1"}) as browser:
            page = browser.page()
            page.goto(page_url)
            with page.expect_response("**/reset") as reset:
                page.evaluate("attack()")
            assert reset.value.status == 403
            assert not any("playground" in frame.title() for frame in page.frames[1:])
            assert any("frame-ancestors" in said for said in browser.complaints), "our page is not shown in its frame"
    assert (turns_of_mina(mina), len(upstream.requests)) == (1, 1)


def test_a_browser_whose_page_was_pointed_at_this_machine(mina: AgentServer) -> None:
    rebound = mina.url.replace("127.0.0.1", "evil.test")
    with chromium("http://", names={"evil.test": "127.0.0.1"}) as browser:
        page = browser.page()
        shown = page.goto(f"{rebound}/v1/sessions")
        assert shown
        assert (shown.status, shown.json()["error"]["code"]) == (421, "host_not_allowed")
        assert page.evaluate("fetch('/v1/sessions/mina', {method: 'DELETE'}).then(r => r.status)") == 421
    assert turns_of_mina(mina) == 1
