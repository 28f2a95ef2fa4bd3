"""The lines of progress, on a clock of the test's."""

import json
import logging
import time

import jax
import jax.numpy as jnp
import pytest

from ctrak_jax import log
from ctrak_jax.progress.board import QUIET_SECONDS, Board, Warnings, board
from ctrak_jax.progress.overall import Overall
from tests.progress.clock import FakeClock


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    logger = logging.getLogger("ctrak")
    monkeypatch.setattr(logger, "info", lambda form, *values: lines.append(form % values))
    return lines


def on(clock: FakeClock) -> Board:
    """A board in the second of three stages."""
    found = Board(clock, clock.compiling)
    found.overall = Overall(("train", "featurize", "report"))
    found.overall.begin("featurize")
    return found


def test_a_line_now_and_then(said):
    clock = FakeClock()
    shown = on(clock)
    count = shown.open("featurize", 10)
    for _ in range(4):
        clock.pass_(10.0)
        count.advance(1)
        shown.tick()
    assert said == [
        "stage 2 of 3, featurize: 3/10, 30%, 10.0 s each, 70 s left; at least 70 s left in all, "
        "without report"
    ]


def test_a_compilation_has_lines_of_its_own_and_stops_no_clock_of_lines(said):
    clock = FakeClock()
    shown = on(clock)
    count = shown.open("featurize", 10)
    clock.compiling.begin()
    clock.pass_(QUIET_SECONDS + 1)
    shown.tick()
    clock.pass_(4.0)
    clock.compiling.end(QUIET_SECONDS + 5)
    clock.pass_(1.0)
    count.advance(1)
    shown.tick()
    shown.close()
    assert said == [
        "stage 2 of 3, featurize: 0/10, 0%, compiling, 21 s; left in all: unknown",
        "stage 2 of 3, featurize: compiled in 25 s",
    ]


def test_a_count_within_another_says_both(said):
    clock = FakeClock()
    shown = on(clock)
    shown.overall = None
    outer = shown.open("lds", 3)
    clock.pass_(60.0)
    outer.advance(1)
    inner = shown.open("train", 100)
    clock.pass_(30.0)
    inner.advance(50)
    shown.tick()
    assert said == ["lds: 1/3, 33%, 90 s left; train: 50/100, 50%, 1.7/s, 30 s left"]


def test_one_piece_has_no_rate():
    clock = FakeClock()
    shown = Board(clock, clock.compiling)
    count = shown.open("gradient of the question", 1)
    clock.compile_(34.0)
    clock.pass_(2.0)
    assert shown.line(count) == "gradient of the question: 2 s so far"


def test_the_line_of_a_stage_has_its_compilation(tmp_path):
    with log.stage(tmp_path, "some stage"):
        jax.jit(lambda x: jnp.sin(x) * 1.625 + jnp.cosh(x))(jnp.ones(7)).block_until_ready()
        time.sleep(0.05)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert 0 < line["compile_seconds"] <= line["seconds"] - 0.04
    assert line["process"] == 0


def test_a_warning_is_remembered():
    logger = logging.Logger("some")
    logger.addHandler(Warnings())
    before, board.warning = board.warning, None
    try:
        logger.warning("look %s", "here")
        assert board.warning is not None
        assert board.warning["text"] == "look here"
    finally:
        board.warning = before


def test_a_long_message_stays_one_line_where_there_is_no_terminal(capsys):
    log.set_up()
    log.logger.warning("%s", "word " * 100)
    assert capsys.readouterr().err.count("\n") == 1
