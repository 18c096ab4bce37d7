"""Whether a server goes on answering while something else is done to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.agent_server import AgentServer
from tests.support.processors import seconds_of

# Seconds in which /health answers, whatever else is done to the server.
BOUND = 0.25
PAUSE = 0.01


@contextmanager
def responsive(server: AgentServer, within: float = BOUND) -> Iterator[None]:
    """Fail if /health does not answer in time, at any moment until this ends."""
    done, took = threading.Event(), list[float]()

    def probe() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while True:
                took.append(seconds_of(lambda: client.get("/health").raise_for_status(), server.process_id))
                if done.wait(PAUSE):
                    return

    prober = threading.Thread(target=probe)
    prober.start()
    try:
        yield
    finally:
        done.set()
        prober.join()
    assert took, "/health did not answer"
    assert max(took) < within, f"/health took {max(took):.3f} s"
