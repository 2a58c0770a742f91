"""The search for a crossing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgacodec.search import Crossing


def run(crossing, measure):
    """Return how many places were measured."""
    n = 0
    while (place := crossing.next()) is not None:
        crossing.note(place, measure(place))
        n += 1
    return n


@given(st.integers(0, 400), st.floats(-20, 420), st.floats(-50, 450), st.sampled_from([0.0, 0.02, 5.0]))
def test_the_crossing_of_what_rises_is_found(last, where, start, slope):
    def measure(place):
        return math.sinh((place - where) / 30)

    crossing = Crossing(last, start, slope)
    n = run(crossing, measure)
    assert crossing.above - crossing.below == 1
    assert crossing.below == -1 or measure(crossing.below) < 0
    assert crossing.above == last + 1 or measure(crossing.above) >= 0
    assert n <= 2 * math.ceil(math.log2(last + 2)) + 4


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_what_does_not_rise_ends_between_neighbours_of_either_kind(values):
    crossing = Crossing(len(values) - 1, slope=0.1)
    run(crossing, values.__getitem__)
    assert crossing.above - crossing.below == 1
    assert crossing.below == -1 or values[crossing.below] < 0
    assert crossing.above == len(values) or values[crossing.above] >= 0


def test_a_straight_line_takes_three_measurements():
    crossing = Crossing(144, slope=0.02)
    assert run(crossing, lambda place: 0.015 * (place - 33.4)) <= 4


def test_a_search_starts_where_another_one_leads():
    crossing = Crossing(144, slope=0.02)
    run(crossing, lambda place: 0.015 * (place - 33.4))
    assert crossing.again(-0.15).next() == 44
    assert crossing.again(0).estimate() == pytest.approx(33.4, abs=0.1)
