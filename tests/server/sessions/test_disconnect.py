"""A client that leaves stops the model, and its session goes on."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.upstream import Answer, Call, Upstream
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("every_database")

HOLDING = Answer(["Once ", "upon ", "a time"], hold=True)


@contextlib.contextmanager
def asking(server: AgentServer, *, stream: bool, session: str = "s", question: str = "tell") -> Iterator[Iterator[str]]:
    """Ask a question and be gone when this ends; not streamed there is nothing to read before the end."""
    body = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": question}]}
    url, headers = f"{server.url}/v1/chat/completions", {"X-Session-ID": session}
    if stream:
        with httpx.stream("POST", url, json=body, headers=headers) as response:
            yield response.iter_text()
    else:
        client = httpx.Client()

        def post() -> None:
            with contextlib.suppress(httpx.HTTPError, OSError):
                client.post(url, json=body, headers=headers, timeout=httpx.Timeout(5, read=1))

        thread = threading.Thread(target=post)
        thread.start()
        yield iter(())
        thread.join()
        client.close()


def read_until(parts: Iterator[str], text: str) -> None:
    """Read a stream up to a text."""
    received = ""
    while text not in received and (part := next(parts, None)):
        received += part


@pytest.mark.parametrize("stream", [True, False])
def test_a10_a_client_that_leaves_stops_the_model(server: AgentServer, upstream: Upstream, stream: bool) -> None:
    upstream.script(HOLDING)
    with asking(server, stream=stream) as parts:
        until(lambda: upstream.streaming == 1)
        read_until(parts, "a time")
    until(lambda: upstream.closed_early == 1, within=1.0)


@pytest.mark.parametrize("stream", [True, False])
def test_a10_a_cut_turn_keeps_the_question_and_what_was_said(
    server: AgentServer, upstream: Upstream, stream: bool
) -> None:
    upstream.script(HOLDING)
    with asking(server, stream=stream) as parts:
        until(lambda: upstream.streaming == 1)
        read_until(parts, "a time")
    server.ask("Go on.", session="s")
    shown = [(message["role"], message["content"]) for message in upstream.last["messages"][1:]]
    assert shown == [("user", "tell"), ("assistant", "Once upon a time"), ("user", "Go on.")]


def test_a10_a_tool_call_that_was_cut_short_has_a_result_in_the_next_turn(
    upstream: Upstream, upstream_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A search that never ends: its engine accepts connections and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("SEARXNG_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        upstream.script(Answer(["Searching."], calls=[Call("search_web", '{"query": "x"}')]))
        with agent_server(ollama_base_url=upstream_url) as server:
            with asking(server, stream=True) as parts:
                read_until(parts, "Searching.")
                silent.settimeout(10)
                connection, _ = silent.accept()
            server.ask("Never mind.", session="s")
            connection.close()
    user, assistant, tool, question = upstream.last["messages"][1:]
    assert (user["content"], assistant["content"], question["content"]) == ("tell", "Searching.", "Never mind.")
    assert tool["tool_call_id"] == assistant["tool_calls"][0]["id"]
    assert tool["content"] == "This tool call was interrupted; it has no result."


@pytest.mark.parametrize("gap", [0, 0.0003, 0.001, 0.005, 0.02])
def test_a10_a_client_that_leaves_stops_even_a_fast_model(server: AgentServer, upstream: Upstream, gap: float) -> None:
    upstream.otherwise = Answer(["word "] * 1_000_000, pause=gap)
    chance = random.Random(7)
    for number in range(8):
        with asking(server, stream=True, session=f"s{number}") as parts:
            leaves = time.monotonic() + chance.uniform(0, 0.2)
            while time.monotonic() < leaves:
                next(parts)
        until(lambda: upstream.streaming == 0, within=0.25)
    upstream.otherwise = Answer(["Still here."])
    assert server.ask("Are you there?", session="s0") == "Still here."


def test_a10_a_reader_that_takes_nothing_holds_a_fast_model_up(server: AgentServer, upstream: Upstream) -> None:
    sent = 0

    def counted() -> Iterator[str]:
        nonlocal sent
        for sent in range(1_000_000):  # noqa: B007 - it is read outside
            yield "word " * 100

    upstream.script(Answer(counted()))  # type: ignore[arg-type]  # endless, or nearly
    with asking(server, stream=True) as parts:
        next(parts)
        before = -1
        while sent != before:  # until the buffers between them are full
            before = sent
            time.sleep(0.3)
        assert sent < 100_000
    until(lambda: upstream.streaming == 0)


def test_a10_clients_that_leave_at_any_moment_do_no_harm(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer([f"piece {n} " for n in range(20)], pause=0.01)
    chance = random.Random(7)
    for number in range(30):
        with asking(server, stream=True, session=f"s{number % 3}", question=f"question {number}") as parts:
            read_until(parts, f"piece {chance.randrange(20)} ")
    until(lambda: upstream.streaming == 0)
    upstream.otherwise = Answer(["Still here."])
    for number in range(3):
        assert server.ask("Are you there?", session=f"s{number}") == "Still here."
        roles = [message["role"] for message in upstream.last["messages"][1:]]
        assert roles[-1] == "user"
        assert roles.count("user") == 11
