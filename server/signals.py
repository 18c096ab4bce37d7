"""What the command does with signals that uvicorn leaves alone."""

import signal
import sys


def end_in_order_on_hangup() -> None:
    """Let SIGHUP, which comes when the terminal closes, end the command as SIGTERM does.

    Where it is ignored, as under `nohup`, it stays ignored. Windows has no such signal.
    """
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def end_uninterrupted() -> None:
    """Ignore Ctrl-C from here on: what was to be done is done, and another press would only spoil the exit status.

    While Python ends, it has no handler of its own any more, and the signal would kill the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
