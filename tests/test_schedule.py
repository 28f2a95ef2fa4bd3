"""Schedules against closed forms, and the three predictions against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as s

ALL = {"linear": s.linear(), "scaled": s.scaled_linear(), "cosine": s.cosine()}


@pytest.mark.parametrize("schedule", ALL.values(), ids=ALL.keys())
def test_signal_falls_from_one_towards_zero(schedule):
    abar = np.asarray(schedule.signal) ** 2
    assert np.all(np.diff(abar) < 0)
    assert abar[0] > 0.99
    assert 0 < abar[-1] < 0.05


def test_linear_is_the_product_of_its_betas():
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    product, expected = 1.0, []
    for beta in betas:
        product *= 1 - beta
        expected.append(product)
    np.testing.assert_allclose(s.linear().signal ** 2, expected, rtol=1e-6)


def test_scaled_linear_has_evenly_spaced_roots():
    abar = np.asarray(s.scaled_linear().signal, np.float64) ** 2
    betas = 1 - abar[1:] / abar[:-1]
    roots = np.sqrt(betas)
    np.testing.assert_allclose(np.diff(roots), np.diff(roots).mean(), rtol=0.1)
    assert roots[-1] ** 2 == pytest.approx(0.012, rel=1e-3)


def test_cosine_follows_its_curve_where_betas_are_not_clipped():
    abar = np.asarray(s.cosine(1000).signal, np.float64) ** 2
    u = np.arange(1, 901) / 1000
    curve = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(abar[:900], curve, rtol=1e-5)


@pytest.mark.parametrize("t", [0, 99, 500, 999])
@pytest.mark.parametrize("schedule", ALL.values(), ids=ALL.keys())
def test_posterior_mean_and_implied_prediction_undo_the_noising(schedule, t):
    x0 = jax.random.normal(jax.random.key(0), (4, 4, 3))
    noise = jax.random.normal(jax.random.key(1), (4, 4, 3))
    x = s.add_noise(schedule, x0, t, noise)
    signal = float(s.level(schedule, jnp.int32(t)).signal)
    sigma = float(s.level(schedule, jnp.int32(t)).noise)
    np.testing.assert_allclose(
        s.posterior_mean(schedule, x, t, noise), x0, atol=3e-6 / signal, rtol=1e-5
    )
    np.testing.assert_allclose(
        s.implied_prediction(schedule, x, t, x0), noise, atol=1e-6 / sigma, rtol=1e-5
    )


@pytest.mark.parametrize("t", [99, 500, 899])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_every_prediction_of_the_truth_is_the_same_noise(prediction, t):
    schedule = s.linear()
    x0 = jax.random.normal(jax.random.key(0), (4, 4, 3))
    noise = jax.random.normal(jax.random.key(1), (4, 4, 3))
    x = s.add_noise(schedule, x0, t, noise)
    signal, sigma = s.level(schedule, jnp.int32(t))
    truth = {"eps": noise, "x0": x0, "v": signal * noise - sigma * x0}[prediction]
    eps_fn = s.as_eps_fn(lambda params, x, t, cond: truth, schedule, prediction)
    np.testing.assert_allclose(eps_fn(None, x, jnp.int32(t), None), noise, atol=2e-5)


def test_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="'score' is not known"):
        s.as_eps_fn(lambda params, x, t, cond: x, s.linear(), "score")
