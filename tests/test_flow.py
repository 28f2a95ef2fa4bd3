"""Rectified flow: the functions of diffusion with another schedule, against closed forms.

For data N(m, c^2) the velocity is linear in x: with E[x0 | x] = m + a c^2 (x - a m) / (a^2 c^2 +
s^2), a = 1 - s, it is (x - E[x0 | x]) / s, and its flow carries quantiles to quantiles.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.reward import linearise
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import ddim_step, grid, invert, sample

MEAN, SPREAD = 0.3, 0.5
FLOW = schedules.rectified_flow(3.0)
AS_NOISE = FLOW._replace(velocity=False)
"""The same states, of which the noise is predicted."""


def clean(x, s):
    a = 1 - s
    return MEAN + a * SPREAD**2 * (x - a * MEAN) / (a**2 * SPREAD**2 + s**2)


def gaussian_velocity(params, x, s, cond):
    return jnp.where(s > 0, (x - clean(x, s)) / jnp.maximum(s, 1e-9), -x)


def quantile(z, schedule: Schedule, t):
    a, s = schedules.level(schedule, t)
    return a * MEAN + jnp.sqrt(a**2 * SPREAD**2 + s**2) * z


@pytest.mark.parametrize(
    ("shift", "levels"),
    [
        (3.0, "0.2500 0.4286 0.5625 0.6667 0.7500 0.8182 0.8750 0.9231 0.9643"),
        (schedules.flux_shift(4096), "0.260 0.441 0.575 0.678 0.760 0.826 0.881 0.927 0.966"),
        (schedules.flux_shift(1024), "0.173 0.319 0.446 0.556 0.652 0.738 0.814 0.882 0.944"),
        (1.0, "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9"),
    ],
)
def test_the_recorded_levels_of_published_models(shift, levels):
    """Of Stable Diffusion 3, FLUX.1-dev at 1024 and 512 pixels, FLUX.1-schnell."""
    schedule = schedules.rectified_flow(shift)
    found = schedule.noise[grid(schedule.steps).recorded]
    np.testing.assert_allclose(found, [float(word) for word in levels.split()], atol=6e-4)
    np.testing.assert_allclose(schedule.signal + schedule.noise, 1.0, atol=1e-7)
    assert (float(schedule.noise[0]), float(schedule.noise[-1])) == (0.0, 1.0)


def test_a_shift_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"shift=0\.0 must be positive"):
        schedules.rectified_flow(0.0)


@pytest.mark.parametrize("t", [100, 500, 1000])
def test_the_true_velocity_tells_the_image_and_is_implied_by_it(t):
    x0, noise = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    x = schedules.add_noise(FLOW, x0, t, noise)
    wanted = schedules.target(FLOW, x0, noise)
    np.testing.assert_allclose(wanted, noise - x0)
    np.testing.assert_allclose(schedules.posterior_mean(FLOW, x, t, wanted), x0, atol=2e-6)
    np.testing.assert_allclose(schedules.implied_prediction(FLOW, x, t, x0), wanted, atol=1e-5)


@pytest.mark.parametrize(("t", "t_next"), [(0, 100), (400, 420), (1000, 980), (20, 0)])
def test_the_step_is_eulers(t, t_next):
    x, v = jax.random.normal(jax.random.key(0), (2, 5))
    found = ddim_step(FLOW, x, v, jnp.int32(t), jnp.int32(t_next))
    np.testing.assert_allclose(found, x + (FLOW.noise[t_next] - FLOW.noise[t]) * v, atol=1e-6)


def test_inversion_and_sampling_follow_the_flow():
    walk = grid(FLOW.steps, steps=1000, every=100)
    z = jnp.linspace(-2, 2, 9)
    eps_fn = schedules.as_eps_fn(gaussian_velocity, FLOW, "flow")
    x0 = quantile(z, FLOW, 0)
    path = invert(eps_fn, None, FLOW, walk, x0, jnp.float32(0))
    np.testing.assert_allclose(path.x, jax.vmap(lambda t: quantile(z, FLOW, t))(path.t), atol=2e-2)
    drawn = sample(eps_fn, None, FLOW, walk, quantile(z, FLOW, 1000), jnp.float32(0))
    np.testing.assert_allclose(drawn.x0, x0, atol=2e-2)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("schedule", [FLOW, AS_NOISE, schedules.linear()])
def test_a_step_with_fresh_noise_keeps_the_level(schedule, eta):
    """With the true prediction the next state is a' x0 + b' times unit noise again."""
    normal = jax.random.normal(jax.random.key(0), (2, 100_000))
    x0, (t, t_next) = jnp.full(normal.shape[1:], 0.4), jnp.array([700, 500])
    x = schedules.add_noise(schedule, x0, t, normal[0])
    wanted = schedules.target(schedule, x0, normal[0])
    moved = ddim_step(schedule, x, wanted, t, t_next, eta=eta, noise=normal[1])
    a, b = schedules.level(schedule, t_next)
    assert float(moved.mean()) == pytest.approx(float(a) * 0.4, abs=5e-3)
    assert float(moved.std()) == pytest.approx(float(b), rel=1e-2)
    kept = float(jnp.corrcoef(moved, normal[0])[0, 1])
    high = schedules.level(schedule, t)
    share = float(high.signal * b / (a * high.noise))
    assert kept == pytest.approx(np.sqrt(1 - eta**2 * (1 - share**2)), abs=1e-2)


def steps_of(tiny, t: int):
    """The tiny network's output taken as a velocity, and the noise that it means."""
    x, cond = tiny.x0[0] + 0.5, tiny.cond[0]

    def as_noise(params, x, t, cond):
        a, _ = schedules.level(FLOW, t)
        return x + a * tiny.eps_fn(params, x, t, cond)

    return (linearise(fn, tiny.params, x, jnp.int32(t), cond) for fn in (tiny.eps_fn, as_noise))


