"""Sessions: who a request belongs to, what is remembered, and what is not."""

import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from server.sessions.naming import Session
from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.databases import select
from tests.support.upstream import Answer, Call, Json, Upstream
from tests.support.waiting import until

TELL: ChatCompletionUserMessageParam = {"role": "user", "content": "tell"}
pytestmark = pytest.mark.usefixtures("every_database")
ON_SQLITE = pytest.mark.parametrize("every_database", ["sqlite"], indirect=True)
QUESTION: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def texts(upstream: Upstream) -> list[str]:
    """What the model was shown last, without the system message."""
    return [message["content"] for message in upstream.last["messages"][1:]]


def session(server: AgentServer, name: str, **headers: str) -> dict[str, Any]:
    """The session object, or the error."""
    answer: dict[str, Any] = httpx.get(f"{server.url}/v1/sessions/{name}", headers=headers).json()
    return answer


def stored(server: AgentServer, name: str, branch: int | None = None) -> list[dict[str, Any]]:
    """What is kept of a session's branch."""
    url = f"{server.url}/v1/sessions/{name}/messages"
    messages: list[dict[str, Any]] = httpx.get(url, params={"branch": branch} if branch else {}).json()["data"]
    return messages


def contents(messages: list[dict[str, Any]]) -> list[str]:
    """The texts of messages."""
    return [message["content"] for message in messages]


def rows(url: str) -> dict[str, int]:
    """How many rows the tables of checkpoints and turns have."""
    writes = "writes" if url.startswith("sqlite") else "checkpoint_writes"
    return {table: select(url, f"SELECT count(*) FROM {table}")[0][0] for table in ("checkpoints", writes, "turns")}


@contextmanager
def held(server: AgentServer, upstream: Upstream, name: str, *pieces: str) -> Iterator[Iterator[str]]:
    """A streamed request whose answer does not end, read up to its last piece."""
    upstream.script(Answer(pieces, hold=True))
    url, headers = f"{server.url}/v1/chat/completions", {"X-Session-ID": name}
    with httpx.stream("POST", url, json={**QUESTION, "stream": True}, headers=headers, timeout=30) as response:
        lines = response.iter_lines()
        for piece in pieces:
            while piece not in next(lines):
                pass
        yield lines


def test_a_named_session_goes_on_with_what_is_new(server: AgentServer, upstream: Upstream) -> None:
    server.ask("My name is Mina.", session="s")
    server.ask("What is my name?", session="s")
    assert texts(upstream) == ["My name is Mina.", "You said: My name is Mina.", "What is my name?"]


def test_a_client_that_sends_its_history_does_not_double_it(server: AgentServer, upstream: Upstream) -> None:
    messages: list[dict[str, str]] = []
    for turn in range(4):
        messages.append({"role": "user", "content": f"question {turn}"})
        body = server.post({"model": MODEL, "messages": messages}, headers={"X-Session-ID": "s"}).json()
        messages.append({"role": "assistant", "content": body["choices"][0]["message"]["content"]})
    assert texts(upstream) == [message["content"] for message in messages[:-1]]


def test_what_a_server_tool_found_is_remembered(weather_server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(["5.3 °C"]))
    weather_server.ask("Weather?", session="s")
    weather_server.ask("And tomorrow?", session="s")
    assert [message["role"] for message in upstream.last["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]


def test_without_a_name_every_request_is_a_session_of_its_own_that_can_be_continued(
    server: AgentServer, upstream: Upstream
) -> None:
    first, second = (server.post(QUESTION).headers["X-Session-ID"] for _ in range(2))
    assert first != second
    assert len(texts(upstream)) == 1
    server.ask("again", session=first)
    assert texts(upstream) == ["hello", "You said: hello", "again"]


@pytest.mark.parametrize("header", ["X-Session-ID", "X-OpenWebUI-Chat-Id", "X-Conversation-Id"])
def test_a_header_names_the_session(server: AgentServer, header: str) -> None:
    response = server.post(QUESTION, headers={header: "chat-1"})
    assert response.headers["X-Session-ID"] == "chat-1"
    assert session(server, "chat-1")["turns"] == 1


@pytest.mark.parametrize("fields", [{"session_id": "chat-1"}, {"metadata": {"session_id": "chat-1"}}])
def test_the_body_names_the_session(server: AgentServer, fields: dict[str, object]) -> None:
    assert server.post({**QUESTION, **fields}).headers["X-Session-ID"] == "chat-1"
    assert session(server, "chat-1")["turns"] == 1


def test_the_first_name_wins(server: AgentServer) -> None:
    response = server.post({**QUESTION, "session_id": "body"}, headers={"X-Conversation-Id": "header"})
    assert response.headers["X-Session-ID"] == "header"


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "../etc", "한글"])
def test_a_session_id_that_is_none_is_refused(server: AgentServer, upstream: Upstream, name: str) -> None:
    response = server.post({**QUESTION, "session_id": name})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "session_id"
    assert response.headers["X-Session-ID"]
    assert upstream.requests == []


