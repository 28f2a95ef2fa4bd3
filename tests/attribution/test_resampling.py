"""Questions on states of sampling the image again, and at one timestep of each repetition."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import ctrak_jax as ct
from ctrak_jax.attribution.query import member_key, query_member
from ctrak_jax.methods import GradientSpec
from ctrak_jax.trajectory import sample
from tests.tiny import SHAPE, make_tiny

SLIDER = GradientSpec("slider", "inversion", False)
GRID = ct.grid(steps=6, every=2)
NOISE = jnp.asarray(np.random.default_rng(0).normal(size=(1, *SHAPE)), jnp.float32)
RECIPE = ct.QueryRecipe(
    schedule=make_tiny().schedule, grid=GRID, projection=ct.Projection(64), path="resample"
)


def member(recipe, number=0):
    tiny = make_tiny()
    minus = ct.mixtures([[tiny.cond[1:2]]])
    item = ct.QueryBatch(tiny.x0[0], tiny.cond[0], minus, jnp.int32(0), noise=NOISE[0])
    key = member_key(recipe, item, jnp.int32(number))
    return query_member(recipe, tiny.eps_fn, tiny.params, item, tiny.cond[2], key)


def features(recipe):
    tiny = make_tiny()
    network, params = ct.differentiable(tiny.eps_fn, tiny.params, layers_fn=tiny.layers_fn)
    minus = ct.mixtures([[tiny.cond[1:2]]])
    batch = ct.QueryBatch(tiny.x0[:1], tiny.cond[:1], minus, jnp.arange(1), noise=NOISE)
    return ct.query_features(recipe, network, params, [SLIDER], batch, tiny.cond[2])[0, 0, 0]


def test_an_image_is_sampled_again_from_its_own_noise():
    tiny, found = make_tiny(), member(RECIPE)
    expected = sample(tiny.eps_fn, tiny.params, tiny.schedule, GRID, NOISE[0], tiny.cond[0])
    np.testing.assert_allclose(found.paths["inversion"].x, expected.path.x, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.paths["inversion"].t, GRID.recorded)
    np.testing.assert_array_equal(found.x0, tiny.x0[0])  # the image stays what it is


def test_repetitions_differ_by_the_fresh_noise_alone():
    first, second = (member(RECIPE, n).paths["inversion"].x for n in (0, 1))
    np.testing.assert_array_equal(first, second)
    fresh = [member(replace(RECIPE, eta=0.5), n).paths["inversion"].x for n in (0, 1)]
    assert np.abs(fresh[0] - fresh[1]).max() > 1e-2


@pytest.mark.parametrize("path", ["inversion", "resample"])
def test_one_timestep_is_one_of_all(path):
    """Every one is drawn, and the gradients at each of them add up to those at all."""
    whole = replace(RECIPE, path=path)
    every = member(whole).paths
    drawn: dict[int, int] = {}
    for seed in range(40):
        one = member(replace(whole, timesteps="one", seed=seed)).paths
        assert len({int(p.t[0]) for p in one.values()}) == 1
        (t,) = np.asarray(one["inversion"].t).tolist()
        place = GRID.recorded.tolist().index(t)
        np.testing.assert_array_equal(one["inversion"].x[0], every["inversion"].x[place])
        drawn.setdefault(t, seed)
    assert sorted(drawn) == GRID.recorded.tolist()
    parts = [
        features(replace(whole, timesteps="one", time_chunk=2, seed=seed))
        for seed in drawn.values()
    ]
    total = features(replace(whole, seed=0))
    np.testing.assert_allclose(sum(parts), total, rtol=1e-4, atol=1e-4 * np.abs(total).max())
