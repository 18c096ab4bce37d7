"""Long conversations: what the model is shown fits, whatever was said before, and is summarized once."""

import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from graph.history import paired
from graph.model.client import open_model
from graph.model.settings import ModelSettings
from graph.model.tokens import most_tokens
from graph.model.windows import load_windows, window_in
from graph.state import TurnContext
from graph.storage.opening import open_checkpointer
from graph.storage.summaries import Summaries
from graph.window import GAP, LEFT_OUT, Window
from tests.support.agent_server import AgentServer, agent_server
from tests.support.loopback import served
from tests.support.responses import create, get, post, text_of
from tests.support.upstream import Answer, Json, Raw, Upstream, frame

SYSTEM = SystemMessage("You are an assistant.")
THREAD = "11111111-1111-1111-1111-111111111111"
WINDOW = 1_000
# A turn that does not fit cannot be made to: the newest one is shown whole.
TEXTS = st.text(st.sampled_from("ab 안녕\n"), min_size=1, max_size=300)
TURNS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=2), TEXTS), min_size=1, max_size=40)


def conversation(turns: Sequence[tuple[str, Sequence[str], str]]) -> list[AnyMessage]:
    """Return the messages of turns, each with a question, results of tools and an answer; the last is not answered."""
    messages: list[AnyMessage] = []
    for at, (question, results, answer) in enumerate(turns):
        messages.append(HumanMessage(question, id=f"h{at}"))
        calls = [ToolCall(name="look", args={}, id=f"c{at}-{n}", type="tool_call") for n in range(len(results))]
        if calls:
            messages.append(AIMessage("", tool_calls=calls, id=f"a{at}"))
        for call, result in zip(calls, results, strict=True):
            messages.append(ToolMessage(result, tool_call_id=str(call["id"]), name="look", id=f"r{call['id']}"))
        if at < len(turns) - 1:
            messages.append(AIMessage(answer, id=f"b{at}"))
    return messages


@asynccontextmanager
async def window(upstream_url: str, tokens: int = WINDOW) -> AsyncIterator[Window]:
    chosen = ModelSettings(ollama_model="test-model", ollama_base_url=upstream_url)
    async with open_model(chosen) as model, open_checkpointer("memory://") as saver:
        yield Window(model, tokens, Summaries(saver.database))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=TURNS, fork=st.integers(0, 39))
def test_what_is_shown_fits_and_is_whole_where_it_must_be(
    upstream: Upstream, upstream_url: str, turns: list[tuple[str, list[str], str]], fork: int
) -> None:
    upstream.otherwise = lambda _: Answer(["They talked. 이야기했다. " * 40])

    async def run() -> None:
        async with window(upstream_url) as fitted:
            for branch in (turns, turns[: max(fork, 1)], turns):
                messages = conversation(branch)
                prompt = await fitted.prompt(SYSTEM, messages, [], TurnContext(), THREAD)
                check_shown(prompt.messages, messages)
            asked = len(upstream.requests)
            again = await fitted.prompt(SYSTEM, conversation(turns), [], TurnContext(), THREAD)
            assert len(upstream.requests) == asked, "a summary is made once"
            assert again.messages == prompt.messages

    anyio.run(run)


def check_shown(shown: Sequence[AnyMessage], messages: Sequence[AnyMessage]) -> None:
    """Check what the model is shown of a conversation."""
    assert most_tokens(shown) <= WINDOW
    assert shown[0] == SYSTEM
    newest = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    tail = shown[len(shown) - (len(messages) - newest) :]
    assert str(tail[0].text).endswith(str(messages[newest].text))
    assert list(tail[1:]) == list(messages[newest + 1 :])
    assert paired(shown[1:]) == list(shown[1:]), "each call has its result"
    assert sum(isinstance(message, HumanMessage) for message in shown) >= 1
    assert not any(
        isinstance(one, HumanMessage) and isinstance(next_one, HumanMessage)
        for one, next_one in itertools.pairwise(shown)
    )


