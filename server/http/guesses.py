"""Wrong keys: slowed down and told, so that nobody tries thousands of them unseen."""

import asyncio
import logging
import time
from collections import OrderedDict

from starlette.types import Scope

from server.http.metrics import Metrics

log = logging.getLogger(__name__)

# Wrong keys from one address in a minute that are answered at once; further ones wait.
FREE, MINUTE, DELAY = 10, 60.0, 1.0
# Addresses that are remembered.
MAX_ADDRESSES = 10_000


class Guesses:
    """The wrong keys of the last minute, by the address that they came from."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counted: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def slow_down(self, scope: Scope) -> None:
        """Count a wrong key, and wait if its address has sent many."""
        self._metrics.count_wrong_key()
        address, now = (scope.get("client") or ("an unknown address",))[0], time.monotonic()
        began, count = self._counted.pop(address, (now, 0))
        if now - began > MINUTE:
            began, count = now, 0
        self._counted[address] = began, count + 1
        while len(self._counted) > MAX_ADDRESSES:
            self._counted.popitem(last=False)
        if count == FREE:
            log.warning("%s has sent more than %d wrong keys in a minute. Further ones wait.", address, FREE)
        if count >= FREE:
            await asyncio.sleep(DELAY)
