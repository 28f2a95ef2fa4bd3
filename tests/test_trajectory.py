"""Trajectories against a model whose noise prediction is known in closed form.

For data N(m, v) the optimal noise prediction is linear in x:
eps(x, t) = noise (x - signal m) / (signal^2 v + noise^2), and DDIM with small steps carries
quantiles to quantiles: x_t = signal m + sqrt(signal^2 v + noise^2) z with the z of x_0.
"""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import schedule as schedules
from ctrak_jax.schedule import level
from ctrak_jax.trajectory import Guidance, ddim_step, forward_path, grid, guided, invert, sample

SCHEDULE = schedules.linear()
MEAN, VARIANCE = 0.3, 0.25


def gaussian_eps(params, x, t, cond):
    signal, sigma = level(SCHEDULE, t)
    return sigma * (x - signal * (MEAN + cond)) / (signal**2 * VARIANCE + sigma**2)


def quantile(z, t):
    signal, sigma = level(SCHEDULE, jnp.asarray(t))
    return signal * MEAN + jnp.sqrt(signal**2 * VARIANCE + sigma**2) * z


def test_default_grid_records_every_hundredth_timestep():
    assert grid().recorded.tolist() == [99, 199, 299, 399, 499, 599, 699, 799, 899]
    assert grid().times[0] == 0
    assert grid().times[-1] == 999


def test_a_grid_that_records_less_walks_the_same_way():
    """Its states are the first of all, of inversion and of sampling."""
    whole, part = grid(), grid(kept=3)
    assert part.recorded.tolist() == [99, 199, 299]
    x = jax.random.normal(jax.random.key(0), (4, 4, 3))
    for walk in (invert, lambda *args: sample(*args).path):
        states = [walk(gaussian_eps, None, SCHEDULE, g, x, jnp.float32(0.1)) for g in (whole, part)]
        np.testing.assert_array_equal(states[1].t, states[0].t[:3])
        np.testing.assert_allclose(states[1].x, states[0].x[:3], rtol=1e-6)


@pytest.mark.parametrize("kept", [0, 10])
def test_a_grid_cannot_record_what_it_has_not(kept):
    with pytest.raises(ValueError, match=f"kept={kept} of the 9"):
        grid(kept=kept)


@pytest.mark.parametrize(("steps", "every"), [(50, 7), (1, 1), (50, 50), (50, 0)])
def test_grid_that_keeps_nothing_is_refused(steps, every):
    with pytest.raises(ValueError, match="record"):
        grid(1000, steps, every)


def test_inversion_carries_quantiles_to_quantiles():
    z = jax.random.normal(jax.random.key(0), (4, 4, 3))
    fine = grid(1000, 900, 100)
    path = invert(gaussian_eps, None, SCHEDULE, fine, quantile(z, 0), jnp.float32(0.0))
    for x, t in zip(path.x, path.t, strict=True):
        np.testing.assert_allclose(x, quantile(z, t), atol=2e-2)


