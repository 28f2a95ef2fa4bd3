"""Questions by a reward other than the slider."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctrak_jax as ct
from ctrak_jax.attribution.explanation import query_parts
from ctrak_jax.methods import GradientSpec
from ctrak_jax.schedule import level
from tests.tiny import make_tiny

REWARD = GradientSpec("reward", "inversion", True)
SLIDER = GradientSpec("slider", "inversion", True)
PLAIN = GradientSpec("reward", "forward", False)
SHAPE = (4, 4, 3)
RECIPE = ct.QueryRecipe(
    schedule=ct.schedule.linear(), grid=ct.grid(steps=6, every=3), projection=ct.Projection(64)
)


def linear_case():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "scale": 1.0 + jax.random.uniform(keys[0], SHAPE),
        "by_condition": jax.random.normal(keys[1], (2, *SHAPE)),
    }
    x0, cond = jax.random.uniform(keys[2], (1, *SHAPE), minval=-1.0), jnp.eye(2)[:1]
    minus = ct.mixtures([[np.eye(2, dtype=np.float32)[1:]]])
    return params, ct.QueryBatch(x0, cond, minus, jnp.arange(1))


def linear_network(params, x, t, c, /):
    """Its predictions under two conditions differ by a constant."""
    return 0.1 * x * params["scale"] + jnp.tensordot(c, params["by_condition"], 1)


def test_a_reward_whose_gradient_is_the_sliders_asks_the_same():
    """With eps = P x + b_c the slider's shift is b_c - b_c' at every state, and that of the reward
    <a, x0_hat> is -(1 - sigma P) a / sqrt(abar) (equation (2.3)). Of one P for all pixels both have
    one direction where a = b_c' - b_c, and a step's gradient is normalised."""
    params, batch = linear_case()
    params["scale"] = jnp.ones(SHAPE)
    network, weights = ct.differentiable(linear_network, params)
    shift = params["by_condition"][0] - params["by_condition"][1]
    batch = batch._replace(target=-shift[None, None])
    found = ct.query_features(
        RECIPE,
        network,
        weights,
        [SLIDER, REWARD],
        batch,
        reward=lambda x0_hat, target: jnp.vdot(target, x0_hat),
    )[0, 0]
    assert np.linalg.norm(found[0]) > 1
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4 * np.abs(found[0]).max())


def test_a_linear_rewards_gradient_in_closed_form():
    """The parameter b_c moves every pixel of eps by its own value, so its gradient at a step is the
    cotangent u = (2 / D) (a - sigma P a) / sqrt(abar): equations (2.2) and (2.3)."""
    params, batch = linear_case()
    network, weights = ct.differentiable(linear_network, params, include=["by_condition"])
    a = jax.random.normal(jax.random.key(7), SHAPE)
    wide = ct.QueryRecipe(
        schedule=RECIPE.schedule, grid=RECIPE.grid, projection=ct.Projection(2 * a.size)
    )

    def feature(spec: GradientSpec) -> np.ndarray:
        batch_of = batch._replace(target=a[None, None])
        reward = lambda x0_hat, target: jnp.vdot(target, x0_hat)  # noqa: E731
        return np.asarray(
            ct.query_features(wide, network, weights, [spec], batch_of, reward=reward)
        )[0, 0, 0]

    pulled = 0.0
    for t in np.asarray(wide.grid.recorded):
        signal, sigma = (np.float64(v) for v in level(wide.schedule, int(t)))
        pulled += (2 / a.size) * (a - sigma * 0.1 * params["scale"] * a) / signal
    gradient = {"by_condition": jnp.stack([pulled, jnp.zeros(SHAPE)])[None]}
    expected = ct.project(ct.flatten_samples(gradient), wide.projection)[0]
    np.testing.assert_allclose(
        feature(PLAIN), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


@pytest.fixture(scope="module")
def tiny_case():
    """A tiny network, one image, and two concepts that are told apart by their targets."""
    tiny = make_tiny()
    network, weights = ct.differentiable(tiny.eps_fn, tiny.params, layers_fn=tiny.layers_fn)
    minus = ct.mixtures([[tiny.cond[1:2]] * 2])
    batch = ct.QueryBatch(tiny.x0[:1], tiny.cond[:1], minus, jnp.arange(1))
    return network, weights, batch._replace(target=jnp.array([[0, 2]]))


def channel(x0_hat, target):
    """How bright one colour channel is, with a curvature."""
    return jnp.mean(jnp.take(x0_hat, target, axis=-1) ** 2)


def test_every_concept_has_its_own_target(tiny_case):
    network, weights, batch = tiny_case
    both = ct.query_features(RECIPE, network, weights, [REWARD], batch, reward=channel)[0, :, 0]
    swapped = batch._replace(target=batch.target[:, ::-1])
    other = ct.query_features(RECIPE, network, weights, [REWARD], swapped, reward=channel)[0, :, 0]
    assert not np.allclose(both[0], both[1], rtol=0.1)
    np.testing.assert_allclose(other, both[::-1], rtol=1e-4, atol=1e-4 * np.abs(both).max())


@pytest.mark.parametrize("spec", [REWARD, PLAIN], ids=["normalised", "plain"])
def test_the_parts_of_a_rewards_score_sum_to_it(tiny_case, spec):
    network, weights, batch = tiny_case
    mask = jnp.zeros((1, 2, 8, 8)).at[..., :5].set(1.0)
    batch = batch._replace(mask=mask)
    phi = ct.query_features(RECIPE, network, weights, [spec], batch, reward=channel)[0, 1, 0]
    z = jax.random.normal(jax.random.key(3), (2, 64))
    image = jax.tree.map(lambda leaf: leaf[0], batch)
    item = image._replace(
        minus=jax.tree.map(lambda leaf: leaf[1], image.minus),
        mask=image.mask[1],
        target=image.target[1],
    )
    parts = query_parts(RECIPE, network, weights, spec, item, z, reward=channel)
    pixels = np.asarray(parts.pixels.sum(1))
    np.testing.assert_allclose(pixels.sum((1, 2)), z @ phi, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(pixels[:, :, 5:], 0)  # the shift outside the mask counts not


def test_a_reward_is_needed(tiny_case):
    network, weights, batch = tiny_case
    with pytest.raises(ValueError, match="pass reward"):
        ct.query_features(RECIPE, network, weights, [REWARD], batch)
