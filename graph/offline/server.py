"""The child process of the embedded model, see graph/offline/process.py: reads a line, writes a line, serves."""

import ctypes
import os
import signal
import sys
from types import FrameType

import xllamacpp

from graph.offline.memory import MIB, TOKEN
from graph.offline.process import MODEL_NAME, Orders

PR_SET_PDEATHSIG = 1
NICENESS = 5
SLOTS = 2
TOP_P, TOP_K = 0.8, 20  # as Qwen recommends; llama.cpp's wider default garbles long Korean answers
ERRORS_ONLY = 1


def main() -> None:
    """Serve the model until SIGTERM, which also comes when the parent dies."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the same when the terminal closes
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.nice(NICENESS)
    orders = Orders.load(sys.stdin.readline())

    # The native code logs to standard output, which is our line to the parent.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    server = xllamacpp.Server(parameters(orders))
    print(server.listening_address, file=answer, flush=True)
    sys.stdin.read()  # until the parent has ended, in whatever way


def parameters(orders: Orders) -> xllamacpp.CommonParams:
    """Return llama.cpp's settings: two requests at a time, our template, and a key."""
    params = xllamacpp.CommonParams()
    params.model.path = orders.weights
    params.model_alias = {MODEL_NAME}  # otherwise its name is the path of its file
    params.chat_template = orders.template
    params.use_jinja = True
    params.port = orders.port
    params.hostnames = ["127.0.0.1"]
    params.api_keys = [orders.api_key]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = False
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * orders.window
    params.cache_ram_mib = SLOTS * orders.window * TOKEN // MIB  # else a prompt that a slot drops must be read again
    params.sampling.top_p = TOP_P
    params.sampling.top_k = TOP_K
    params.verbosity = ERRORS_ONLY
    return params


def _leave(_signum: int, _frame: FrameType | None) -> None:
    # Native threads hold no state worth saving, and their orderly end takes seconds.
    os._exit(0)


if __name__ == "__main__":
    main()
