"""The pages, as a person with a browser and without the internet finds them."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.agent_server import AgentServer, agent_server
from tests.support.browser import chromium
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until


def open_playground(page: Page, server: AgentServer) -> None:
    """Open the chat playground and wait until it knows what to send."""
    with page.expect_response("**/input_schema"), page.expect_response("**/output_schema"):
        page.goto(f"{server.url}/agent/playground/")


def wait_for_the_end(page: Page) -> None:
    """Wait until the answer is whole: a wheel turns meanwhile."""
    expect(page.locator("button svg[aria-hidden]")).to_have_count(0)


def ask(page: Page, question: str) -> None:
    """Type a question into the chat playground and send it, once the answer before it has ended."""
    wait_for_the_end(page)
    page.get_by_placeholder("Send a message...").fill(question)
    page.get_by_placeholder("Send a message...").press("Enter")


def said(page: Page) -> list[str]:
    """Return the conversation that the chat playground shows, from its beginning."""
    return [box.input_value() for box in page.locator(".group textarea").all()][::-1]


def test_the_playground_streams_a_tool_s_answer_and_knows_it_in_the_next_question(
    weather_server: AgentServer, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.script(
        Answer(calls=[Call("get_weather", '{"city": "서울"}')]),
        Answer(["서울은 지금 ", "5.3 °C이고 "], hold=True),
    )
    with chromium(weather_server.url) as browser:
        page = browser.page()
        open_playground(page, weather_server)
        ask(page, "서울 날씨 어때?")
        expect(page.locator(".group textarea").first).to_have_value("서울은 지금 5.3 °C이고 ")
        assert upstream.streaming == 1, "it is shown while it comes"
        open_playground(page, weather_server)  # whoever leaves stops the model
        until(lambda: upstream.closed_early == 1)

        upstream.script(
            Answer(calls=[Call("get_weather", '{"city": "서울"}')]),
            Answer(["서울은 지금 5.3 °C이고 ", "약한 비가 옵니다."]),
            Answer(["네, 우산을 ", "가져가세요."]),
        )
        ask(page, "서울 날씨 어때?")
        expect(page.locator(".group textarea").first).to_have_value("서울은 지금 5.3 °C이고 약한 비가 옵니다.")
        ask(page, "그럼 우산이 필요할까?")
        expect(page.locator(".group textarea").first).to_have_value("네, 우산을 가져가세요.")
        assert said(page) == [
            "서울 날씨 어때?",
            "서울은 지금 5.3 °C이고 약한 비가 옵니다.",
            "그럼 우산이 필요할까?",
            "네, 우산을 가져가세요.",
        ]
        page.screenshot(path=tmp_path / "playground.png")
        assert (browser.strayed, browser.complaints) == ([], [])
    roles = [message["role"] for message in upstream.last["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"], "nothing twice, the result kept"
    sessions = httpx.get(f"{weather_server.url}/v1/sessions").json()["data"]
    assert [session["turns"] for session in sessions] == [2, 1], "one session for each time that the page was loaded"


def test_a_key_that_ends_a_korean_syllable_does_not_send_the_question(server: AgentServer, upstream: Upstream) -> None:
    with chromium(server.url) as browser:
        page = browser.page()
        open_playground(page, server)
        page.get_by_placeholder("Send a message...").click()
        keyboard = page.context.new_cdp_session(page)
        enter = {"type": "rawKeyDown", "key": "Enter", "code": "Enter"}
        keyboard.send("Input.insertText", {"text": "안녕하세"})
        keyboard.send("Input.imeSetComposition", {"text": "요", "selectionStart": 1, "selectionEnd": 1})
        keyboard.send("Input.dispatchKeyEvent", {**enter, "windowsVirtualKeyCode": 229})
        keyboard.send("Input.insertText", {"text": "요"})
        expect(page.get_by_placeholder("Send a message...")).to_have_value("안녕하세요")
        keyboard.send("Input.dispatchKeyEvent", {**enter, "windowsVirtualKeyCode": 13})
        expect(page.locator(".group textarea").first).to_have_value("You said: 안녕하세요")
        expect(page.get_by_placeholder("Send a message...")).to_have_value("")
        assert said(page) == ["안녕하세요", "You said: 안녕하세요"]
    assert len(upstream.requests) == 1


def test_an_edited_question_makes_a_branch(server: AgentServer) -> None:
    with chromium(server.url) as browser:
        page = browser.page()
        open_playground(page, server)
        newest = page.locator(".group").first
        for question in ("하나", "둘"):
            ask(page, question)
            expect(newest.locator("textarea")).to_have_value(f"You said: {question}")
        wait_for_the_end(page)
        newest.locator("svg").last.dispatch_event("mouseup")  # its bin
        newest.locator("textarea").fill("셋")
        newest.locator("textarea").press("Enter")
        expect(newest.locator("textarea")).to_have_value("You said: 셋")
        assert browser.complaints == []
    (session,) = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    assert (session["turns"], session["branches"]) == (2, 2)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(status=400, error="no such thing"), "no such thing"),
        (Answer(["Half an "], finish_reason="", usage=None), "ended in the middle"),
    ],
    ids=["at once", "in the middle"],
)
def test_f13_the_playground_shows_a_failure_and_does_not_keep_it(
    server: AgentServer, upstream: Upstream, answer: Answer, told: str
) -> None:
    with chromium(server.url) as browser:
        page = browser.page()
        open_playground(page, server)
        ask(page, "first")
        expect(page.locator(".group textarea").first).to_have_value("You said: first")
        upstream.script(answer)
        ask(page, "hello")
        shown = page.get_by_role("alert")
        for text in ("답변을 받지 못했습니다", "No answer came", told):
            expect(shown).to_contain_text(text)
        expect(shown).to_be_in_viewport(ratio=1)
        expect(page.get_by_placeholder("Send a message...")).to_have_value("hello")
        assert said(page) == ["first", "You said: first"], "nothing of it is part of the conversation"
        wait_for_the_end(page)
        page.get_by_placeholder("Send a message...").press("Enter")  # the question is still there
        expect(page.locator(".group textarea").first).to_have_value("You said: hello")
        expect(shown).to_have_count(0)
        assert browser.strayed == []
    texts = [message["content"] for message in upstream.last["messages"][1:]]
    assert texts == ["first", "You said: first", "hello"], "nor of what the model reads"
    (session,) = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    assert (session["turns"], session["branches"]) == (2, 1)


def test_f13_the_playground_shows_why_a_question_is_refused(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, max_request_bytes=2000) as server:
        with chromium(server.url) as browser:
            page = browser.page()
            open_playground(page, server)
            ask(page, "hello " * 400)
            shown = page.get_by_role("alert")
            expect(shown).to_contain_text("The request is larger than 2000 bytes.")
            shown.click()
            expect(shown).to_have_count(0)


def test_the_playground_fits_a_phone(server: AgentServer) -> None:
    with chromium(server.url) as browser:
        page = browser.page()
        page.set_viewport_size({"width": 390, "height": 760})
        open_playground(page, server)
        ask(page, "서울 날씨 어때? " * 5)
        for shown in (page.locator(".group select").last, page.get_by_placeholder("Send a message...")):
            expect(shown).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_playground_tells_of_a_server_that_is_away(server: AgentServer) -> None:
    with chromium(server.url) as browser:
        page = browser.page()
        open_playground(page, server)
        page.route("**/stream_log", lambda route: route.abort("connectionrefused"))
        ask(page, "hello")
        for text in ("서버에 연결할 수 없습니다", "The server cannot be reached"):
            expect(page.get_by_role("alert")).to_contain_text(text)
        page.unroute("**/stream_log")
        page.get_by_placeholder("Send a message...").press("Enter")  # the question is still there
        expect(page.locator(".group textarea").first).to_have_value("You said: hello")


@pytest.mark.parametrize("path", ["/agent/playground/", "/docs", "/redoc"])
def test_a_key_logs_a_browser_in(upstream_url: str, path: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key-a,key-b") as server:
        with chromium(server.url) as browser:
            page = browser.page()
            page.goto(server.url + path)
            for key in ("wrong", "key-b"):
                page.get_by_label("API 키").fill(key)
                page.get_by_role("button").click()
                if key == "wrong":
                    expect(page.get_by_role("alert")).to_contain_text("키가 맞지 않습니다")
            page.wait_for_url(server.url + path)
            page.wait_for_load_state("networkidle")
            if path == "/agent/playground/":
                ask(page, "안녕")
                expect(page.locator(".group textarea").first).to_have_value("You said: 안녕")
            else:
                expect(page.get_by_text("/v1/chat/completions").first).to_be_visible()
            (cookie,) = browser.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            assert "key-b" not in cookie["value"]
            assert browser.strayed == []


@pytest.mark.parametrize("api_keys", ["", "key"])
def test_try_it_out_answers(upstream_url: str, api_keys: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys=api_keys) as server:
        with chromium(server.url) as browser:
            page = browser.page()
            page.goto(f"{server.url}/docs")
            if api_keys:
                page.get_by_label("API 키").fill("key")
                page.get_by_role("button").click()
            operation = page.locator(".opblock", has_text="/v1/chat/completions")
            operation.locator("button").first.click()
            operation.get_by_role("button", name="Try it out").click()
            operation.get_by_role("button", name="Execute").click()
            answered = operation.locator(".live-responses-table .highlight-code").first
            expect(answered).to_contain_text("You said: How is the weather in Seoul?")
            assert browser.strayed == []


def test_redoc_shows_the_api_without_the_internet(server: AgentServer) -> None:
    with chromium(server.url) as browser:
        page = browser.page()
        page.goto(f"{server.url}/redoc")
        expect(page.get_by_role("heading", name="Create Chat Completion")).to_be_visible()
        assert browser.strayed == []