@pytest.mark.parametrize("t", [100, 600, 900])
def test_a_loss_in_velocity_is_that_in_noise_times_a_function_of_the_level(tiny, t):
    """n_hat = x + (1 - s) v, so a gradient by v is one by n_hat times a power of 1 - s, which
    normalisation takes out: dsm and slider (1 - s)^-2, dps (1 - s)^-1. The cotangents on n_hat are
    brought to v by the chain rule."""
    velocity, noise = steps_of(tiny, t)
    a = float(FLOW.signal[t])
    x0, minus = tiny.x0[1], tiny.cond[1]
    losses = {
        "dsm": (2, lambda schedule: reward.dsm(schedule, x0)),
        "slider": (2, lambda schedule: reward.slider(minus, 3.0)),
        "dps": (1, lambda schedule: reward.dps(schedule, x0)),
    }
    for name, (power, loss) in losses.items():
        mine, other = loss(FLOW)(velocity), a * loss(AS_NOISE)(noise)
        np.testing.assert_allclose(
            mine * a**power, other, rtol=2e-4, atol=2e-5 * float(jnp.abs(other).max()), err_msg=name
        )


def test_l2_of_the_velocity_has_another_direction(tiny):
    """D-TRAK's mean v^2 has another direction than mean n_hat^2."""
    velocity, noise = steps_of(tiny, 600)
    mine, other = reward.l2()(velocity), reward.l2()(noise)
    cosine = jnp.sum(mine * other) / jnp.linalg.norm(mine) / jnp.linalg.norm(other)
    assert float(cosine) < 0.999


def test_a_prediction_belongs_to_its_schedule():
    with pytest.raises(ValueError, match="'eps' with a schedule of a rectified flow; use 'flow'"):
        schedules.as_eps_fn(gaussian_velocity, FLOW, "eps")
    with pytest.raises(ValueError, match="'flow' with a schedule of a diffusion"):
        schedules.as_eps_fn(gaussian_velocity, schedules.linear(), "flow")


def test_the_network_is_told_the_level():
    told = []
    eps_fn = schedules.as_eps_fn(
        lambda params, x, t, cond: told.append(float(t)) or x, FLOW, "flow"
    )
    eps_fn(None, jnp.zeros(3), 250, None)
    assert told == [pytest.approx(0.5)]