def test_windows_are_read_from_lists_and_from_refusals() -> None:
    assert load_windows({"data": [{"id": "a", "max_model_len": 8192}, {"id": "b"}, 1]}) == {"a": 8192}
    assert load_windows({"models": [{"name": "c", "meta": {"n_ctx": 4096, "n_ctx_train": 99}}]}) == {"c": 4096}
    assert load_windows("nothing") == load_windows({"data": None}) == {}
    told = "This model's maximum context length is 4,096 tokens. However, you requested 9000 tokens."
    assert window_in(told) == 4096
    assert window_in("the request exceeds the available context size (2048 tokens), try increasing it") == 2048
    for words in (
        "Trying to keep the first 6269 tokens when context overflows; the model's context length is only 4096 tokens",
        "Requested tokens (9000) exceed context window of 4096",
        "You asked for 9000 tokens, but at most 4096 tokens of context are there.",
    ):
        assert window_in(words) == 4096
    for words in ("too long", "error code 400: context length exceeded", "Status 400: context too long"):
        assert window_in(words) is None


@contextmanager
def chatty(upstream: Upstream, **settings: Any) -> Iterator[AgentServer]:
    """Serve the agent before a model that answers at length and summarizes in a line."""

    def model(request: Json) -> Answer:
        if "Summarize" in str(request["messages"][0]["content"]):
            return Answer(["Mina has a cat."], usage=(70, 7))
        return Answer([f"Answer {len(upstream.requests)}. " + "And so on. " * 30], usage=(10, 5))

    upstream.otherwise = model
    with (
        served(upstream.app) as url,
        agent_server(ollama_base_url=f"{url}/v1", use_mcp_tools=False, **settings) as server,
    ):
        yield server


def summaries(upstream: Upstream) -> int:
    return sum("Summarize" in str(request["messages"][0]["content"]) for request in upstream.requests)


def contents(upstream: Upstream) -> str:
    return json.dumps(upstream.last["messages"])


def test_the_client_never_notices_and_every_word_is_kept(upstream: Upstream) -> None:
    with chatty(upstream, context_window=WINDOW) as server:
        asked = [f"Question {n}?" for n in range(12)]
        for question in asked:
            answer = server.ask(question, session="s")
        assert summaries(upstream) in (1, 2, 3, 4)
        assert "Mina has a cat." in contents(upstream)
        assert "Question 0?" not in contents(upstream)
        with server.client(session="s") as client:
            kept = client.get("/sessions/s/messages", cast_to=dict[str, Any])["data"]
        assert [message["content"] for message in kept if message["role"] == "user"] == asked
        assert kept[-1]["content"] == answer

        # A branch that was left before the summary was made has what it covers, and uses it.
        made = summaries(upstream)
        history = [{"role": one["role"], "content": one["content"]} for one in kept[:-2]]
        again = {"model": "test-model", "messages": [*history, {"role": "user", "content": "Or else?"}]}
        assert server.post(again, headers={"X-Session-ID": "s"}).status_code == 200
        assert summaries(upstream) == made
        assert "Mina has a cat." in contents(upstream)


def test_the_window_is_learnt_from_the_list_and_from_a_refusal(upstream: Upstream) -> None:
    with chatty(upstream) as server:
        for n in range(8):
            server.ask(f"Question {n}?", session="s")
        assert summaries(upstream) == 0, "nobody knows the window"
        told = "This model's maximum context length is 800 tokens. However, your messages resulted in 1200 tokens."
        upstream.script(Answer(status=400, error=told))
        assert server.ask("One more?", session="s").startswith("Answer")
        assert summaries(upstream) >= 1
        assert "One more?" in contents(upstream)


def test_a_model_that_finds_its_answer_too_long_in_the_middle_is_not_asked_again(upstream: Upstream) -> None:
    error = {"error": {"message": "This model's maximum context length is 800 tokens."}}
    with chatty(upstream) as server:
        for n in range(8):
            server.ask(f"Question {n}?", session="s")
        asked = len(upstream.requests)
        upstream.script(Raw([frame({"content": "Half"}), f"data: {json.dumps(error)}\n\n"]))
        answer = server.post({"model": "test-model", "messages": [{"role": "user", "content": "?"}], "stream": True})
        assert answer.text.count("Half") == 1
        assert "context_length_exceeded" in answer.text
        assert len(upstream.requests) == asked + 1


