"""What the client gets of a turn: the text, message by message, and the calls that it answers."""

from collections.abc import Iterable, Iterator, Sequence

from graph.events import ApprovalRequested, ClientCall, Refusal, RunEvent, Text

# Between the texts of two model messages of one turn, such as one before a tool call and one after it.
MESSAGE_SEPARATOR = "\n\n"
# Characters; JSON makes at most six bytes of each, and some clients read no more than 64 KB at once.
MAX_PIECE = 10_000


class Speech:
    """The texts of a turn's messages, with a blank line between two."""

    def __init__(self) -> None:
        self._pieces: dict[str | None, list[str]] = {}

    def hear(self, message_id: str | None, said: str) -> str:
        """Add the next piece of a message, and return what it adds to the whole text."""
        is_new = message_id not in self._pieces
        delta = MESSAGE_SEPARATOR + said if is_new and self._pieces else said
        self._pieces.setdefault(message_id, []).append(said)
        return delta

    @classmethod
    def of(cls, events: Iterable[RunEvent]) -> "Speech":
        """Return what these events say."""
        speech = cls()
        for event in events:
            if isinstance(event, Text | Refusal):
                speech.hear(event.message_id, event.text)
        return speech

    @property
    def text(self) -> str:
        """The whole text that the client got."""
        return MESSAGE_SEPARATOR.join(self.texts.values())

    @property
    def texts(self) -> dict[str | None, str]:
        """The text of each message, by its id."""
        return {message_id: "".join(pieces) for message_id, pieces in self._pieces.items()}


def pieces(text: str, length: int = MAX_PIECE) -> Sequence[str]:
    """Return the text in pieces that fit into a frame."""
    return [text[start : start + length] for start in range(0, len(text), length)]


def open_calls(events: Iterable[RunEvent]) -> Iterator[str]:
    """Yield the ids of the calls that the client was told of, and answers in its next request."""
    for event in events:
        match event:
            case ClientCall(call_id):
                yield call_id
            case ApprovalRequested(asked_as):
                yield asked_as
