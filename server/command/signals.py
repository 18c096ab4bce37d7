"""Handle the signals that uvicorn does not."""

import signal
import sys


def end_in_order_on_hangup() -> None:
    """Let SIGHUP, which comes when the terminal closes, end the command as SIGTERM does.

    Where it is ignored, as under `nohup`, it stays ignored. Windows has no such signal.
    """
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def end_with_status_0_when_told() -> None:
    """Let SIGTERM, by which systemd and Docker end a server, be a normal end.

    uvicorn ends in order, and then passes the signal on to this handler.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def end_uninterrupted() -> None:
    """Ignore Ctrl-C from here on: the work is done, and another one would only change the exit status.

    While Python itself ends, it no longer handles the signal, which then kills the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
