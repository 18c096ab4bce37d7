"""A browser's way past the keys: a form, and a pass in a cookie."""

from collections.abc import Iterator

import httpx
import pytest

from server.http.keys import load_key, make_pass
from server.http.login import COOKIE
from tests.support.agent_server import AgentServer, agent_server

HTML = {"Accept": "text/html"}
KEY = "key-b"


@pytest.fixture
def guarded(upstream_url: str) -> Iterator[AgentServer]:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys=f"key-a,{KEY}") as server:
        yield server


@pytest.fixture
def browser(guarded: AgentServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, headers={"Origin": guarded.url}) as client:
        yield client


def test_only_pages_ask_for_a_key_with_a_form(browser: httpx.Client) -> None:
    for page in ("/", "/docs", "/redoc", "/agent/playground/", "/agent/playground"):
        shown = browser.get(page, headers=HTML)
        assert (shown.status_code, shown.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert browser.get(page).json()["error"]["type"] == "invalid_request_error", "for programs"
    assert browser.get("/v1/models", headers=HTML).json()["error"]["type"] == "invalid_request_error"


def test_a_key_is_given_for_a_pass_which_opens_all_that_the_key_does(
    guarded: AgentServer, browser: httpx.Client
) -> None:
    assert browser.post("/login", data={"key": "wrong", "page": "/docs"}).status_code == 401
    entered = browser.post("/login", data={"key": KEY, "page": "/docs"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/docs")
    assert "httponly" in entered.headers["set-cookie"].lower()
    assert "samesite=strict" in entered.headers["set-cookie"].lower()
    assert KEY not in browser.cookies[COOKIE]
    with guarded.client(key=KEY, session="s") as client:
        client.chat.completions.create(model="test-model", messages=[{"role": "user", "content": "x"}])
    assert browser.get("/v1/sessions/s").status_code == 200, "the pass is its key's principal"
    assert browser.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
    left = browser.get("/logout")
    assert (left.status_code, left.headers["location"], COOKIE in left.cookies) == (303, "/agent/playground/", False)
    assert browser.get("/v1/models").status_code == 401


def test_a_form_that_is_none_opens_nothing_and_holds_nobody_up(browser: httpx.Client) -> None:
    for form in (b"", b"key", "&".join(f"a{number}=1" for number in range(400)).encode(), b"\xff=%zz"):
        assert browser.post("/login", content=form).status_code == 401
    assert browser.post("/login", content=b"key=" + b"%61" * 1_000_000).status_code == 413


def test_without_keys_nobody_logs_in(server: AgentServer) -> None:
    assert httpx.post(f"{server.url}/login", data={"key": "x"}).status_code == 404
    assert httpx.get(f"{server.url}/docs", headers=HTML).status_code == 200


def test_without_the_playground_the_way_in_leads_to_the_docs(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys=KEY, playground=False) as server:
        entered = httpx.post(f"{server.url}/login", data={"key": KEY, "page": "/agent/playground/"})
    assert entered.headers["location"] == "/docs"


@pytest.mark.parametrize("page", ["https://example.com/", "//example.com", "/v1/models", ""])
def test_the_form_leads_nowhere_but_to_our_pages(browser: httpx.Client, page: str) -> None:
    entered = browser.post("/login", data={"key": KEY, "page": page})
    assert (entered.status_code, entered.headers["location"]) == (303, "/agent/playground/")


@pytest.mark.parametrize(
    "elsewhere", [{"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}]
)
def test_pages_of_others_can_use_no_pass_and_log_nobody_in(browser: httpx.Client, elsewhere: dict[str, str]) -> None:
    browser.post("/login", data={"key": KEY})
    assert browser.get("/v1/models").status_code == 200
    assert browser.get("/v1/models", headers=elsewhere).status_code == 401
    assert browser.post("/login", data={"key": KEY}, headers=elsewhere).status_code == 403


def test_a_pass_is_good_until_it_expires_and_cannot_be_forged(guarded: AgentServer) -> None:
    key = load_key(KEY)
    expiry, _, signature = make_pass(key).partition(".")
    stale, strange = make_pass(key, seconds=-1), make_pass(load_key("other"))
    passes = {f"{expiry}.{signature}": 200, stale: 401, strange: 401, f"{int(expiry) + 1}.{signature}": 401}
    for given in ("nan." + signature, "inf.x", f"{expiry}.", f"{expiry}.ä", signature, ".", ""):
        passes[given] = 401
    for given, status in passes.items():
        cookie = [(b"Cookie", f"{COOKIE}={given}".encode())]
        assert httpx.get(f"{guarded.url}/v1/models", headers=cookie).status_code == status, given
