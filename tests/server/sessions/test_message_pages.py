"""Reading a session's messages page by page."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from tests.support.agent_server import AgentServer

pytestmark = pytest.mark.usefixtures("every_database")


@pytest.fixture
def url(server: AgentServer) -> str:
    for at in range(3):
        server.ask(f"q{at}", session="mina")
    return f"{server.url}/v1/sessions/mina/messages"


@tried(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 8))
def test_the_pages_are_the_whole(url: str, limit: int) -> None:
    whole = httpx.get(url).json()
    assert (len(whole["data"]), whole["has_more"]) == (6, False)
    paged: list[Any] = []
    has_more = True
    while has_more:
        page = httpx.get(url, params={"limit": limit, "after": len(paged)}).json()
        assert len(page["data"]) <= limit
        paged += page["data"]
        has_more = page["has_more"]
    assert paged == whole["data"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"after": -1}, {"limit": "x"}])
def test_a_page_that_is_none_is_refused(url: str, query: dict[str, int | str]) -> None:
    refused = httpx.get(url, params=query)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(query)))