def test_a_session_outlives_the_server(upstream: Upstream, upstream_url: str) -> None:
    for question in ("My name is Mina.", "What is my name?"):
        with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False) as server:
            server.ask(question, session="s")
    assert texts(upstream) == ["My name is Mina.", "You said: My name is Mina.", "What is my name?"]


@ON_SQLITE
def test_sessions_in_memory_leave_no_file(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, checkpoint_url="memory://") as server:
        server.ask("hello")
    assert list(Path().iterdir()) == []


@ON_SQLITE
def test_the_database_is_for_its_owner_alone(server: AgentServer) -> None:
    server.ask("hello")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("data").iterdir()}
    assert modes["chat-agent.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_a_reset_session_is_empty_and_keeps_its_id(server: AgentServer, upstream: Upstream) -> None:
    server.ask("hello", session="s")
    created = session(server, "s")["created_at"]
    for _ in range(2):
        response = httpx.post(f"{server.url}/v1/sessions/s/reset")
        assert (response.status_code, response.headers["X-Session-ID"]) == (200, "s")
        assert response.json() | {"updated_at": 0} == {
            "id": "s",
            "object": "session",
            "created_at": created,
            "updated_at": 0,
            "turns": 0,
            "branches": 0,
            "bytes": 0,
            "status": "idle",
            "approvals": [],
        }
    assert stored(server, "s") == []
    server.ask("who am I?", session="s")
    assert texts(upstream) == ["who am I?"]


def test_a_deleted_session_is_gone(server: AgentServer) -> None:
    server.ask("hello", session="s")
    assert httpx.delete(f"{server.url}/v1/sessions/s").json() == {
        "id": "s",
        "object": "session.deleted",
        "deleted": True,
    }
    for method, path in [("DELETE", ""), ("GET", ""), ("GET", "/messages"), ("POST", "/reset"), ("POST", "/cancel")]:
        again = httpx.request(method, f"{server.url}/v1/sessions/s{path}")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "session_not_found")


@ON_SQLITE
@pytest.mark.parametrize("how", ["delete", "reset"])
def test_nothing_that_was_said_stays_in_the_files(
    server: AgentServer, upstream: Upstream, how: Literal["delete", "reset"]
) -> None:
    for name in ("kept", "gone"):
        for number in range(3):
            upstream.script(Answer([f"The {name}-canary sings {number}. " + "la " * 3000]))
            server.ask(f"{name}-canary {number}", session=name)
    url = f"{server.url}/v1/sessions/gone"
    response = httpx.delete(url) if how == "delete" else httpx.post(f"{url}/reset")
    assert response.status_code == 200
    files = b"".join(path.read_bytes() for path in Path("data").iterdir())
    assert b"kept-canary" in files
    assert b"gone-canary" not in files


def test_deleting_stops_the_run_in_progress(server: AgentServer, upstream: Upstream) -> None:
    with held(server, upstream, "s", "Once") as lines:
        assert httpx.delete(f"{server.url}/v1/sessions/s", timeout=10).status_code == 200
        assert "run_cancelled" in "".join(lines)
    until(lambda: upstream.closed_early == 1)
    assert session(server, "s")["error"]["code"] == "session_not_found"


