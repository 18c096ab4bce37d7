"""`chat-agent chat`: a conversation with a running server, in the terminal. The server keeps what was said."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from server.command.terminal import Reasoning, Terminal, Text, Tool
from tools.addresses import NO_PROXY_ON_LOOPBACK, http_address

# The server is never silent for longer than 15 s in a stream.
PATIENCE = httpx.Timeout(60, connect=10)

HELP = "/new begins a new session, /bye ends (as Ctrl-D does), Ctrl-C stops an answer."

NOBODY = (
    "No chat-agent answers at {url}. Start one with `make demo` or `chat-agent serve`, or say with --url where it is."
)
NO_CHAT_AGENT = "What answers at {url} is no chat-agent (status {status}); say with --url where it is."
BROKEN = "The connection to {url} broke in the middle of the answer."
NO_KEY = "{url} wants a key: give it with --key or in API_KEYS."
WRONG_KEY = "{url} does not take this key: give another with --key or in API_KEYS."

Piece = Text | Reasoning | Tool


class ChatError(Exception):
    """There is no answer; the message says why, and what to do."""


def talk(*, url: str, key: str | None, model: str | None, session: str | None, question: str | None) -> int:
    """Ask one question, or each line that is typed in; return the exit status."""
    terminal = Terminal()
    if question is None and not sys.stdin.isatty():
        question = sys.stdin.buffer.read().decode(errors="replace")
    try:
        with Server.at(url, key) as server:
            conversation = Conversation(server, model or server.first_model(), session)
            if question is None:
                conversation.can_approve = True
                _converse(conversation, terminal)
            else:
                terminal.show(conversation.ask(question))
    except ChatError as error:
        terminal.complain(str(error))
        return 1
    if conversation.session and not session:
        terminal.remark(f"To go on with this conversation: chat-agent chat --session {conversation.session}")
    return 0


def _converse(conversation: "Conversation", terminal: Terminal) -> None:
    """Answer line after line until the input ends."""
    terminal.remark(f"{conversation.model} at {conversation.server.url}. {HELP}")
    for line in terminal.lines():
        match line:
            case "/bye" | "/exit" | "/quit":
                return
            case "/new":
                conversation.session = None
                terminal.remark("A new session.")
            case command if command.startswith("/"):
                terminal.remark(HELP)
            case question:
                _answer(conversation, question, terminal)


def _answer(conversation: "Conversation", question: str, terminal: Terminal) -> None:
    try:
        terminal.show(conversation.ask(question))
        while conversation.awaited:
            terminal.show(conversation.decide([terminal.confirm(str(call)) for call in conversation.awaited]))
    except ChatError as error:
        terminal.complain(str(error))
    except KeyboardInterrupt:
        terminal.end_line()
        terminal.remark("Stopped; what was said until then is kept.")


@dataclass
class AwaitedCall:
    """A call of a tool that waits for the person at the terminal; `about` is JSON as text, with its name."""

    id: str
    about: str

    def __str__(self) -> str:
        """Return the question."""
        about = json.loads(self.about)
        return f"Run {about['tool']} {json.dumps(about['arguments'], ensure_ascii=False)}?"


@dataclass
class Conversation:
    """A conversation in one session of a server."""

    server: "Server"
    model: str
    session: str | None
    """The session's id; the server's first answer names it, unless it was given."""
    can_approve: bool = False
    """Whether a person can be asked."""
    awaited: list[AwaitedCall] = field(default_factory=list)
    """The calls that the last answer waits with."""

    def ask(self, question: str) -> Iterator[Piece]:
        """Ask, and yield the answer's pieces as they come.

        Raises:
            ChatError: there is no answer, or only part of one.
        """
        if not question.strip():
            raise ChatError("There is no question.")
        return self._answered([{"role": "user", "content": question}])

    def decide(self, approved: Sequence[bool]) -> Iterator[Piece]:
        """Answer for each call that waits whether it is run, and yield the pieces of what comes of it.

        Raises:
            ChatError: there is no answer, or only part of one.
        """
        decisions = zip(self.awaited, approved, strict=True)
        return self._answered(
            [
                {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"approved": run})}
                for call, run in decisions
            ]
        )

    def _answered(self, messages: Sequence[Mapping[str, str]]) -> Iterator[Piece]:
        self.awaited = []
        body = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_tool_events": True},
        }
        # The session remembers the rest; only this message is new.
        headers = {"X-Session-Mode": "append"} | ({"X-Session-ID": self.session} if self.session else {})
        headers |= {"X-Tool-Approval": "call"} if self.can_approve else {}
        with self.server.answers("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            self.session = response.headers.get("X-Session-ID", self.session)
            for chunk in events(response.iter_bytes()):
                if "error" in chunk:
                    raise ChatError(str(chunk["error"]["message"]))
                self._note_calls(chunk)
                yield from pieces(chunk)

    def _note_calls(self, chunk: Mapping[str, Any]) -> None:
        """Note what a chunk tells of calls that wait; their arguments may come in several."""
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    self.awaited.append(AwaitedCall(call["id"], ""))
                self.awaited[-1].about += call["function"]["arguments"]


class Server:
    """A chat-agent server, and the message for when it does not answer."""

    def __init__(self, url: str, key: str | None, client: httpx.Client) -> None:
        self.url, self._key, self._client = url, key, client

    @classmethod
    @contextmanager
    def at(cls, url: str, key: str | None) -> "Iterator[Server]":
        """Open connections to a server."""
        base = url.rstrip("/").removesuffix("/v1")
        try:
            http_address(base)
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            client = httpx.Client(base_url=base, headers=headers, timeout=PATIENCE, mounts=dict(NO_PROXY_ON_LOOPBACK))
        except UnicodeEncodeError as error:
            raise ChatError("--key has characters that no key can have.") from error
        except ValueError as error:
            raise ChatError(f"--url: {error}.") from error
        with client:
            yield cls(base, key, client)

    def first_model(self) -> str:
        """Return the model that the server lists first."""
        with self.answers("GET", "/v1/models") as response:
            try:
                return str(json.loads(response.read())["data"][0]["id"])
            except (ValueError, LookupError, TypeError) as error:
                raise self._stranger(response) from error

    @contextmanager
    def answers(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        """Send a request, and yield the answer as it comes.

        Raises:
            ChatError: there is no answer, or it is an error.
        """
        try:
            with self._client.stream(method, path, **request) as response:
                if not response.is_success:
                    raise self._refusal(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ChatError(NOBODY.format(url=self.url)) from error
        except httpx.HTTPError as error:
            raise ChatError(BROKEN.format(url=self.url)) from error

    def _refusal(self, response: httpx.Response) -> ChatError:
        try:
            message = str(json.loads(response.read())["error"]["message"])
        except (ValueError, LookupError, TypeError):
            return self._stranger(response)
        if response.status_code == 401:
            message = (WRONG_KEY if self._key else NO_KEY).format(url=self.url)
        return ChatError(message)

    def _stranger(self, response: httpx.Response) -> ChatError:
        return ChatError(NO_CHAT_AGENT.format(url=self.url, status=response.status_code))


def events(parts: Iterable[bytes]) -> Iterator[Any]:
    """Yield what the server-sent events of an answer say.

    Raises:
        ChatError: they end before the answer is complete.
    """
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line == b"data: [DONE]":
                return
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
    raise ChatError("The answer ended in the middle.")


def pieces(chunk: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield what a chunk of an answer adds to it."""
    if event := chunk.get("event"):
        arguments = ", ".join(map(str, (event["arguments"] or {}).values()))
        yield Tool(event["id"], event["name"], arguments, event["status"], event.get("duration"))
    for choice in chunk["choices"]:
        delta = choice["delta"]
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            yield Reasoning(thought)
        if said := delta.get("content"):
            yield Text(said)
