"""Lives: no two streams that one process sees under a name have the same, whatever the clock does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from durable_streams.streams.lives import Lives

CLOCKS = st.lists(st.one_of(st.just(1000.0), st.floats(0, 4e9)), min_size=1, max_size=30)


@given(CLOCKS)
def test_lives_increase_also_while_the_clock_stands_still_or_steps_back(clock: list[float]) -> None:
    lives = Lives()
    begun = [lives.begin(now) for now in clock]
    assert all(earlier < later for earlier, later in pairwise(begun))
    assert begun[0] >= 1


def test_a_life_is_the_creation_time_in_microseconds() -> None:
    assert Lives().begin(1764289999.123456) == 1764289999123456


@given(CLOCKS, st.integers(1, 10**16))
def test_a_life_is_later_than_those_that_have_ended_and_than_its_source(
    clock: list[float], other: int
) -> None:
    lives = Lives()
    assert lives.begin(clock[0], other) > other
    lives = Lives()
    lives.end(other)
    assert lives.begin(clock[0]) > other