def test_sampling_undoes_inversion_better_with_more_steps():
    x0 = quantile(jax.random.normal(jax.random.key(0), (4, 4, 3)), 0)
    errors = []
    for steps in (50, 200):
        g = grid(1000, steps, steps // 10)
        path = invert(gaussian_eps, None, SCHEDULE, g, x0, jnp.float32(0.0))
        # One more segment brings the state to the last timestep of the grid.
        x = path.x[-1]
        for t, t_next in zip(
            g.times[-g.every - 1 : -1].tolist(), g.times[-g.every :].tolist(), strict=True
        ):
            eps = gaussian_eps(None, x, jnp.int32(t), 0.0)
            x = ddim_step(SCHEDULE, x, eps, jnp.int32(t), jnp.int32(t_next))
        back = sample(gaussian_eps, None, SCHEDULE, g, x, jnp.float32(0.0))
        errors.append(float(jnp.abs(back.x0 - x0).max()))
    assert errors[1] < errors[0] / 2
    assert errors[1] < 0.05


def test_sampling_draws_the_data_distribution():
    noise = jax.random.normal(jax.random.key(3), (64, 8, 8))
    drawn = jax.vmap(
        lambda n: sample(gaussian_eps, None, SCHEDULE, grid(), n, jnp.float32(0.0)).x0
    )(noise)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(drawn.var()) == pytest.approx(VARIANCE, rel=0.1)


def test_recorded_states_of_sampling_are_those_of_a_plain_loop():
    noise = jax.random.normal(jax.random.key(3), (2, 2))
    drawn = sample(gaussian_eps, None, SCHEDULE, grid(), noise, jnp.float32(0.1))
    x, states = noise, {}
    times = grid().times[::-1].tolist()
    for t, t_next in itertools.pairwise(times):
        eps = gaussian_eps(None, x, jnp.int32(t), 0.1)
        x = ddim_step(SCHEDULE, x, eps, jnp.int32(t), jnp.int32(t_next))
        states[t_next] = x
    np.testing.assert_allclose(drawn.x0, x, atol=1e-5)
    for state, t in zip(drawn.path.x, drawn.path.t.tolist(), strict=True):
        np.testing.assert_allclose(state, states[t], atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5])
def test_guidance_is_linear_in_the_two_predictions(scale):
    x, t = jnp.full((2, 2), 0.4), jnp.int32(300)
    eps = guided(gaussian_eps, Guidance(scale, jnp.float32(0.5)))(None, x, t, jnp.float32(-0.2))
    other, wanted = (gaussian_eps(None, x, t, c) for c in (0.5, -0.2))
    np.testing.assert_allclose(eps, other + scale * (wanted - other), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("t", "t_next"), [(299, 319), (319, 299)])
def test_eta_adds_the_stated_variance_and_keeps_the_rest(t, t_next):
    x, eps = jnp.full((20_000,), 0.7), jnp.full((20_000,), 0.2)
    noise = jax.random.normal(jax.random.key(0), x.shape)
    moved = ddim_step(SCHEDULE, x, eps, jnp.int32(t), jnp.int32(t_next), eta=0.5, noise=noise)
    abar = np.asarray(SCHEDULE.signal, np.float64) ** 2
    high, low = abar[319], abar[299]
    variance = 0.25 * (1 - low) / (1 - high) * (1 - high / low)
    assert float(moved.var()) == pytest.approx(variance, rel=0.03)
    clean = (0.7 - np.sqrt(1 - abar[t]) * 0.2) / np.sqrt(abar[t])
    center = np.sqrt(abar[t_next]) * clean + np.sqrt(1 - abar[t_next] - variance) * 0.2
    assert float(moved.mean()) == pytest.approx(center, abs=4 * np.sqrt(variance / 20_000))


def test_eta_without_a_key_is_refused():
    with pytest.raises(ValueError, match="pass a key"):
        invert(gaussian_eps, None, SCHEDULE, grid(), jnp.zeros((2, 2)), jnp.float32(0), eta=0.1)


def test_forward_noise_belongs_to_the_timestep_not_to_the_list():
    x0, key = jnp.zeros((3, 3)), jax.random.key(1)
    alone = forward_path(SCHEDULE, x0, jnp.array([499]), key)
    among = forward_path(SCHEDULE, x0, jnp.array([99, 499, 899]), key)
    np.testing.assert_array_equal(alone.x[0], among.x[1])
    assert float(jnp.abs(among.x[0] / among.x[2]).std()) > 0


def test_batches_by_vmap_equal_single_samples(tiny):
    run = lambda x, c: invert(tiny.eps_fn, tiny.params, tiny.schedule, grid(), x, c)  # noqa: E731
    together = jax.vmap(run)(tiny.x0, tiny.cond)
    for i in range(len(tiny.x0)):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        chex.assert_trees_all_close(run(tiny.x0[i], tiny.cond[i]), one, atol=2e-5)
