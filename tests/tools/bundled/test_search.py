"""Web search as a model reads it: a SearXNG instance over TCP, and public engines that cannot be reached."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.support.loopback import free_port, served
from tools.bundled.failure import ToolFailure
from tools.bundled.search import search_report

NO_ANSWER = "The web search does not answer right now."

RESULTS: Sequence[Mapping[str, Any]] = [
    {
        "title": f"Title {number}",
        "url": f"https://example.org/{number}",
        "content": f"Content {number}.",
        "engine": "mojeek",
        "score": 1.0 / number,
    }
    for number in range(1, 9)
]


class SearXNG:
    """A search engine that always finds the same; `queries` is what it was asked."""

    def __init__(self, *results: Mapping[str, Any]) -> None:
        self.queries: list[dict[str, str]] = []
        self._results = results
        self.app = Starlette(routes=[Route("/search", self._search)])

    async def _search(self, request: Request) -> Response:
        self.queries.append(dict(request.query_params))
        return JSONResponse({"query": request.query_params["q"], "results": list(self._results)})


async def report(url: str | None, query: str = "엔비디아 주가", limit: int = 5) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await search_report(client, query, limit, searxng_url=url)


async def refusal(url: str | None) -> str:
    with pytest.raises(ToolFailure) as failure:
        await report(url)
    return str(failure.value)


def answering(response: Response) -> Starlette:
    async def answer(_: Request) -> Response:
        return response

    return Starlette(routes=[Route("/search", answer)])


async def test_results_are_numbered_with_title_address_and_snippet() -> None:
    with served(SearXNG(*RESULTS[:2]).app) as url:
        assert await report(url) == (
            "1. Title 1\nhttps://example.org/1\nContent 1.\n\n2. Title 2\nhttps://example.org/2\nContent 2."
        )


async def test_the_query_is_passed_on_as_it_is() -> None:
    engine = SearXNG(*RESULTS)
    with served(engine.app) as url:
        await report(url, "C++ & 한국어 100%?")
    assert engine.queries == [{"q": "C++ & 한국어 100%?", "format": "json"}]


async def test_an_address_of_the_engine_may_end_in_a_slash() -> None:
    with served(SearXNG(*RESULTS).app) as url:
        assert (await report(f"{url}/")).startswith("1. Title 1\n")


@pytest.mark.parametrize(("limit", "last"), [(1, 1), (3, 3), (8, 8), (10, 8)])
async def test_no_more_results_than_the_limit_and_the_best_ones_first(limit: int, last: int) -> None:
    with served(SearXNG(*RESULTS).app) as url:
        entries = (await report(url, limit=limit)).split("\n\n")
    assert [entry.partition("\n")[0] for entry in entries] == [f"{n}. Title {n}" for n in range(1, last + 1)]


async def test_no_results_is_a_line_that_says_so() -> None:
    with served(SearXNG().app) as url:
        assert await report(url) == "No results for '엔비디아 주가'."


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
async def test_a_result_without_content_is_title_and_address(content: dict[str, str | None]) -> None:
    with served(SearXNG({"title": "T", "url": "https://example.org/", **content}).app) as url:
        assert (await report(url)).strip() == "1. T\nhttps://example.org/"


async def test_a_long_snippet_is_cut() -> None:
    with served(SearXNG({"title": "T", "url": "https://example.org/", "content": "x" * 5000}).app) as url:
        assert (await report(url)).count("x") == 400 + "https://example.org/".count("x")


async def test_an_engine_that_is_down_is_a_sentence() -> None:
    assert await refusal(f"http://127.0.0.1:{free_port()}") == NO_ANSWER


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(JSONResponse({}, status_code=500), id="status 500"),
        pytest.param(PlainTextResponse("slow down", status_code=429), id="status 429"),
        pytest.param(HTMLResponse("<h1>Forbidden</h1>", status_code=403), id="JSON switched off"),
        pytest.param(HTMLResponse("<h1>SearXNG</h1>"), id="HTML"),
        pytest.param(JSONResponse({"query": "q"}), id="without results"),
        pytest.param(JSONResponse(["result"]), id="list"),
        pytest.param(JSONResponse(None), id="null"),
        pytest.param(JSONResponse({"results": [{"title": "T"}]}), id="result without address"),
        pytest.param(JSONResponse({"results": None}), id="null results"),
        pytest.param(JSONResponse({"results": ["text"]}), id="result is text"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_a_sentence(answer: Response) -> None:
    with served(answering(answer)) as url:
        assert await refusal(url) == NO_ANSWER


async def test_public_engines_that_cannot_be_reached_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{free_port()}")
    assert await refusal(None) == NO_ANSWER


async def test_an_empty_setting_for_the_engine_means_the_public_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{free_port()}")
    assert await refusal("") == NO_ANSWER
