"""Sinusoids of noise levels, beside float64."""

import jax
import numpy as np
import pytest

from ctrak_jax.models.sinusoids import level_waves


def exact(t: np.ndarray, half: int, span: int) -> np.ndarray:
    angles = t[:, None].astype(np.float64) * 10_000.0 ** (-np.arange(half) / span)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize(("half", "span"), [(128, 127), (4, 4)])
def test_phases_of_timesteps_are_those_of_float64(half, span):
    """One rounding of a phase near 999 would be 3e-5."""
    times = np.arange(1000, dtype=np.int32)
    found = jax.jit(jax.vmap(lambda t: level_waves(t, half=half, span=span)))(times)
    np.testing.assert_allclose(found, exact(times, half, span), atol=2e-7)


def test_phases_of_real_levels_have_no_rounding_but_their_own():
    levels = np.random.default_rng(0).uniform(size=300).astype(np.float32)
    found = jax.jit(jax.vmap(lambda s: level_waves(s, factor=1000.0)))(levels)
    expected = exact(1000.0 * levels.astype(np.float64), 128, 128)
    np.testing.assert_allclose(found, expected, atol=2e-7)
    np.testing.assert_allclose(level_waves(float(levels[0]), factor=1000.0), expected[0], atol=1e-7)
