"""The clock by which sessions are old."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sessions.clock import TOLERANCE, Clock

DAY = 86_400.0


class Hands:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 5.0

    def go(self, seconds: float, jump: float = 0.0) -> None:
        self.wall += seconds + jump
        self.steady += seconds


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def clock(hands: Hands) -> Clock:
    return Clock(lambda: hands.wall, lambda: hands.steady)


def test_a_clock_is_right_when_it_was_for_a_while(hands: Hands, clock: Clock) -> None:
    assert not clock.is_right(600)
    hands.go(599)
    assert not clock.is_right(600)
    hands.go(1)
    assert clock.is_right(600)


def test_sixty_days_ahead_for_a_minute_make_nothing_old(
    hands: Hands, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    hands.go(600)
    assert clock.is_right(600)
    hands.go(1, jump=60 * DAY)
    assert not clock.is_right(600)
    hands.go(60)
    assert not clock.is_right(600)
    hands.go(1, jump=-60 * DAY)
    assert not clock.is_right(600)
    hands.go(600)
    assert clock.is_right(600)
    assert caplog.text.count("The clock jumped by") == 2


@given(st.lists(st.floats(-TOLERANCE / 2, TOLERANCE / 2), min_size=11, max_size=30))
def test_small_corrections_change_nothing(corrections: list[float]) -> None:
    hands = Hands()
    clock = Clock(lambda: hands.wall, lambda: hands.steady)
    for correction in corrections:
        hands.go(60, jump=correction)
        right = clock.is_right(600)
    assert right


@given(st.lists(st.tuples(st.floats(0, 1_000), st.sampled_from([0.0, 0.0, DAY, -DAY, 40.0])), min_size=1))
def test_a_clock_is_right_exactly_if_no_jump_was_seen_for_long_enough(steps: list[tuple[float, float]]) -> None:
    hands = Hands()
    clock = Clock(lambda: hands.wall, lambda: hands.steady)
    jumped_at = hands.steady
    for seconds, jump in steps:
        hands.go(seconds, jump)
        jumped_at = hands.steady if jump else jumped_at
        assert clock.is_right(600) == (hands.steady - jumped_at >= 600)