def test_a_session_is_listed_while_its_first_turn_runs(server: AgentServer, upstream: Upstream) -> None:
    server.ask("hello", session="older")

    def listed(query: str) -> list[str]:
        return [one["id"] for one in httpx.get(f"{server.url}/v1/sessions{query}").json()["data"]]

    with held(server, upstream, "s", "Once"):
        assert (listed(""), listed("?limit=1"), listed("?after=s")) == (["s", "older"], ["s"], ["older"])
    until(lambda: session(server, "s")["status"] == "idle")
    assert listed("") == ["s", "older"]


def test_a_session_says_how_it_is(server: AgentServer, upstream: Upstream) -> None:
    before = int(time.time())
    with held(server, upstream, "s", "Once"):
        first = session(server, "s")
        assert (first["turns"], first["branches"], first["status"]) == (0, 0, "running")
    until(lambda: session(server, "s")["status"] == "idle")
    server.ask("and then?", session="s")
    now = session(server, "s")
    assert before <= now["created_at"] <= now["updated_at"] <= time.time()
    assert now == {
        "id": "s",
        "object": "session",
        "created_at": now["created_at"],
        "updated_at": now["updated_at"],
        "turns": 2,
        "branches": 1,
        "bytes": now["bytes"],
        "status": "idle",
        "approvals": [],
    }


def test_sessions_are_listed_page_by_page_the_last_used_first(server: AgentServer) -> None:
    for name in ("a", "b", "c", "d", "e"):
        server.ask("hello", session=name)
    server.ask("and?", session="b")
    pages: list[list[str]] = []
    after: dict[str, str] = {}
    while True:
        page = httpx.get(f"{server.url}/v1/sessions", params={"limit": 2, **after}).json()
        pages.append([entry["id"] for entry in page["data"]])
        assert (page["object"], page["first_id"], page["last_id"]) == ("list", pages[-1][0], pages[-1][-1])
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert pages == [["b", "e"], ["d", "c"], ["a"]]


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"after": "a b"}])
def test_a_list_is_asked_for_with_sense(server: AgentServer, params: dict[str, str]) -> None:
    response = httpx.get(f"{server.url}/v1/sessions", params=params)
    assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(params)))
    unknown = httpx.get(f"{server.url}/v1/sessions", params={"after": "nobody"})
    assert unknown.json()["error"]["code"] == "session_not_found"


def test_every_branch_can_be_read_with_what_the_server_s_tools_found(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    upstream.script(Answer(["Let me see."], calls=[Call("get_weather", '{"city": "Seoul"}')]), Answer(["5.3 °C"]))
    question, again = {"role": "user", "content": "Weather?"}, {"X-Session-ID": "s", "X-Session-Mode": "full"}
    for _ in range(2):
        weather_server.post({"model": MODEL, "messages": [question]}, headers=again)
    assert session(weather_server, "s")["branches"] == 2
    first, second = stored(weather_server, "s", 1), stored(weather_server, "s", 2)
    assert [message["role"] for message in first] == ["user", "assistant", "tool", "assistant"]
    (call,) = first[1]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Seoul"}'}
    assert (first[1]["content"], first[2]["tool_call_id"], first[3]["content"]) == ("Let me see.", call["id"], "5.3 °C")
    assert "°C" in first[2]["content"]
    assert contents(second) == ["Weather?", "You said: Weather?"]
    assert stored(weather_server, "s") == second
    missing = httpx.get(f"{weather_server.url}/v1/sessions/s/messages", params={"branch": 3})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "branch_not_found")


def test_pictures_are_kept_and_given_back(server: AgentServer) -> None:
    parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    server.post({"model": MODEL, "session_id": "s", "messages": [{"role": "user", "content": parts}]})
    assert stored(server, "s")[0] == {"role": "user", "content": parts}


