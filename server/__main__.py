"""The `chat-agent` command as a process: no traceback on Ctrl-C, even during its imports."""

import os
import sys
from collections.abc import Sequence

from server.command.signals import end_uninterrupted


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    try:
        from server.command.commands import run

        status = run(arguments)
        if not sys.stdout.closed:  # an MCP server over stdio leaves it closed
            sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:  # the reader of its output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    end_uninterrupted()
    sys.exit(status)


if __name__ == "__main__":
    main()
