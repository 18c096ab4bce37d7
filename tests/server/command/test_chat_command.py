"""`chat-agent chat` at a real terminal and in a pipe, against a real server."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.agent_server import MODEL, AgentServer, agent_server
from tests.support.approvals import wiper
from tests.support.loopback import free_port
from tests.support.terminal import Terminal, at_terminal, chat_agent
from tests.support.upstream import Answer, Call, Json, Upstream, last_text
from tests.support.waiting import until


def asked(*arguments: str, given: bytes | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a pipe, with something on its standard input or nothing."""
    ended = subprocess.run(
        chat_agent("chat", *arguments),
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        env=os.environ | settings,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def pieces(terminal: Terminal, wanted: Sequence[str]) -> list[float]:
    """When each of these words was there."""
    return [next(at for at, text in terminal.shown if word in text) for word in wanted]


def test_f4_a_question_is_answered_on_standard_output(server: AgentServer) -> None:
    ended = asked("--url", server.url, "-q", "안녕 hello")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "You said: 안녕 hello\n", "")


def test_f4_a_question_may_come_through_a_pipe(server: AgentServer) -> None:
    ended = asked("--url", f"{server.url}/v1/", given="서울은\n어때?\n".encode())
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "You said: 서울은\n어때?\n", "")


def test_f4_a_pipe_that_is_not_text_is_asked_all_the_same(server: AgentServer) -> None:
    assert asked("--url", server.url, given=b"caf\xe9").stdout == "You said: caf�\n"


def test_f4_a_named_session_goes_on_and_only_what_is_new_is_sent(server: AgentServer, upstream: Upstream) -> None:
    for question in ("one", "two"):
        asked("--url", server.url, "--session", "mina", "-q", question)
    said = [message["content"] for message in upstream.last["messages"] if message["role"] != "system"]
    assert said == ["one", "You said: one", "two"]
    asked("--url", server.url, "-q", "three")
    assert [message["content"] for message in upstream.last["messages"] if message["role"] != "system"] == ["three"]


def test_f4_the_address_and_the_key_are_those_of_the_settings(upstream_url: str) -> None:
    with agent_server(ollama_base_url=upstream_url, use_mcp_tools=False, api_keys=("right",)) as server:
        port = server.url.rpartition(":")[2]
        assert asked("-q", "hi", API_PORT=port, API_KEYS='["right", "other"]').stdout == "You said: hi\n"
        assert asked("-q", "hi", "--key", "right", API_PORT=port, API_KEYS="wrong").stdout == "You said: hi\n"
        missing, wrong = asked("-q", "hi", API_PORT=port), asked("-q", "hi", "--key", "wrong", API_PORT=port)
    assert (missing.returncode, wrong.returncode) == (1, 1)
    assert missing.stderr == f"{server.url} wants a key: give it with --key or in API_KEYS.\n"
    assert wrong.stderr == f"{server.url} does not take this key: give another with --key or in API_KEYS.\n"


def test_f4_another_model_can_be_asked(server: AgentServer, upstream: Upstream) -> None:
    ended = asked("--url", server.url, "--model", "unknown", "-q", "hi")
    assert ended.returncode == 1
    assert "unknown" in ended.stderr
    assert upstream.requests == []


def test_f4_no_server_is_one_sentence_that_says_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ended = asked("--url", url, "-q", "hi")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"No chat-agent answers at {url}. "
        "Start one with `make demo` or `chat-agent serve`, or say with --url where it is.\n"
    )


@pytest.mark.parametrize("url", ["localhost:23000", "ftp://x", "http://host:port"])
def test_f4_an_address_that_is_none_is_one_sentence(url: str) -> None:
    ended = asked("--url", url, "-q", "hi")
    assert (ended.returncode, ended.stderr) == (1, "--url: it is not an http or https address.\n")


