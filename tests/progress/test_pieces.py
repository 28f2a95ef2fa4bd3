"""Rates and remaining times on a clock of the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrak_jax.progress import words
from ctrak_jax.progress.pieces import Left, Pieces
from tests.progress.clock import FakeClock


def pieces(clock: FakeClock, total, done: int = 0) -> Pieces:
    return Pieces(total, done, clock, clock.compiling)


def test_a_job_of_constant_rate_is_told_exactly():
    clock = FakeClock()
    found = pieces(clock, 100)
    for done in range(10, 100, 10):
        clock.pass_(4.0)
        found.advance(10)
        assert found.rate == pytest.approx(2.5)
        assert found.left.whole
        assert found.left.seconds == pytest.approx((100 - done) / 2.5)


def test_between_two_pieces_time_goes_down_and_stops_where_the_piece_should_have_ended():
    clock = FakeClock()
    found = pieces(clock, 4)
    clock.pass_(10.0)
    found.advance(1)
    clock.pass_(3.0)
    assert found.left.seconds == pytest.approx(27.0)
    clock.pass_(100.0)
    assert found.left.seconds == pytest.approx(20.0)


@pytest.mark.parametrize("compiled", [0.0, 0.1, 9.0, 90.0, 5000.0])
def test_compilation_changes_no_rate(compiled):
    """A first piece of ten seconds, or of ten seconds and any compilation; of one that is mostly
    compilation nothing is told."""
    clock = FakeClock()
    found = pieces(clock, 5)
    clock.compile_(compiled)
    clock.pass_(10.0)
    found.advance(1)
    assert found.left.seconds == (None if compiled > 10 else pytest.approx(40.0))
    clock.pass_(10.0)
    found.advance(1)
    assert found.left.seconds == pytest.approx(30.0)


def test_a_first_piece_slowed_by_its_compilation_is_forgotten_when_another_is_there():
    """Devices wait for a compilation or work during it, so such a piece measures neither."""
    clock = FakeClock()
    found = pieces(clock, 10)
    clock.compile_(50.0)
    clock.pass_(100.0)
    found.advance(1)
    assert found.left.seconds == pytest.approx(900.0)
    clock.pass_(10.0)
    found.advance(1)
    assert found.left.seconds == pytest.approx(80.0)


def test_a_compilation_in_the_middle_stops_the_time_left():
    clock = FakeClock()
    found = pieces(clock, 10)
    clock.pass_(10.0)
    found.advance(1)
    before = found.left
    clock.compile_(300.0)
    assert found.left == before
    clock.compiling.begin()
    clock.pass_(300.0)
    assert found.left == before, "also while it goes on"


def test_no_piece_says_nothing():
    clock = FakeClock()
    found = pieces(clock, 10)
    clock.pass_(60.0)
    assert found.rate is None
    assert found.left.seconds is None
    assert words.left(found.left) == words.UNKNOWN


def test_what_was_there_before_is_no_piece():
    clock = FakeClock()
    found = pieces(clock, 100, done=90)
    assert found.rate is None
    assert found.fraction == 0.9
    clock.pass_(5.0)
    found.advance(5)
    assert found.left.seconds == pytest.approx(5.0)


def test_kinds_have_rates_of_their_own():
    clock = FakeClock()
    found = pieces(clock, {"slow": 2, "fast": 10})
    clock.pass_(20.0)
    found.advance(1, "slow")
    assert found.left == Left(20.0, whole=False)
    assert words.left(found.left) == "at least 20 s left"
    clock.pass_(1.0)
    found.advance(1, "fast")
    assert found.left == Left(29.0, whole=True)


def test_the_rate_is_of_the_last_pieces():
    clock = FakeClock()
    found = pieces(clock, 1000)
    for _ in range(100):
        clock.pass_(1.0)
        found.advance(1)
    for _ in range(40):
        clock.pass_(4.0)
        found.advance(1)
    assert found.rate == pytest.approx(0.25)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0.1, 50)), min_size=1, max_size=40))
def test_a_rate_is_between_the_slowest_and_the_fastest_piece(given):
    clock = FakeClock()
    found = pieces(clock, 1000)
    for items, seconds in given:
        clock.pass_(seconds)
        found.advance(items)
    rates = [items / seconds for items, seconds in given]
    assert found.rate is not None
    assert min(rates) * 0.999 <= found.rate <= max(rates) * 1.001
