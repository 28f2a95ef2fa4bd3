"""A question about a part of the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctrak_jax as ct
from ctrak_jax import reward
from ctrak_jax.methods import GradientSpec
from tests.tiny import make_tiny

SLIDER = GradientSpec("slider", "forward", False)
L2 = GradientSpec("l2", "forward", False)


@pytest.fixture(scope="module")
def features():
    """Features of a question under masks [concept, height, width], by the gradients' specs."""
    tiny = make_tiny()
    network, params = ct.differentiable(tiny.eps_fn, tiny.params, layers_fn=tiny.layers_fn)
    recipe = ct.QueryRecipe(
        schedule=tiny.schedule, grid=ct.grid(steps=6, every=3), projection=ct.Projection(64)
    )

    def of(mask, concepts, spec=SLIDER):
        minus = ct.mixtures([[tiny.cond[1:2]] * concepts])
        batch = ct.QueryBatch(tiny.x0[:1], tiny.cond[:1], minus, jnp.arange(1))
        if mask is not None:
            batch = batch._replace(mask=jnp.asarray(mask, jnp.float32)[None])
        return ct.query_features(recipe, network, params, [spec], batch)[0, :, 0]

    return of


def test_a_mask_of_ones_is_no_mask(features):
    np.testing.assert_allclose(features(np.ones((1, 8, 8)), 1), features(None, 1), rtol=1e-6)


def test_what_two_halves_are_asked_about_adds_up(features):
    """The gradient is linear in the target shift: the halves' features sum to the whole's, and
    each concept has its own mask."""
    left = np.zeros((8, 8))
    left[:, :4] = 1
    halves = features(np.stack([left, 1 - left]), 2)
    (whole,) = features(None, 1)
    assert not np.allclose(halves[0], halves[1], rtol=0.1)
    np.testing.assert_allclose(halves.sum(0), whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_a_mask_of_zeros_asks_about_nothing(features):
    np.testing.assert_array_equal(features(np.zeros((1, 8, 8)), 1), 0)


def test_gradients_that_know_no_concept_are_those_of_the_whole_image(features):
    np.testing.assert_array_equal(features(np.zeros((1, 8, 8)), 1, L2), features(None, 1, L2))


def test_a_loss_within_a_mask_is_the_reward_loss_of_the_masked_shift():
    """Equation (2.1) with the shift m delta, differentiated by jax."""
    mask = jnp.array([[1.0, 0.0], [0.5, 0.0]])
    x = jax.random.normal(jax.random.key(0), (2, 2, 3))

    def eps_fn(params, x, t, c, /):
        return params * x + c

    step = reward.linearise(eps_fn, jnp.float32(0.7), x, 0, jnp.float32(0.3))
    u = reward.within(ct.slider(jnp.float32(-1.0)), mask)(step)
    delta = mask[..., None] * (eps_fn(0.7, x, 0, 0.3) - eps_fn(0.7, x, 0, -1.0))
    np.testing.assert_allclose(u, jax.grad(ct.reward_loss)(step.eps, delta), rtol=1e-5)
