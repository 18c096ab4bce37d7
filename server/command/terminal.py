"""Show a conversation at a terminal; if the output is not a terminal, print only the answers' text."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Text of a model, or of a page that a tool has read, must not control the terminal.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MAX_ARGUMENTS = 60
WAITING, ERASED = "…", "\r\x1b[K"


@dataclass(frozen=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class Tool:
    """A tool of the server that has begun, or ended."""

    id: str
    name: str
    arguments: str
    status: str
    duration: float | None

    def __str__(self) -> str:
        """Return its name and what it is asked."""
        asked = self.arguments if len(self.arguments) <= MAX_ARGUMENTS else f"{self.arguments[:MAX_ARGUMENTS]}…"
        return f"· {self.name} {asked} … "

    @property
    def outcome(self) -> str:
        """How long it took, and whether it failed."""
        return f"{'failed after ' if self.status == 'failed' else ''}{self.duration or 0:.1f} s"


class Terminal:
    """Where answers are shown, and questions are typed."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._in_colour = self._is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._at_line_start = True
        self._is_waiting = False
        self._last: object = None
        """What is being shown: a kind of text, or the running tool."""
        if reconfigure := getattr(sys.stdout, "reconfigure", None):
            reconfigure(errors="replace")  # the terminal's encoding may lack characters

    def lines(self) -> Iterator[str]:
        """Yield the lines that are typed in, until Ctrl-C or Ctrl-D."""
        from prompt_toolkit import PromptSession
        from prompt_toolkit.output import create_output

        prompts: PromptSession[str] = PromptSession(output=create_output(always_prefer_tty=True))
        while True:
            try:
                line = prompts.prompt(">>> ", reserve_space_for_menu=0).strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line:
                yield line

    def confirm(self, question: str) -> bool:
        """Ask a question to which only yes is yes; Ctrl-C and Ctrl-D are no."""
        from prompt_toolkit import prompt

        try:
            answer = prompt(f"{CONTROLS.sub('', question)} [y/N] ", reserve_space_for_menu=0)
        except (EOFError, KeyboardInterrupt):
            return False
        return answer.strip().casefold() in ("y", "yes", "예", "네")

    def show(self, pieces: Iterable[Text | Reasoning | Tool]) -> None:
        """Show an answer, piece by piece as it comes."""
        self._last = None
        self._wait()
        try:
            for piece in pieces:
                self._show_piece(piece)
        finally:
            self.end_line()

    def _show_piece(self, piece: Text | Reasoning | Tool) -> None:
        match piece:
            case Text(text):
                self._write(self._beginning(Text, text))
            case Reasoning(text) if self._is_terminal:
                self._write(self._beginning(Reasoning, text), dim=True)
            case Tool(status="started") if self._is_terminal:
                self.end_line()
                self._last = piece.id
                self._write(str(piece), dim=True)
            case Tool() if self._is_terminal:
                began = "" if self._last == piece.id else str(piece)
                if began:
                    self.end_line()
                self._last = Tool
                self._write(f"{began}{piece.outcome}\n", dim=True)
                self._wait()

    def _beginning(self, kind: object, text: str) -> str:
        """Begin another kind of text on a new line, without an empty line before it."""
        if self._last == kind:
            return text
        if self._is_terminal and self._last is not None:
            self.end_line()
            text = text.lstrip("\n")
        self._last = kind
        return text

    def remark(self, sentence: str) -> None:
        """Say something beside the answers, to a person."""
        if self._is_terminal:
            self._write(f"{sentence}\n", dim=True)

    def complain(self, sentence: str) -> None:
        """Say what went wrong."""
        print(CONTROLS.sub("", sentence), file=sys.stderr, flush=True)

    def end_line(self) -> None:
        """Begin a new line, unless this one is empty."""
        self._wait_no_more()
        if not self._at_line_start:
            self._write("\n")

    def _wait(self) -> None:
        """Show that an answer is coming: a small machine reads a question for some seconds."""
        if self._in_colour and self._at_line_start:
            self._is_waiting = True
            print(f"\x1b[2m{WAITING}\x1b[0m", end="", flush=True)

    def _wait_no_more(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            print(ERASED, end="", flush=True)

    def _write(self, text: str, *, dim: bool = False) -> None:
        if text := CONTROLS.sub("", text):
            self._wait_no_more()
            self._at_line_start = text.endswith("\n")
            print(f"\x1b[2m{text}\x1b[0m" if dim and self._in_colour else text, end="", flush=True)
