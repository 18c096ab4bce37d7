"""Events of a run to the items of a response's output, and to the events of its stream. Pure.

The items and their ids are made of the events alone: made again, they are the same. So what is stored with a turn is
what its client was sent.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.messages.ai import UsageMetadata, add_usage

from graph.events import (
    ApprovalRequested,
    ClientCall,
    ClientCallDelta,
    MessageEnded,
    Reasoning,
    Refusal,
    RunEvent,
    Text,
    ToolEnded,
    ToolStarted,
)
from server.responses.ids import item_id
from server.responses.spoken import Called, Kept, Said, Spoken, Thought
from server.sessions.speech import pieces

Json = dict[str, Any]
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Output:
    """The items of a response's output, as they grow.

    Args:
        response_id: the response, which names its items.
        encrypts: whether reasoning has content that is not for readers, which clients send back.
    """

    def __init__(self, response_id: str, *, encrypts: bool = False) -> None:
        self._encrypts = encrypts
        self.items: list[Json] = []
        self.usage: UsageMetadata | None = None
        self.incomplete_reason: str | None = None
        """Why the answer ends before its end, in OpenAI's words."""
        self._response_id = response_id
        self._open: Spoken | None = None
        self._late: list[str] = []  # thoughts that came when the message had begun
        self._calls: dict[str, int] = {}  # calls of the server's tools that run, and the places of their items
        self._called: dict[str, Called] = {}  # calls of the client's tools that are being said

    def of(self, event: RunEvent) -> Iterator[Json]:
        """Yield the events of the stream that an event of the run makes, without their numbers."""
        match event:
            case Text():
                yield from self._says("output_text", event.message_id, event.text)
            case Refusal():
                yield from self._says("refusal", event.message_id, event.text)
            case Reasoning():
                yield from self._thinks(event.message_id, event.text)
            case MessageEnded():
                self.usage = add_usage(self.usage, event.usage)
                self.incomplete_reason = REASONS.get(event.finish_reason or "")
                # The last item is the one that is incomplete.
                kept: Kept = "incomplete" if self.incomplete_reason and not event.has_calls else "completed"
                yield from self._close(kept, "commentary" if event.has_calls else "final_answer")
            case ClientCallDelta():
                yield from self._calls_client(event)
            case ClientCall():
                status: Kept = "incomplete" if self.incomplete_reason else "completed"
                yield from self._call_ended(self._called.pop(event.call_id), status)
            case ApprovalRequested():
                yield from self._approval_requested(event)
            case ToolStarted():
                yield from self._tool_started(event)
            case ToolEnded():
                yield from self._tool_ended(event)

    def after(self, events: Sequence[RunEvent]) -> "Output":
        """Return it after all events of a run, at its end."""
        for event in events:
            for _ in self.of(event):
                pass
        for _ in self.end():
            pass
        return self

    def end(self) -> Iterator[Json]:
        """Yield what ends the items that are still open, as where the run was cut short."""
        yield from self._close("incomplete", "final_answer")
        for called in self._called.values():
            yield from self._call_ended(called, "incomplete")
        self._called.clear()
        for place in self._calls.values():
            self.items[place] = {**self.items[place], "status": "incomplete"}
            yield self._done(place)
        self._calls.clear()

    def _says(self, kind: str, message_id: str | None, text: str) -> Iterator[Json]:
        if not (isinstance(self._open, Said) and self._open.message_id == message_id):
            yield from self._close("completed", "commentary")
            item = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
            self._open = Said(self._place("message", item), message_id)
            yield self._added()
        yield from self._about(self._open.place, self._open.say(kind, text))

    def _thinks(self, message_id: str | None, text: str) -> Iterator[Json]:
        if isinstance(self._open, Said) and self._open.message_id == message_id:
            self._late.append(text)
            return
        if not (isinstance(self._open, Thought) and self._open.message_id == message_id):
            yield from self._close("completed", "commentary")
            self._open = Thought(self._place("reasoning", {"type": "reasoning", "summary": []}), message_id)
            yield self._added()
        yield from self._about(self._open.place, self._open.say(text))

    def _close(self, status: Kept, phase: str) -> Iterator[Json]:
        """End the item that is being said, and tell the thoughts that came late."""
        if self._open:
            place = self._open.place
            yield from self._about(place, self._open.end())
            self.items[place] = {**self.items[place], **self._open.whole(status, phase)}
            if self._encrypts and self.items[place]["type"] == "reasoning":
                self.items[place]["encrypted_content"] = _encoded(self.items[place]["summary"][0]["text"])
            yield self._done(place)
            self._open = None
        if self._late:
            late, self._late = "".join(self._late), []
            yield from self._thinks(None, late)
            yield from self._close(status, phase)

    def _calls_client(self, more: ClientCallDelta) -> Iterator[Json]:
        if more.call_id not in self._called:
            yield from self._close("completed", "commentary")
            item = {"type": "function_call", "call_id": more.call_id, "name": more.name, "arguments": ""}
            place = self._place("function_call", {**item, "status": "in_progress"})
            self._called[more.call_id] = Called(place, more.name)
            yield self._added()
        called = self._called[more.call_id]
        yield from self._about(called.place, called.say(more.arguments))

    def _call_ended(self, called: Called, status: Kept) -> Iterator[Json]:
        yield from self._about(called.place, called.end())
        self.items[called.place] = {**self.items[called.place], **called.whole(status)}
        yield self._done(called.place)

    def _approval_requested(self, asked: ApprovalRequested) -> Iterator[Json]:
        about = {"server_label": asked.server, "name": asked.name, "arguments": _dump(asked.arguments)}
        self.items.append({"id": asked.asked_as, "type": "mcp_approval_request", **about})
        yield self._added()
        yield self._done(len(self.items) - 1)

    def _tool_started(self, call: ToolStarted) -> Iterator[Json]:
        arguments = call.arguments if isinstance(call.arguments, str) else _dump(call.arguments)
        item = {"type": "mcp_call", "status": "in_progress", "server_label": call.server, "name": call.name}
        unknown = {"arguments": "", "output": None, "error": None, "approval_request_id": call.asked_as}
        place = self._calls[call.call_id] = self._place("mcp_call", {**item, **unknown})
        yield self._added()
        yield self._at(place, "response.mcp_call.in_progress")
        for piece in pieces(arguments):
            yield self._at(place, "response.mcp_call_arguments.delta", delta=piece)
        yield self._at(place, "response.mcp_call_arguments.done", arguments=arguments)
        self.items[place] = {**self.items[place], "arguments": arguments}

    def _tool_ended(self, ended: ToolEnded) -> Iterator[Json]:
        if (place := self._calls.pop(ended.call_id, None)) is None:
            return
        said: Json = {"status": "completed", "output": ended.output}
        if ended.failed:
            content = [{"type": "text", "text": ended.output}]
            said = {"status": "failed", "error": {"type": "mcp_tool_execution_error", "content": content}}
        self.items[place] = {**self.items[place], **said}
        yield self._at(place, f"response.mcp_call.{said['status']}")
        yield self._done(place)

    def _place(self, kind: str, item: Json) -> int:
        """Add an item, and return its place."""
        place = len(self.items)
        self.items.append({"id": item_id(self._response_id, kind, place, "o"), **item})
        return place

    def _added(self) -> Json:
        place = len(self.items) - 1
        return {"type": "response.output_item.added", "output_index": place, "item": self.items[place]}

    def _done(self, place: int) -> Json:
        return {"type": "response.output_item.done", "output_index": place, "item": self.items[place]}

    def _at(self, place: int, kind: str, **more: Any) -> Json:
        return {"type": kind, "item_id": self.items[place]["id"], "output_index": place, **more}

    def _about(self, place: int, told: Iterator[Json]) -> Iterator[Json]:
        for event in told:
            yield {"type": event["type"], "item_id": self.items[place]["id"], "output_index": place, **event}


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _dump(arguments: Any) -> str:
    return json.dumps(arguments, ensure_ascii=False)