def test_f4_nothing_asked_is_one_sentence(server: AgentServer) -> None:
    ended = asked("--url", server.url, given=b" \n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "There is no question.\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(Answer(status=400, error="No."), "The model endpoint refused the request: No.", id="at once"),
        pytest.param(Answer(["Hel"], finish_reason=""), "answer ended in the middle", id="in the middle"),
    ],
)
def test_f4_a_model_that_fails_is_one_sentence(
    server: AgentServer, upstream: Upstream, answer: Answer, said: str
) -> None:
    upstream.script(answer)
    ended = asked("--url", server.url, "-q", "hi")
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == "".join(f"{piece}\n" for piece in answer.pieces)


def test_f4_at_a_terminal_the_answer_comes_word_by_word(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["one ", "two ", "three"], pause=0.4))
    with at_terminal(chat_agent("chat", "--url", server.url, "-q", "count")) as terminal:
        assert terminal.end() == 0
    first, second, third = pieces(terminal, ["one", "two", "three"])
    assert first + 0.2 < second < third - 0.2
    assert "chat-agent chat --session" in terminal.text


def test_f4_at_a_terminal_it_is_seen_that_an_answer_is_to_come(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(hold=True))
    with at_terminal(chat_agent("chat", "--url", server.url, "-q", "count")) as terminal:
        terminal.until("…")
        until(lambda: upstream.streaming == 1)  # a Ctrl-C before it has asked would meet another moment
        terminal.interrupt()
        assert terminal.end() == 130
    assert terminal.text == ""


def test_f4_tools_and_thoughts_are_shown_dimly_and_only_at_a_terminal(
    weather_server: AgentServer, upstream: Upstream
) -> None:
    def model(request: Json) -> Answer:
        if request["messages"][-1]["role"] == "tool":
            return Answer(["It is cold."], reasoning=["5.3 degrees, ", "hm"])
        return Answer(["Let me look."], calls=[Call("get_weather", '{"city": "서울"}')])

    upstream.otherwise = model
    piped = asked("--url", weather_server.url, "-q", "weather?")
    assert piped.stdout == "Let me look.\n\nIt is cold.\n"
    with at_terminal(chat_agent("chat", "--url", weather_server.url, "-q", "weather?")) as terminal:
        assert terminal.end() == 0
    look, tool, thought, cold, *_ = terminal.text.splitlines()
    assert (look, thought, cold) == ("Let me look.", "5.3 degrees, hm", "It is cold.")
    assert tool.startswith("· get_weather 서울 … ")
    assert tool.endswith(" s")
    assert "\x1b[2m5.3 degrees" in terminal.raw
    assert "\x1b[2mIt is" not in terminal.raw


def test_f4_a_model_cannot_steer_the_terminal(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["safe\x1b[2J\x1b]0;title\x07\r", "\u009b31m text"]))
    assert asked("--url", server.url, "-q", "x").stdout == "safe[2J]0;title31m text\n"


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_f4_a_terminal_without_colours_gets_none(server: AgentServer, variables: dict[str, str]) -> None:
    with at_terminal(chat_agent("chat", "--url", server.url, "-q", "x"), **variables) as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.raw


def test_f4_a_conversation_in_korean_with_the_keys_of_an_editor(server: AgentServer, upstream: Upstream) -> None:
    with at_terminal(chat_agent("chat", "--url", server.url)) as terminal:
        terminal.until(f"{MODEL} at {server.url}")
        terminal.until(">>>")
        terminal.type("안녕하세요\x7f\x7f\r")  # takes two syllables back, of three bytes and two columns each
        terminal.until("You said: 안녕하\n")
        terminal.until(">>>")
        terminal.type("둘째\r")
        terminal.until("You said: 둘째\n")
        terminal.until(">>>")
        terminal.type("\x1b[A\x1b[A\x1b[D은\r")  # up, up, left: the first question again, with a syllable put in
        terminal.until("You said: 안녕은하\n")
        terminal.until(">>>")
        terminal.type("\x04")
        assert terminal.end() == 0
    session = terminal.text.rpartition("chat-agent chat --session ")[2].strip()
    said = [message["content"] for message in upstream.last["messages"] if message["role"] == "user"]
    assert said == ["안녕하", "둘째", "안녕은하"]
    assert asked("--url", server.url, "--session", session, "-q", "넷째").returncode == 0
    assert [message["content"] for message in upstream.last["messages"] if message["role"] == "user"][:3] == said


