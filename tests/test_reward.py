"""The cotangent form of every loss against jax.grad of the loss written out."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import reward
from ctrak_jax.gradient import flatten_samples, global_norm, step_gradient
from ctrak_jax.schedule import implied_prediction, posterior_mean
from tests.tiny import Tiny, make_tiny

MINUS = jnp.array([0.0, 0.0, 0.0, 1.0])
TARGET = 0.3


def closeness(x):
    return -jnp.sum((x - TARGET) ** 2)


def written_out(name: str, tiny: Tiny, x, t, x0, cond):
    """The scalar loss as the method states it, with its target held fixed."""

    def eps_of(params, x, c):
        return tiny.eps_fn(params, x, t, c)

    def loss(params):
        eps = eps_of(params, x, cond)
        if name == "dsm":
            return jnp.mean((implied_prediction(tiny.schedule, x, t, x0) - eps) ** 2)
        if name in ("l2", "l1", "mean"):
            return jnp.mean({"l2": eps**2, "l1": jnp.abs(eps), "mean": eps}[name])
        if name == "slider":
            delta = 7.5 * (eps - eps_of(params, x, MINUS))
        else:

            def minus_reward(x):
                x0_hat = posterior_mean(tiny.schedule, x, t, eps_of(params, x, cond))
                return {
                    "dps": lambda: jnp.mean((x0_hat - x0) ** 2),
                    "reward_x0": lambda: -2.0 * closeness(x0_hat),
                    "reward_xt": lambda: -2.0 * closeness(x),
                }[name]()

            delta = jax.grad(minus_reward)(x)
        return reward.reward_loss(eps, delta)

    return loss


def cotangent_form(name: str, tiny: Tiny, x0):
    return {
        "dsm": lambda: reward.dsm(tiny.schedule, x0),
        "l2": reward.l2,
        "l1": reward.l1,
        "mean": reward.mean,
        "dps": lambda: reward.dps(tiny.schedule, x0),
        "slider": lambda: reward.slider(MINUS, 7.5),
        "reward_x0": lambda: reward.reward_x0(closeness, tiny.schedule, 2.0),
        "reward_xt": lambda: reward.reward_xt(closeness, 2.0),
    }[name]()


LOSSES = ["dsm", "l2", "l1", "mean", "dps", "slider", "reward_x0", "reward_xt"]


@cache
def gradients(name: str):
    """By the cotangent form, and of the loss written out; of x, t, x0 and a condition."""
    tiny = make_tiny()

    def ours(x, t, x0, cond):
        return step_gradient(cotangent_form(name, tiny, x0), tiny.eps_fn, tiny.params, x, t, cond)

    def plain(x, t, x0, cond):
        return jax.grad(written_out(name, tiny, x, t, x0, cond))(tiny.params)

    return jax.jit(ours), jax.jit(plain)


@pytest.mark.parametrize("step", [0, 4, 8])
@pytest.mark.parametrize("name", LOSSES)
def test_cotangent_form_is_the_gradient_of_the_loss(tiny, name, step):
    args = tiny.paths.x[0, step], tiny.paths.t[0, step], tiny.x0[0], tiny.cond[0]
    ours, plain = (gradient(*args) for gradient in gradients(name))
    difference = jax.tree.map(jnp.subtract, ours, plain)
    assert float(global_norm(difference)) <= 1e-4 * float(global_norm(plain))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_one_sample_functions_under_vmap(tiny, name):
    step = 3
    one = gradients(name)[0]
    args = (tiny.paths.x[:, step], tiny.paths.t[:, step], tiny.x0, tiny.cond)
    together = flatten_samples(jax.jit(jax.vmap(one))(*args))
    for i in range(len(tiny.x0)):
        alone = one(*(a[i] for a in args))
        row = flatten_samples(jax.tree.map(lambda leaf: leaf[None], alone))[0]
        np.testing.assert_allclose(row, together[i], atol=2e-6 * float(jnp.abs(row).max()) + 1e-9)


def test_dps_has_the_direction_of_the_unsquared_norm(tiny):
    x, t, x0, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.x0[0], tiny.cond[0]

    def distance(x):
        eps = tiny.eps_fn(tiny.params, x, t, cond)
        return jnp.linalg.norm((posterior_mean(tiny.schedule, x, t, eps) - x0).reshape(-1))

    step = reward.linearise(tiny.eps_fn, tiny.params, x, t, cond)
    shift = -0.5 * step.eps.size * reward.dps(tiny.schedule, x0)(step)
    slope = jax.grad(distance)(x)
    cosine = jnp.vdot(shift, slope) / (
        jnp.linalg.norm(shift.ravel()) * jnp.linalg.norm(slope.ravel())
    )
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)


def test_cfg_is_the_slider_against_the_null(tiny):
    x, t, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0]
    step = reward.linearise(tiny.eps_fn, tiny.params, x, t, cond)
    null = jnp.zeros(4)
    np.testing.assert_array_equal(reward.cfg(null, 3.0)(step), reward.slider(null, 3.0)(step))
    np.testing.assert_allclose(
        reward.cfg(null, 3.0)(step),
        -2 * 3.0 * (step.eps - tiny.eps_fn(tiny.params, x, t, null)) / step.eps.size,
        rtol=1e-4,
        atol=1e-8,
    )


def test_a_contrast_by_the_same_network_is_the_slider(tiny):
    x, t, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0]
    step = reward.linearise(tiny.eps_fn, tiny.params, x, t, cond)
    contrast = reward.contrast_of(tiny.eps_fn, tiny.params, cond, MINUS)
    np.testing.assert_allclose(
        reward.slider(MINUS, 3.0, contrast)(step), reward.slider(MINUS, 3.0)(step), atol=1e-6
    )


def test_a_mixture_is_the_mean_of_its_sliders(tiny):
    x, t, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0]
    step = reward.linearise(tiny.eps_fn, tiny.params, x, t, cond)
    others = jnp.stack([MINUS, jnp.zeros(4), jnp.ones(4)])
    mixture = reward.Mixture(others, jnp.array([0.5, 0.5, 0.0]))
    mean = 0.5 * (reward.slider(MINUS)(step) + reward.slider(jnp.zeros(4))(step))
    np.testing.assert_allclose(reward.slider(mixture)(step), mean, atol=1e-7)
    contrast = reward.contrast_of(tiny.eps_fn, tiny.params, cond, mixture)
    np.testing.assert_allclose(reward.slider(mixture, 1.0, contrast)(step), mean, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_guidance_survives_a_half_precision_network(tiny, dtype):
    """The residual is handed over, never formed as a difference of predictions of 8 or 11 bits, nor
    lost below the smallest number that a half holds."""

    def half(params, x, t, cond):
        return tiny.eps_fn(params, x, t, cond).astype(dtype)

    x, t, x0, cond = tiny.paths.x[0, 8], tiny.paths.t[0, 8], tiny.x0[0], tiny.cond[0]
    loss = reward.dps(tiny.schedule, x0, scale=1e-7)
    full, rounded = (
        jax.jit(lambda params, eps_fn=eps_fn: step_gradient(loss, eps_fn, params, x, t, cond))(
            tiny.params
        )
        for eps_fn in (tiny.eps_fn, half)
    )
    a, b = (flatten_samples(jax.tree.map(lambda leaf: leaf[None], g))[0] for g in (full, rounded))
    assert float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)) > 0.99


def test_a_step_against_the_loss_moves_the_prediction_towards_its_target(tiny):
    """Sign: descending the slider loss must shift eps along +delta."""
    x, t, cond = tiny.paths.x[0, 4], tiny.paths.t[0, 4], tiny.cond[0]
    step = reward.linearise(tiny.eps_fn, tiny.params, x, t, cond)
    delta = step.eps - step.eps_under(MINUS)
    g = step_gradient(reward.slider(MINUS), tiny.eps_fn, tiny.params, x, t, cond)
    moved = jax.tree.map(lambda p, g: p - 1e-2 * g, tiny.params, g)
    change = tiny.eps_fn(moved, x, t, cond) - step.eps
    assert float(jnp.vdot(change, delta)) > 0
