"""The transcript of a conversation, as its client saw it: digests of all its beginnings. Pure.

Each digest is made from the one before it, so that a transcript of any length is found by one look-up in an index.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby, islice
from typing import NamedTuple

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from graph.history import call_ids, is_our_result
from server.sessions.speech import Speech

EMPTY = b""
DIGEST_SIZE = 16
dump = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode

# How many beginnings are looked up at first, the longest ones; each next look takes eight times as many, up to a bound.
FIRST_LOOK, MAX_LOOK = 4, 4096


class Beginning(NamedTuple):
    """The first messages of a conversation: how many, and the digest of the transcript that they make."""

    length: int
    digest: bytes


@dataclass(frozen=True)
class Transcript:
    """The messages of a conversation with the digests of all their beginnings, which are made once."""

    messages: Sequence[AnyMessage]
    beginnings: Sequence[Beginning]
    after: bytes = EMPTY
    """The digest of what came before them."""

    @classmethod
    def of(cls, messages: Sequence[AnyMessage], after: bytes = EMPTY) -> "Transcript":
        """Make the digests."""
        return cls(messages, beginnings(messages, after), after)

    @property
    def digest(self) -> bytes:
        """The digest of the whole."""
        return self.beginnings[-1].digest if self.beginnings else self.after

    def looks(self) -> Iterator[list[bytes]]:
        """Yield the digests of the beginnings in batches for look-ups, the longest first."""
        remaining, size = (beginning.digest for beginning in reversed(self.beginnings)), FIRST_LOOK
        while candidates := list(islice(remaining, size)):
            yield candidates
            size = min(8 * size, MAX_LOOK)

    def with_answer(self, answer: AIMessage) -> bytes:
        """Return the digest with an answer at the end, which may continue the last message."""
        known = self.beginnings[-2] if len(self.beginnings) > 1 else Beginning(0, self.after)
        return digest_of([*self.messages[known.length :], answer], known.digest)


def beginnings(messages: Sequence[AnyMessage], after: bytes = EMPTY) -> list[Beginning]:
    """Return all beginnings of the messages, the shortest first; the last is all of them.

    Messages are compared by role, text and tool call ids, never by message id or by arguments, which clients serialise
    anew. Assistant messages in a row are one: clients join an answer with the beginning that it continues. One without
    text and calls is skipped, and so are calls of the server's own tools with their results.
    """
    found: list[Beginning] = []
    length, digest = 0, after
    for spoken, group in groupby(messages, key=lambda message: message.type == "ai" or is_our_result(message)):
        members = list(group)
        for item in [members] if spoken else [[message] for message in members]:
            length += len(item)
            digest = _extended(digest, item)
            found.append(Beginning(length, digest))
    return found


def digest_of(messages: Sequence[AnyMessage], after: bytes = EMPTY) -> bytes:
    """Return the digest of the transcript `after` with the messages at its end."""
    return Transcript.of(messages, after).digest


def _extended(digest: bytes, item: Sequence[AnyMessage]) -> bytes:
    """Return the digest with one more item: a message, or the assistant's messages in a row."""
    ours = [message.tool_call_id for message in item if isinstance(message, ToolMessage) and is_our_result(message)]
    text = "".join(map(_text, item)) if not ours else _text_between_calls(item)
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    calls = [call for message in item for call in _calls(message) if call not in ours]
    if (isinstance(item[0], AIMessage) or ours) and not text and not calls:
        return digest
    content = dump(["ai" if ours else item[0].type, text, calls, [] if ours else _media(item)])
    return sha256(digest + content.encode(errors="surrogatepass")).digest()[:DIGEST_SIZE]


def _text_between_calls(item: Sequence[AnyMessage]) -> str:
    """Return the assistant's text as its client got it, where results of the server's tools stand in between."""
    speech, part = Speech(), 0
    for message in item:
        if is_our_result(message):
            part += 1
        elif text := _text(message):
            speech.hear(str(part), text)
    return speech.text


def _text(message: AnyMessage) -> str:
    return message.content if isinstance(message.content, str) else str(message.text)


def _calls(message: AnyMessage) -> Iterable[str]:
    match message:
        case AIMessage():
            return call_ids(message)
        case ToolMessage():
            return (message.tool_call_id,)
    return ()


def _media(item: Sequence[AnyMessage]) -> list[object]:
    """Return the images and files, which count too: the same words about another picture are another question."""
    parts = [part for message in item if isinstance(message.content, list) for part in message.content]
    return [part for part in parts if isinstance(part, dict) and part.get("type") != "text"]