def test_a_branch_keeps_its_number_when_it_goes_on(server: AgentServer) -> None:
    def say(*said: str) -> None:
        roles = ["user", "assistant"] * len(said)
        messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
        server.post({"model": MODEL, "messages": messages}, headers={"X-Session-ID": "s", "X-Session-Mode": "full"})

    say("one")
    say("other")
    say("one", "You said: one", "more")
    assert contents(stored(server, "s", 1)) == ["one", "You said: one", "more", "You said: more"]
    assert contents(stored(server, "s", 2)) == ["other", "You said: other"]
    assert (session(server, "s")["turns"], session(server, "s")["branches"]) == (2, 2)


@pytest.mark.parametrize("stream", [True, False])
def test_a_cancelled_run_says_so_and_keeps_what_was_said(server: AgentServer, upstream: Upstream, stream: bool) -> None:
    upstream.script(Answer(["Once upon "], hold=True))
    with ThreadPoolExecutor(1) as pool:
        with server.client(session="s", retries=2) as client:
            asked = pool.submit(
                lambda: (
                    list(client.chat.completions.create(model=MODEL, messages=[TELL], stream=True))
                    if stream
                    else client.chat.completions.create(model=MODEL, messages=[TELL])
                )
            )
            until(lambda: upstream.streaming == 1)
            until(lambda: session(server, "s").get("status") == "running")
            cancelled = httpx.post(f"{server.url}/v1/sessions/s/cancel")
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "idle")
            with pytest.raises(openai.APIError) as error:
                asked.result(10)
    assert error.value.code == "run_cancelled"
    assert len(upstream.requests) == 1, "the SDK must not ask again"
    assert contents(stored(server, "s")) in (["tell"], ["tell", "Once upon "])
    assert httpx.post(f"{server.url}/v1/sessions/s/cancel").json()["status"] == "idle"


def test_what_is_not_to_be_stored_is_not(server: AgentServer, upstream: Upstream) -> None:
    server.ask("My name is Mina.", session="s")
    before = stored(server, "s")
    response = server.post({**QUESTION, "store": False, "session_id": "s"})
    assert response.headers["X-Session-ID"] == "s"
    assert texts(upstream) == ["hello"]
    response = server.post({**QUESTION, "store": False})
    assert session(server, response.headers["X-Session-ID"])["error"]["code"] == "session_not_found"
    assert stored(server, "s") == before
    assert len(httpx.get(f"{server.url}/v1/sessions").json()["data"]) == 1


def test_open_webui_s_own_prompts_do_not_touch_the_chat_that_they_are_about(
    server: AgentServer, upstream: Upstream
) -> None:
    task = {"model": MODEL, "messages": [{"role": "user", "content": "### Task:\nGenerate a title."}]}
    chat = {"X-OpenWebUI-Chat-Id": "chat"}
    server.post(QUESTION, headers=chat)
    before = stored(server, "chat")
    assert server.post(task, headers=chat).json()["choices"][0]["message"]["content"].startswith("You said: ### Task:")
    with held(server, upstream, "chat", "Once"):
        assert server.post(task, headers=chat).status_code == 200, "it does not wait for the run in progress"
    assert stored(server, "chat", 1) == before
    server.post(task, headers={"X-Session-ID": "mine"})
    assert contents(stored(server, "mine"))[0].startswith("### Task:"), "somebody who asks that in person is kept"


def test_a_lone_message_of_another_program_s_chat_is_all_that_was_said(server: AgentServer, upstream: Upstream) -> None:
    for text in ("one", "two"):
        messages = [{"role": "user", "content": text}]
        server.post({"model": MODEL, "messages": messages}, headers={"X-OpenWebUI-Chat-Id": "chat"})
    assert texts(upstream) == ["two"]


def test_the_mode_can_be_said(server: AgentServer, upstream: Upstream) -> None:
    for mode, expected in [("full", 1), ("append", 3), ("Full", 1), ("auto", 3)]:
        server.post(
            {"model": MODEL, "messages": [{"role": "user", "content": f"in {mode}"}]},
            headers={"X-Session-ID": "s", "X-Session-Mode": mode},
        )
        assert len(texts(upstream)) == expected, mode
    refused = server.post(QUESTION, headers={"X-Session-Mode": "often"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "X-Session-Mode")


def test_the_headers_that_name_a_session_are_a_setting(upstream_url: str) -> None:
    headers = {"X-Conversation-Id": "a", "X-Chat": "b"}
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, session_headers="X-Chat, X-Session-ID") as own:
        assert own.post(QUESTION, headers=headers).headers["X-Session-ID"] == "b"
        assert own.post(QUESTION, headers={"X-Conversation-Id": "a"}).headers["X-Session-ID"] != "a"


