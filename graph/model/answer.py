"""Read one answer of a model from the bytes of its response. Pure."""

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import orjson
from langchain_core.messages.ai import UsageMetadata

from graph.model.bounds import DEFAULT_BOUNDS, Bounds, too_large
from graph.model.calls import CallAssembly
from graph.model.deltas import Delta, Finish, load_chunk, more_severe
from graph.model.error_body import is_page, words
from graph.model.failures import Failure, ModelFailure, read_failure
from graph.model.live_calls import CallPiece, LiveCalls
from graph.model.sse import BOM, EventDecoder, ServerSentEvent
from graph.model.text import AnswerText

# Keys of `additional_kwargs`, where LangChain's messages keep what OpenAI's have in fields of their own.
REASONING = "reasoning_content"
REFUSAL = "refusal"

DONE = "[DONE]"
# The first byte of a body that is not a stream of events: JSON, or a web page.
NO_EVENTS = (b"{", b"[", b"<")
SPACE = b" \t\r\n"


class Said(NamedTuple):
    """What one read of the response adds to the answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: Sequence[CallPiece] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.refusal or self.calls)


class AnswerReader:
    """Decodes the bytes of a response, which is a stream of events or one completion as JSON.

    Args:
        stop: sequences that end the answer, whether the endpoint knows them or not.
        names: the names of the tools that the model may call.
        heard: those of them whose calls are told while they come.
        heard_at_most: how many of these calls are; None for any number.
        bounds: how much is read.
    """

    def __init__(
        self,
        *,
        stop: str | Sequence[str] = (),
        names: Collection[str] = (),
        heard: Collection[str] = (),
        heard_at_most: int | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:
        self.calls = CallAssembly(names, bounds)
        self._live = LiveCalls(self.calls, heard, heard_at_most)
        self.finish: Finish | None = None
        self.usage: UsageMetadata | None = None
        self.is_done = False
        """Whether the answer is over; what still comes is not part of it."""
        self.is_told_done = False
        """Whether the endpoint has said `[DONE]`: its response ends then."""
        self.said: list[str] = []
        """The text of the answer, refusals included, in pieces."""
        self.thought: list[str] = []
        self.refused: list[str] = []
        self._text, self._reasoning, self._refusal = AnswerText(stop), AnswerText(), AnswerText()
        self._events = EventDecoder(bounds.line)
        self._body: list[bytes] | None = None  # of a response that is no stream of events
        self._bounds = bounds
        self._body_size = self._length = 0
        self._begun = False
        self._has_begun = False  # to say something

    def feed(self, piece: bytes) -> Said:
        """Decode what one read of the response brought, and return all that it says.

        Raises:
            ModelFailure: the endpoint tells of an error, or sends too much.
        """
        if not self._begun:
            beginning = piece.removeprefix(BOM).lstrip(SPACE)
            self._begun = bool(beginning)
            self._body = [] if beginning.startswith(NO_EVENTS) else None
        if self._body is not None:
            self._body.append(piece)
            self._body_size += len(piece)
            if self._body_size > self._bounds.body:
                raise too_large("an answer", self._bounds.body)
            return Said()
        return self._joined(self._loaded(self._events.feed(piece)))

    def end(self) -> Said:
        """Return what is said at the end of the response.

        Raises:
            ModelFailure: the endpoint tells of an error, or the answer is not complete.
        """
        said = self._joined(self._loaded(self._events.end()) if self._body is None else [self._loaded_whole()])
        if self.finish is None and not self._text.stopped:
            raise ModelFailure(Failure("incomplete"))
        if self.calls.is_nameless and not self.said:
            raise ModelFailure(Failure("failed", words="The model called a tool without naming it."))
        rest = Said(self._text.rest(), self._reasoning.rest(), self._refusal.rest())
        self._note(rest)
        calls = [*said.calls, *self._live.rest()]
        return Said(said.text + rest.text, said.reasoning + rest.reasoning, said.refusal + rest.refusal, calls)

    def _loaded(self, events: Sequence[ServerSentEvent]) -> list[Delta]:
        """Return what events say; after the end of the answer, events that cannot be read are skipped."""
        deltas: list[Delta] = []
        for event in events:
            if self.is_done:
                break
            if event.data.strip() == DONE:
                self.is_done = self.is_told_done = True
                break
            try:
                deltas += [load_chunk(chunk, name=event.name) for chunk in _load_json(event.data)]
            except ModelFailure:
                if self.finish is None and not any(delta.finish for delta in deltas):
                    raise
        return deltas

    def _loaded_whole(self) -> Delta:
        """Return what a JSON body says; some endpoints answer a request for a stream with one."""
        text = b"".join(self._body or ()).removeprefix(BOM).decode(errors="replace")
        body = text if is_page(text) else next(iter(_load_json(text)), None)
        match body:
            case {"choices": [_, *_]}:
                return load_chunk(body)
            case dict() | list() if words(body):
                raise ModelFailure(read_failure(None, body))
        raise ModelFailure(Failure("wrong address", words="It answered with something that is no answer of a model."))

    def _joined(self, deltas: Sequence[Delta]) -> Said:
        """Return as one what the deltas of one read say."""
        texts: list[str] = []
        reasonings: list[str] = []
        refusals: list[str] = []
        told: list[CallPiece] = []
        for text, reasoning, refusal, calls, finish, usage, is_whole in deltas:
            self.finish = more_severe(self.finish, finish)
            if usage:  # totals so far, where they come more than once
                self.usage = usage
            if is_whole and self._has_begun and text.startswith("".join([*self.said, self._text.held, *texts])):
                continue  # it repeats what the stream has said
            self._has_begun = self._has_begun or bool(text or reasoning or calls)
            for fragment in calls:
                told += self._live.next(self.calls.add(fragment), fragment.arguments)
            if text:
                texts.append(text)
            if reasoning:
                reasonings.append(reasoning)
            if refusal:
                refusals.append(refusal)
        said = Said(
            self._text.next("".join(texts)) if texts and not self._text.stopped else "",
            self._reasoning.next("".join(reasonings)) if reasonings else "",
            self._refusal.next("".join(refusals)) if refusals else "",
            told,
        )
        self.is_done = self.is_done or self._text.stopped
        left = self._bounds.text - self._length
        self._length += len(said.text) + len(said.reasoning) + len(said.refusal)
        if self._length > self._bounds.text:
            said = self._cut(said, left)
        self._note(said)
        return said

    def _cut(self, said: Said, left: int) -> Said:
        """End the answer at its bound, and return what may still be said: so many characters."""
        self.is_done, self.finish = True, "length"
        text, reasoning = said.text[:left], said.reasoning[: max(left - len(said.text), 0)]
        refusal = said.refusal[: max(left - len(said.text) - len(said.reasoning), 0)]
        return Said(text, reasoning, refusal, said.calls)

    def _note(self, said: Said) -> None:
        if text := said.text + said.refusal:
            self.said.append(text)
        if said.reasoning:
            self.thought.append(said.reasoning)
        if said.refusal:
            self.refused.append(said.refusal)


def _load_json(data: str) -> list[Any]:
    """Return the JSON of an event, one value or one a line; none for an event that has none, such as `ping`.

    Raises:
        ModelFailure: it begins like JSON but cannot be parsed.
    """
    if not data.lstrip().startswith(("{", "[{")):
        return []
    try:
        return [orjson.loads(data)]
    except ValueError:
        pass  # it may still be what Python reads: half a character, NaN, a line break in a text
    try:
        return [json.loads(data, strict=False)]
    except (ValueError, RecursionError) as error:
        lines = data.splitlines()
        if len(lines) > 1 and all(line.startswith("{") for line in lines):
            return [value for line in lines for value in _load_json(line)]
        raise ModelFailure(Failure("failed", words="It sent something that is no JSON.")) from error
