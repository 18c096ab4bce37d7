"""How much a session may have to go on, and how much a key may store."""

import os
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.databases import SQLITE, select
from tests.support.upstream import Answer, Call, Upstream

pytestmark = pytest.mark.usefixtures("every_database")
MOST = 200_000


def kept() -> dict[str, tuple[int, int]]:
    """For each session, the bytes that the index has counted, and the bytes that are in the tables."""
    url = os.environ.get("CHECKPOINT_URL", SQLITE)
    values = ["checkpoints.checkpoint", "writes.value"]
    if url != SQLITE:
        values = ["checkpoint_blobs.blob", "checkpoint_writes.blob"]
    sums = [
        f"(SELECT coalesce(sum(length({value})), 0) FROM {(table := value.split('.')[0])} "
        f"WHERE {table}.thread_id = sessions.thread_id)"
        for value in values
    ]
    rows = select(url, f"SELECT id, bytes, {' + '.join(sums)} FROM sessions")
    return {name: (told, int(there)) for name, told, there in rows}


def stored(session: str = "s") -> int:
    told, there = kept()[session]
    assert told == there, "what is counted is what is there"
    return told


def test_a_session_that_has_stored_too_much_does_not_go_on(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, session_max_bytes=MOST) as server:
        for turns in range(100):
            question = {"role": "user", "content": f"{turns} {'x' * 20_000}"}
            body = {"model": MODEL, "messages": [question], "session_id": "s"}
            if (refused := server.post(body, headers={"X-Session-Mode": "append"})).is_error:
                break
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "session_too_large")
        assert 2 < turns < 12
        assert MOST < stored() < 2 * MOST
        asked = len(upstream.requests)
        read = httpx.get(f"{server.url}/v1/sessions/s/messages").json()["data"]
        assert len(read) == 2 * turns
        assert httpx.post(f"{server.url}/v1/sessions/s/reset").is_success
        assert stored() == 0
        assert server.ask("again", session="s")
        assert 0 < stored() < MOST
        assert len(upstream.requests) == asked + 1


def test_what_is_regenerated_counts_with_the_results_that_it_copies(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, session_max_bytes=MOST) as server:
        once = grown(server, upstream, times=1)
        many = grown(server, upstream, times=100)
    assert once < many < 2 * MOST


def grown(server: AgentServer, upstream: Upstream, *, times: int) -> int:
    """Regenerate the second answer of a session so many times, or until it is refused, and return what is stored."""
    session = f"regenerated {times}".replace(" ", "-")
    upstream.otherwise = Answer(["short"])
    upstream.script(Answer(calls=[Call("nothing", '{"q": "' + "x" * 30_000 + '"}')]))
    first = [{"role": "user", "content": "one"}]
    answer = server.post({"model": MODEL, "messages": first, "session_id": session}).json()["choices"][0]["message"]
    body = {"model": MODEL, "messages": [*first, answer, {"role": "user", "content": "two"}], "session_id": session}
    for _ in range(times + 1):
        if (refused := server.post(body)).is_error:
            assert refused.json()["error"]["code"] == "session_too_large"
            break
    return stored(session)


def test_a_key_stores_so_much_in_all_its_sessions(upstream: Upstream, upstream_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[mina]\nkey = "key-of-mina"\nstored_bytes = 100_000\n[jun]\nkey = "key-of-jun"\n')
    text = "x" * 20_000
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys_file=keys) as server:

        def ask(session: str, key: str = "key-of-mina") -> None:
            with server.client(key=key, session=session, retries=2) as client:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])

        for number in range(3):
            ask(f"s{number}")
        asked = len(upstream.requests)
        with pytest.raises(openai.RateLimitError) as refused:
            ask("s3")
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert len(upstream.requests) == asked
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "store": False}
        headers = {"Authorization": "Bearer key-of-mina"}
        assert server.post(body, headers=headers).status_code == 200, "what is not stored needs no room"
        conversation = {"input": {"messages": [{"role": "user", "content": text}]}}
        other_door = httpx.post(f"{server.url}/agent/invoke", json=conversation, headers=headers, timeout=30)
        assert other_door.status_code == 429
        ask("s0", "key-of-jun")
        assert httpx.delete(f"{server.url}/v1/sessions/s0", headers=headers).is_success
        ask("s3")