def test_f4_ctrl_c_stops_the_answer_and_then_the_command(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["one "], hold=True))
    with at_terminal(chat_agent("chat", "--url", server.url)) as terminal:
        terminal.until(">>>")
        terminal.type("count\r")
        terminal.until("one")
        terminal.interrupt()
        terminal.until("Stopped")
        until(lambda: upstream.closed_early == 1)
        terminal.until(">>>")
        terminal.type("again\r")
        terminal.until("You said: again")
        terminal.until(">>>")
        terminal.interrupt()
        assert terminal.end() == 0
    assert "Traceback" not in terminal.text
    assert [message["content"] for message in upstream.last["messages"]][-3:] == ["count", "one ", "again"]


def test_f4_ctrl_c_ends_a_single_question_quietly(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(["one "], hold=True))
    with at_terminal(chat_agent("chat", "--url", server.url, "-q", "count")) as terminal:
        terminal.until("one")
        terminal.interrupt()
        assert terminal.end() == 130
    until(lambda: upstream.closed_early == 1)
    assert terminal.text.split() == ["one", "^C"]


def test_f4_an_error_leaves_the_conversation_open(server: AgentServer, upstream: Upstream) -> None:
    upstream.script(Answer(status=400, error="No."))
    with at_terminal(chat_agent("chat", "--url", server.url)) as terminal:
        terminal.until(">>>")
        terminal.type("one\r")
        terminal.until("refused the request: No.")
        terminal.until(">>>")
        terminal.type("two\r")
        terminal.until("You said: two")
        terminal.until(">>>")
        terminal.type("/bye\r")
        assert terminal.end() == 0


def test_f4_the_commands_of_a_conversation(server: AgentServer, upstream: Upstream) -> None:
    with at_terminal(chat_agent("chat", "--url", server.url)) as terminal:
        terminal.until(">>>")
        terminal.type("one\r")
        terminal.until("You said: one")
        terminal.until(">>>")
        terminal.type("/help\r")
        terminal.until("/new begins a new session")
        terminal.until(">>>")
        terminal.type("/new\r")
        terminal.until("A new session.")
        terminal.until(">>>")
        terminal.type("two\r")
        terminal.until("You said: two")
        terminal.until(">>>")
        terminal.type("/bye\r")
        assert terminal.end() == 0
    assert [last_text(request) for request in upstream.requests] == ["one", "two"]
    assert "one" not in str(upstream.last["messages"])


def test_f4_what_is_not_a_terminal_gets_the_text_alone_also_in_a_conversation(server: AgentServer) -> None:
    command = f"{' '.join(chat_agent('chat', '--url', server.url))} > out.txt"
    with at_terminal(["sh", "-c", command]) as terminal:
        terminal.until(">>>")
        terminal.type("hello\r")
        until(lambda: Path("out.txt").read_text().endswith("hello\n"), within=30)
        terminal.type("/bye\r")
        assert terminal.end() == 0
    assert Path("out.txt").read_text() == "You said: hello\n"


def test_a_tool_that_must_be_approved_is_run_when_the_person_says_yes(
    upstream: Upstream, upstream_url: str, tmp_path: Path
) -> None:
    with (
        wiper(upstream, upstream_url, tmp_path) as disk,
        at_terminal(chat_agent("chat", "--url", disk.server.url)) as terminal,
    ):
        for path, typed, wiped in (("/a", "y", 1), ("/b", "", 1)):
            disk.wants_to_wipe(path)
            terminal.until(">>>")
            terminal.type("Wipe.\r")
            terminal.until(f'Run wipe {{"path": "{path}"}}? [y/N]')
            terminal.type(f"{typed}\r")
            terminal.until("Done.")
            assert disk.wiped == wiped
        terminal.until(">>>")
        terminal.type("/bye\r")
        assert terminal.end() == 0
        disk.wants_to_wipe("/c")
        assert "needs your approval" in asked("--url", disk.server.url, "-q", "Wipe.").stdout, "nobody is there to ask"
