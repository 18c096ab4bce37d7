"""A session of a hundred thousand messages."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.agent_server import HELLO, MODEL, AgentServer
from tests.support.command import serving, without_tools
from tests.support.health import responsive
from tests.support.upstream import Answer, Upstream
from tests.support.waiting import until

MANY = 50_000
UNBOUNDED = {"MAX_MESSAGES": "1000000", "MAX_VALUES": "10000000", "MAX_REQUEST_BYTES": "100000000"}


@pytest.fixture
def settings(upstream_url: str, tmp_path: Path) -> dict[str, str]:
    database = f"sqlite:///{tmp_path / 'agent.db'}"
    return without_tools(upstream_url, CHECKPOINT_URL=database)


@pytest.fixture
def server(upstream: Upstream, settings: dict[str, str]) -> Iterator[AgentServer]:
    """A server with the session, which was made when it had no bounds."""
    upstream.otherwise = Answer(["ok"])
    asked = [{"role": role, "content": f"m{at}"} for at in range(MANY) for role in ("user", "assistant")] + [HELLO]
    with serving("serve", **settings, **UNBOUNDED) as (_, server):
        assert server.post({"model": MODEL, "messages": asked}, headers={"X-Session-ID": "long"}).status_code == 200
    with serving("serve", **settings) as (_, server):
        yield server


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_a_long_session_is_read_in_pages_and_does_not_go_on(server: AgentServer, upstream: Upstream) -> None:
    url, asked = f"{server.url}/v1/sessions/long/messages", len(upstream.requests)
    with responsive(server):
        first = httpx.get(url, timeout=60).json()
        last = httpx.get(url, params={"after": 2 * MANY, "limit": 10}, timeout=60).json()
    assert (len(first["data"]), first["has_more"]) == (1_000, True)
    assert [message["content"] for message in last["data"]] == ["hello", "ok"]
    assert not last["has_more"]
    more = {"model": MODEL, "messages": [{"role": "user", "content": "more"}]}
    with responsive(server):
        refused = server.post(more, headers={"X-Session-ID": "long", "X-Session-Mode": "append"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "session_too_long")
    assert len(upstream.requests) == asked
    with responsive(server):
        assert httpx.delete(f"{server.url}/v1/sessions/long", timeout=60).status_code == 200
    until(lambda: server.post(more, headers={"X-Session-ID": "long"}).status_code == 200)
