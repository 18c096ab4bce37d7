"""The `chat-agent` command, as a process: quiet when it is interrupted, also while it still imports what it needs."""

import os
import sys
from collections.abc import Sequence

from server.command.signals import end_uninterrupted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    try:
        from server.command.commands import run

        status = run(arguments)
        if not sys.stdout.closed:  # as a server over standard input and output leaves it
            sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # whoever read what it printed has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    end_uninterrupted()
    sys.exit(status)


if __name__ == "__main__":
    main()