def test_the_tokens_of_a_summary_count_as_read(upstream: Upstream) -> None:
    with chatty(upstream, context_window=WINDOW) as server, server.client(session="s") as client:
        totals = []
        for n in range(12):
            made = summaries(upstream)
            completion = client.chat.completions.create(
                model="test-model", messages=[{"role": "user", "content": f"Question {n}?"}]
            )
            assert completion.usage
            totals.append((summaries(upstream) - made, completion.usage.prompt_tokens))
        assert all(tokens == 10 + 70 * summed for summed, tokens in totals)
        assert any(summed for summed, _ in totals)


def test_where_no_summary_can_be_made_the_oldest_turns_are_left_out(upstream: Upstream) -> None:
    def model(request: Json) -> Answer:
        if "Summarize" in str(request["messages"][0]["content"]):
            return Answer(status=500, error="no")
        return Answer(["And so on. " * 40])

    with chatty(upstream, context_window=WINDOW) as server:
        upstream.otherwise = model
        for n in range(8):
            server.ask(f"Question {n}?", session="s")
        assert LEFT_OUT in contents(upstream)
        assert "Question 7?" in contents(upstream)


def test_where_no_summary_can_be_made_the_older_one_is_shown(upstream: Upstream) -> None:
    with chatty(upstream, context_window=WINDOW) as server:
        number = itertools.count()
        while not summaries(upstream):
            server.ask(f"Question {next(number)}?", session="s")
        sound = upstream.otherwise
        assert callable(sound)

        def model(request: Json) -> Answer | Raw:
            return Answer(status=503, error="no") if "Summarize" in contents(upstream) else sound(request)

        upstream.otherwise = model
        failed = summaries(upstream)
        while summaries(upstream) == failed:
            server.ask(f"Question {next(number)}?", session="s")
        assert "Mina has a cat." in contents(upstream)
        assert GAP in contents(upstream)


def test_a_summary_of_a_turn_that_fails_is_not_kept(upstream: Upstream, tmp_path: Path) -> None:
    database = tmp_path / "agent.db"
    long = [{"role": "user", "content": "Question? " * 40}, {"role": "assistant", "content": "Answer. " * 40}] * 4
    body = {"model": "test-model", "messages": [*long, {"role": "user", "content": "Now?"}]}
    with chatty(upstream, context_window=WINDOW, checkpoint_url=f"sqlite:///{database}") as server:
        sound = upstream.otherwise
        assert callable(sound)

        def model(request: Json) -> Answer | Raw:
            return sound(request) if "Summarize" in contents(upstream) else Answer(status=400, error="no")

        upstream.otherwise = model
        assert server.post(body, headers={"X-Session-ID": "s"}).status_code == 400
        assert summaries(upstream)
        upstream.otherwise = sound
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(*) FROM summaries").fetchone() == (0,)
        assert server.post(body, headers={"X-Session-ID": "s"}).status_code == 200
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(*) FROM summaries").fetchone() == (1,)


def test_r20_r21_disabled_refuses_and_a_threshold_summarizes_earlier(upstream: Upstream) -> None:
    with chatty(upstream, context_window=4 * WINDOW) as server:
        response: Json = {"id": None}
        for n in range(6):
            response = create(server, input=f"Question {n}?", previous_response_id=response["id"])
        assert summaries(upstream) == 0
        early = [{"type": "compaction", "compact_threshold": WINDOW // 2}]
        fields: Json = {"previous_response_id": response["id"], "context_management": early}
        assert text_of(create(server, input="Early?", **fields))
        assert summaries(upstream) == 1
        assert "Mina has a cat." in contents(upstream)

        long = {"input": "word " * 4 * WINDOW, "previous_response_id": response["id"]}
        refused = post(server, **long, truncation="disabled").json()["error"]
        assert (refused["code"], refused["param"]) == ("context_length_exceeded", "input")
        assert get(server, response["id"]).status_code == 200


def test_r61_a_conversation_longer_than_the_window_can_be_compacted(upstream: Upstream) -> None:
    with chatty(upstream, context_window=WINDOW) as server:
        items = [{"role": "user", "content": f"Fact {n}. " * 60} for n in range(12)]
        with server.client() as client:
            done = client.responses.compact(model="test-model", input=items)  # type: ignore[arg-type]
        assert summaries(upstream) > 1, "in several steps"
        assert done.usage.input_tokens == 70 * summaries(upstream)
