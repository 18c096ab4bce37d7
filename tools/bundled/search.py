"""Web search as numbered text: a SearXNG instance where there is one, public engines through ddgs otherwise.

Source: https://docs.searxng.org/dev/search_api.html
"""

import asyncio
from collections.abc import Mapping, Sequence

import httpx
from ddgs import DDGS
from ddgs.exceptions import DDGSException

from tools.bundled.failure import ToolFailure

SNIPPET_LENGTH = 400
TIMEOUT = 10
NO_ANSWER = "The web search does not answer right now."


async def search_report(client: httpx.AsyncClient, query: str, limit: int, *, searxng_url: str | None) -> str:
    """Return up to `limit` results as "1. title", address and snippet, or a line that says there are none.

    Raises:
        ToolFailure: the search engine did not answer.
    """
    if searxng_url:
        results = await _ask_searxng(client, query, searxng_url)
    else:
        results = await _ask_public_engines(query, limit)
    if not results:
        return f"No results for {query!r}."
    return "\n\n".join(_entry(number, result) for number, result in enumerate(results[:limit], start=1))


async def _ask_searxng(client: httpx.AsyncClient, query: str, url: str) -> Sequence[Mapping[str, str]]:
    try:
        response = await client.get(f"{url.rstrip('/')}/search", params={"q": query, "format": "json"})
        response.raise_for_status()
        results = response.json()["results"]
        return [{"title": r["title"], "href": r["url"], "body": r.get("content") or ""} for r in results]
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise ToolFailure(NO_ANSWER) from error


async def _ask_public_engines(query: str, limit: int) -> Sequence[Mapping[str, str]]:
    try:
        return await asyncio.to_thread(DDGS(timeout=TIMEOUT).text, query, max_results=limit)
    except DDGSException as error:
        if "no results" in str(error).lower():
            return []
        raise ToolFailure(NO_ANSWER) from error


def _entry(number: int, result: Mapping[str, str]) -> str:
    return f"{number}. {result['title']}\n{result['href']}\n{result['body'][:SNIPPET_LENGTH]}"
