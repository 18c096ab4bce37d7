"""The text of one model answer, piece by piece. Pure."""

from collections.abc import Sequence


class AnswerText:
    """What of an answer's text can be said by now.

    Some endpoints cut a character in two, one half of a surrogate pair in each piece; and some ignore `stop`, or find a
    sequence when half of it has been said.
    """

    def __init__(self, stop: str | Sequence[str] = ()) -> None:
        self._stop = [sequence for sequence in ([stop] if isinstance(stop, str) else stop) if sequence]
        self.held = ""
        """What cannot be said yet."""
        self.stopped = False
        """Whether a stop sequence came; it and the text after it are dropped."""

    def next(self, piece: str) -> str:
        """Return what can be said after the next piece: not half a character, nor what may begin a stop sequence."""
        if not self.held and not self._stop and piece.isascii():
            return piece
        text = _joined(self.held + piece)
        found = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if found:
            _, said = min(found)  # the one that ends first, however the text is cut into pieces
            self.stopped, self.held = True, ""
        else:
            half = "\ud800" <= text[-1:] <= "\udbff"
            said = len(text) - max([int(half), *(_begun(stop, text) for stop in self._stop)])
            self.held = text[said:]
        return paired_surrogates(text[:said])

    def rest(self) -> str:
        """Return what was held back to the end, but for half a character."""
        return self.held.encode(errors="ignore").decode()


def _begun(stop: str, text: str) -> int:
    """Return how many characters of the stop sequence's beginning the text ends with; 0 if none."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)


def _joined(text: str) -> str:
    """Return the text with two halves of a character as one; a half alone stays."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def paired_surrogates(text: str) -> str:
    """Return the text with two halves of a character as one, and a half alone as U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
