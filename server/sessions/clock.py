"""Whether the time of day can be believed: a clock that is wrong for a minute must not make every session old."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# Seconds that the clock may be set by at once; time servers correct smaller errors slowly.
TOLERANCE = 30.0


class Clock:
    """The time of day beside the clock that nobody sets.

    Args:
        wall: returns the time of day, in seconds.
        steady: returns seconds since some moment.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._offset, self._right_since = wall() - steady(), steady()

    def is_right(self, seconds: float) -> bool:
        """Say whether the two clocks have gone together for so many seconds, as far as this was asked."""
        offset, now = self._wall() - self._steady(), self._steady()
        if abs(jump := offset - self._offset) > TOLERANCE:
            log.warning(
                "The clock jumped by %.0f s. No session counts as old until it goes right for %g s.", jump, seconds
            )
            self._right_since = now
        self._offset = offset
        return now - self._right_since >= seconds