def test_a_failed_turn_leaves_the_session_as_it_was(server: AgentServer, upstream: Upstream) -> None:
    server.ask("one", session="s")
    before = stored(server, "s"), session(server, "s")
    upstream.script(Answer(["An"], status=500), Answer(["An"], status=500))
    assert server.post({**QUESTION, "session_id": "s"}).status_code == 502
    assert (stored(server, "s"), session(server, "s")) == before
    server.ask("two", session="s")
    assert texts(upstream) == ["one", "You said: one", "two"]


def test_a_failed_turn_leaves_nothing_though_another_session_is_deleted_meanwhile(
    server: AgentServer, upstream: Upstream, every_database: str
) -> None:
    server.ask("one", session="s")
    before = rows(every_database)
    server.ask("the newest rows", session="gone")

    def fail_when_they_are_gone(_: Json) -> Answer:
        assert httpx.delete(f"{server.url}/v1/sessions/gone").status_code == 200
        return Answer(status=400, error="No.")

    upstream.script(fail_when_they_are_gone)
    assert server.post({**QUESTION, "session_id": "s"}).status_code == 400
    assert rows(every_database) == before


def test_a_failed_request_leaves_nothing(server: AgentServer, upstream: Upstream, every_database: str) -> None:
    upstream.otherwise = Answer(status=500)
    for name in ("new", "new", "other"):
        assert server.post({**QUESTION, "session_id": name}).status_code == 502
    assert set(rows(every_database).values()) == {0}
    assert httpx.get(f"{server.url}/v1/sessions/new").status_code == 404
    assert httpx.get(f"{server.url}/v1/sessions").json()["data"] == []


def test_sessions_can_be_deleted_and_reset_while_others_read(server: AgentServer) -> None:
    names = [f"s{number}" for number in range(20)]
    for name in names:
        server.ask("hello", session=name)
    done = threading.Event()

    def read() -> set[int]:
        seen = set()
        with httpx.Client(base_url=server.url) as client:
            while not done.is_set():
                seen.add(client.get("/v1/sessions").status_code)
                seen.add(client.get("/v1/sessions/s19/messages").status_code)
        return seen

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for name in names:
                assert httpx.post(f"{server.url}/v1/sessions/{name}/reset").status_code == 200
                assert httpx.delete(f"{server.url}/v1/sessions/{name}").status_code == 200
        finally:
            done.set()
        assert set().union(*(reader.result() for reader in readers)) <= {200, 404}


@ON_SQLITE
def test_what_is_deleted_while_another_process_reads_leaves_the_log_later(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, session_ttl_single=0.2) as server:
        server.ask("the canary", session="s")
        server.ask("sings", session="s")
        with sqlite3.connect("data/chat-agent.db") as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sessions").fetchone()
            started = time.monotonic()
            assert httpx.delete(f"{server.url}/v1/sessions/s").status_code == 200
            assert time.monotonic() - started < 2, "nobody waits for that reader"
            reader.rollback()
        reader.close()
        until(lambda: b"canary" not in b"".join(path.read_bytes() for path in Path("data").iterdir()))


def test_an_endpoint_that_gives_all_its_messages_one_id_does_no_harm(server: AgentServer, upstream: Upstream) -> None:
    upstream.message_id = "the-same"
    for question in ("one", "two", "three"):
        server.ask(question, session="s")
    assert texts(upstream) == ["one", "You said: one", "two", "You said: two", "three"]


def test_a_session_with_branches_is_not_one_of_a_single_turn(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "session_ttl": 0}
    with agent_server(**options, session_ttl_single=0.2) as server:
        server.ask("one", session="s")
        server.ask("two", session="s")
        server.post({**QUESTION, "session_id": "s"}, headers={"X-Session-Mode": "full"})
        server.ask("hello", session="witness")
        assert session(server, "s")["turns"] == 1
        until(lambda: "error" in session(server, "witness"))
        assert session(server, "s")["branches"] == 2


