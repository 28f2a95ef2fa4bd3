"""Seconds of compilation: the union of JAX's events, and none where nothing is compiled."""

import time

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrak_jax.progress import compilation, watch
from ctrak_jax.progress.compiling import Compilation
from tests.progress.clock import FakeClock


def test_nested_parts_count_once():
    clock = FakeClock()
    compiling = clock.compiling
    compiling.begin("outer")
    clock.pass_(1.0)
    compiling.begin("inner")
    clock.pass_(2.0)
    compiling.end(2.0, "inner")
    clock.pass_(4.0)
    assert compiling.since == 1000.0
    assert compiling.seconds(1000.0, clock()) == 7.0, "what is not ended counts until now"
    compiling.end(7.0, "outer")
    clock.pass_(8.0)
    assert compiling.since is None
    assert compiling.seconds(1000.0, clock()) == 7.0
    assert compiling.seconds(1002.0, 1005.0) == 3.0


def test_an_event_that_tells_its_end_alone_does_not_end_another():
    clock = FakeClock()
    clock.compiling.begin("outer")
    clock.pass_(2.0)
    clock.compiling.end(1.0, "unannounced")
    assert clock.compiling.since == 1000.0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=12), st.integers(0, 60))
def test_time_is_compilation_or_it_is_not(spans, cut):
    """Any window has the seconds that a list of whole seconds counts in it."""
    clock, compiled = FakeClock(), set()
    clock.now = 0.0
    for gap, length in spans:
        clock.pass_(float(gap))
        compiled |= set(range(int(clock.now), int(clock.now) + length))
        clock.compile_(float(length))
    expected = len([second for second in compiled if second >= cut])
    assert clock.compiling.seconds(float(cut), max(clock.now, float(cut))) == expected


def test_the_events_of_jax_are_heard():
    watch()
    start = time.monotonic()
    fn = jax.jit(lambda x: jnp.linalg.svd(jnp.tanh(x) @ x)[1].sum() * 3.25)
    fn(jnp.ones((24, 24))).block_until_ready()
    middle = time.monotonic()
    found = compilation.seconds(start, middle)
    assert 0 < found <= middle - start
    fn(jnp.ones((24, 24))).block_until_ready()
    stop = time.monotonic()
    # Making the array of ones may look up a program, the function itself is not compiled again.
    assert compilation.seconds(middle, stop) < found
    assert compilation.since is None


def test_what_others_report_is_no_compilation():
    watch()
    jax.monitoring.record_scalar("/jax/checkpoint/write/async/commit_future_count", 2)
    jax.monitoring.record_event_duration_secs("/jax/checkpoint/write", 3)
    assert compilation.since is None


def test_another_clock_is_its_own():
    assert Compilation(lambda: 5.0).seconds(0.0, 5.0) == pytest.approx(0.0)
