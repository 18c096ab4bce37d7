"""How much of a model endpoint's answer is read. Pure."""

from dataclasses import dataclass

from graph.model.failures import Failure, ModelFailure

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one answer may be at the most: what no model says would only fill the memory."""

    line: int = MEBIBYTE
    """Bytes of a line of the stream, or of an event."""
    text: int = 4 * MEBIBYTE
    """Characters of the text, reasoning included. A longer one is cut, like one that met `max_tokens`."""
    arguments: int = MEBIBYTE
    """Characters of the arguments of all calls."""
    calls: int = 128

    @property
    def body(self) -> int:
        """Bytes of a body that is no stream."""
        return self.text + self.arguments + self.line


DEFAULT_BOUNDS = Bounds()


def too_large(what: str, most: int) -> ModelFailure:
    """Return the failure of an endpoint that sent too much."""
    return ModelFailure(Failure("failed", words=f"It sent {what} of more than {most} bytes."))