def test_sessions_that_nobody_uses_are_swept_those_of_one_turn_first(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False}
    with agent_server(**options, session_ttl_single=0.2, session_ttl=0) as server:
        for name in ("one", "two"):
            server.ask("hello", session=name)
        server.ask("and?", session="two")
        until(lambda: "error" in session(server, "one"))
        assert session(server, "two")["turns"] == 2
    with agent_server(**options, session_ttl_single=0, session_ttl=0.2) as server:
        server.ask("hello", session="one")
        until(lambda: "error" in session(server, "two"))
        assert session(server, "one")["turns"] == 1


def test_a_session_that_is_in_use_is_not_swept(upstream: Upstream, upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False, "session_ttl": 0}
    with agent_server(**options, session_ttl_single=0.1) as server:
        server.ask("hello", session="witness")
        server.ask("hello", session="s")
        with held(server, upstream, "s", "Once"):
            until(lambda: "error" in session(server, "witness"))
            assert session(server, "s")["status"] == "running"


def test_requests_of_one_session_run_one_after_the_other(server: AgentServer, upstream: Upstream) -> None:
    upstream.otherwise = Answer(["a", "b", "c"], pause=0.05)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda n: server.ask(f"question {n}", session="s"), range(5)))
    assert len(texts(upstream)) == 9
    assert sorted(texts(upstream)[::2]) == [f"question {n}" for n in range(5)]
    assert texts(upstream)[1::2] == ["abc"] * 4


def test_a_request_that_waits_too_long_is_told_so(upstream: Upstream, upstream_url: str) -> None:
    upstream.script(Answer(["a"], hold=True))
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, session_wait=0.2) as server:
        with httpx.stream(
            "POST",
            f"{server.url}/v1/chat/completions",
            json={**QUESTION, "stream": True},
            headers={"X-Session-ID": "s"},
        ) as holding:
            received = holding.iter_bytes()
            next(received)
            busy = server.post(QUESTION, headers={"X-Session-ID": "s"})
            other = server.post(QUESTION, headers={"X-Session-ID": "t"})
    assert (busy.status_code, busy.headers["Retry-After"]) == (409, "1")
    assert busy.json()["error"] == {
        "message": "The session is busy with another request. Try again when that is done.",
        "type": "conflict_error",
        "param": None,
        "code": "session_busy",
    }
    assert other.status_code == 200


def test_another_principal_s_session_is_not_there(upstream_url: str) -> None:
    options = {"ollama_base_url": upstream_url, "use_mcp_tools": False}
    with agent_server(**options, api_keys="key-a, key-b") as server:
        mine, theirs = ({"Authorization": f"Bearer {key}"} for key in ("key-a", "key-b"))
        server.post({**QUESTION, "session_id": "s"}, headers=mine)
        assert session(server, "s", **theirs)["error"]["message"] == "There is no session 's'."
        assert httpx.get(f"{server.url}/v1/sessions", headers=theirs).json()["data"] == []
        assert [entry["id"] for entry in httpx.get(f"{server.url}/v1/sessions", headers=mine).json()["data"]] == ["s"]
    thread = Session(sha256(b"key-a").hexdigest(), "s").thread_id
    with agent_server(**options) as server:  # whoever guesses a thread's name does not get in
        refused = server.post({**QUESTION, "session_id": thread})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "session_not_found")
        assert session(server, thread)["error"]["code"] == "session_not_found"


def test_two_keys_with_the_same_session_id_never_meet(upstream: Upstream, upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys="key-a, key-b") as server:
        for key in ("key-a", "key-b"):
            with server.client(key=key, session="shared") as client:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"I am {key}"}])
        assert texts(upstream) == ["I am key-b"]
        unknown = httpx.delete(f"{server.url}/v1/sessions/other", headers={"Authorization": "Bearer key-a"})
    assert unknown.status_code == 404
