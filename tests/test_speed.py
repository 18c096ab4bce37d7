"""What a token and a turn cost beside a bare hop: the short form of `make bench`, with a quarter of slack."""

from dataclasses import replace

import pytest

from benchmarks.speed import BARS, BURST, HOP, OURS, PACED, TURNS, Result, measure, table

pytestmark = pytest.mark.xdist_group("speed")  # one process measures all of it, once

SHORT = [replace(PACED, requests=64), replace(BURST, requests=80), replace(TURNS, requests=160)]
SLACK = 1.25
# Where the bar is not reached yet, what is reached; see docs/performance.md.
REACHED = {BURST.name: 1.4, TURNS.name: 4.2}


@pytest.fixture(scope="module")
def result() -> Result:
    return measure(SHORT, [HOP, OURS], rounds=3)


@pytest.mark.parametrize("load", BARS)
def test_a_load_costs_no_more_than_what_was_reached(result: Result, load: str) -> None:
    assert result.ratio(load, OURS) <= SLACK * max(BARS[load], REACHED.get(load, 0)), "\n".join(table(result))
