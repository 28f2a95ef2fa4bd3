"""What a command has left: its stage, and later stages by what they can be told by."""

import pytest

from ctrak_jax.progress import words
from ctrak_jax.progress.overall import Basis, InAll, Overall
from ctrak_jax.progress.pieces import Pieces
from tests.progress.clock import FakeClock

STAGES = ("train", "featurize", "report")


def half_done(clock: FakeClock) -> Pieces:
    """One of two items in ten seconds."""
    found = Pieces(2, 0, clock, clock.compiling)
    clock.pass_(10.0)
    found.advance(1)
    return found


def test_stages_nothing_is_known_of_are_named():
    overall = Overall(STAGES, Basis({"report": 5.0}))
    overall.begin("train")
    found = overall.in_all(half_done(FakeClock()))
    assert found == InAll(15.0, ("featurize",))
    assert words.in_all(found) == "at least 15 s left in all, without featurize"


def test_a_stage_without_pieces_is_not_known():
    overall = Overall(STAGES)
    overall.begin("train")
    assert overall.in_all(None) == InAll(None, STAGES)
    assert words.in_all(overall.in_all(None)) == "left in all: unknown"


def test_flops_are_told_at_the_speed_reached():
    """Training reaches 200 / 20 s; 900 of the next stage take 90."""
    clock = FakeClock()
    basis = Basis(flops={"train": 200.0, "featurize": 900.0})
    overall = Overall(STAGES, basis, clock, clock.compiling)
    overall.begin("train")
    assert overall.in_all(half_done(clock)) == InAll(100.0, ("report",))
    overall.begin("featurize")
    assert overall.in_all(None) == InAll(90.0, ("report",)), "before it has a piece of its own"
    begun = Pieces(2, 0, clock, clock.compiling)
    clock.compile_(30.0)
    clock.pass_(10.0)
    assert overall.in_all(begun) == InAll(80.0, ("report",))
    overall.begin("report")
    assert overall.in_all(None) == InAll(None, ("report",)), "it has no FLOPs"


def test_an_earlier_run_tells_a_stage_s_time_before_its_first_piece():
    clock = FakeClock()
    overall = Overall(STAGES, Basis({"featurize": 40.0, "report": 5.0}), clock, clock.compiling)
    overall.begin("train")
    assert overall.in_all(None) == InAll(None, ("train",))
    overall.begin("featurize")
    assert overall.in_all(None) == InAll(45.0, ())
    clock.compile_(30.0)
    clock.pass_(10.0)
    assert overall.in_all(None) == InAll(35.0, ()), "it works before it counts"
    pieces = Pieces(2, 0, clock, clock.compiling)
    clock.pass_(20.0)
    assert overall.in_all(pieces) == InAll(15.0, ())
    pieces.advance(1)
    assert overall.in_all(pieces) == InAll(25.0, ()), "a piece took 20 s: so does the other"
    overall.begin("report")
    clock.pass_(4.0)
    assert overall.in_all(None) == InAll(1.0, ())
    clock.pass_(4.0)
    assert overall.in_all(None) == InAll(None, ("report",)), "it should have been over"


def test_what_is_there_already_takes_no_time():
    clock = FakeClock()
    overall = Overall(STAGES, Basis({"featurize": 40.0, "report": 5.0}), clock, clock.compiling)
    overall.begin("featurize")
    assert overall.in_all(Pieces(10, 5, clock, clock.compiling)) == InAll(25.0, ()), "half of it"
    overall.parts([1.0, 3.0])
    overall.part(1)
    assert overall.in_all(None) == InAll(35.0, ()), "the first part was there"
    assert overall.in_all(Pieces(10, 5, clock, clock.compiling)) == InAll(20.0, ())


def test_parts_of_unknown_work_share_the_time_of_an_earlier_run():
    clock = FakeClock()
    overall = Overall(STAGES, Basis({"featurize": 40.0, "report": 5.0}), clock, clock.compiling)
    overall.begin("featurize")
    overall.parts([None, None])
    clock.pass_(10.0)
    overall.part(1)
    clock.pass_(10.0)
    assert overall.in_all(None) == InAll(25.0, ())


def test_an_earlier_run_is_believed_before_flops():
    basis = Basis({"featurize": 7.0, "report": 1.0}, {"train": 200.0, "featurize": 900.0})
    overall = Overall(STAGES, basis)
    overall.begin("train")
    assert overall.in_all(half_done(FakeClock())).seconds == pytest.approx(18.0)


def test_parts_of_known_work_take_their_share():
    overall = Overall(STAGES)
    overall.begin("featurize")
    overall.parts([1.0, 3.0, 0.0])
    found = overall.left(half_done(FakeClock()))
    assert found.seconds == pytest.approx(10.0 + 60.0), "20 s of work, then three times as much"
    assert found.whole
    overall.part(1)
    assert overall.left(half_done(FakeClock())).seconds == pytest.approx(10.0)


def test_parts_of_unknown_work_make_a_lower_bound():
    overall = Overall(STAGES, Basis({"report": 1.0}))
    overall.begin("featurize")
    overall.parts([None, None])
    found = half_done(FakeClock())
    assert not overall.left(found).whole
    assert overall.in_all(found) == InAll(11.0, ("featurize",))
    overall.part(1)
    assert overall.left(found).whole
