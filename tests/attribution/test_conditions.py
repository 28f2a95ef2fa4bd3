"""Conditions of several arrays: the numbers are those of one array with the same content."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctrak_jax as ct
from ctrak_jax.attribution import by_name, mixtures, stacked, zeros_like
from ctrak_jax.methods import METHODS, train_specs
from ctrak_jax.models.network import TextCondition
from ctrak_jax.typing import Array, Cond

SHAPE = (4, 4, 3)
GRID = ct.grid(steps=6, every=3)


class Parts(NamedTuple):
    """A condition of four numbers as two arrays."""

    first: Array
    rest: Array


WRAPPED = {
    "one leaf": (lambda c: {"only": c}, lambda tree: tree["only"]),
    "two arrays": (
        lambda c: Parts(c[..., :1], c[..., 1:]),
        lambda tree: jnp.concatenate(tree, axis=-1),
    ),
}
"""How a condition is wrapped, and unwrapped by the network."""
TOLERANCE = {"one leaf": 0.0, "two arrays": 2e-6}
"""The network that joins two arrays is another program, of other roundings."""


def network(params, x, t, c, /):
    return jnp.tanh(x * params["scale"]) + 1e-3 * t * jnp.tensordot(c, params["by_condition"], 1)


def plain(c):
    return c


@cache
def features(wrap, unwrap) -> tuple[Array, Array]:
    """Of two training samples on guided inversions and under the null condition, and of questions
    about two concepts, the second with two alternatives."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        "scale": 1.0 + jax.random.uniform(keys[0], SHAPE),
        "by_condition": jax.random.normal(keys[1], (4, *SHAPE)),
    }
    found = ct.differentiable(lambda p, x, t, c: network(p, x, t, unwrap(c)), params)
    x0 = jax.random.uniform(keys[2], (2, *SHAPE), minval=-1.0)
    every = np.asarray(jax.random.normal(keys[3], (6, 4)))
    cond, null = wrap(every[:2]), wrap(np.zeros(4, np.float32))
    values = {
        "schedule": ct.schedule.linear(),
        "grid": GRID,
        "projection": ct.Projection(64),
        "guidance": 2.0,
    }
    specs = list(train_specs(("concept-trak", "d-trak")))
    batch = ct.TrainBatch(x0, cond, np.arange(2), wrap(every[None, 2:4].repeat(2, 0)))
    train = partial(ct.train_features, ct.Recipe(**values), *found, specs, null=null)
    minus = mixtures([[wrap(every[[2]]), wrap(every[3:5])]] * 2)
    asked = ct.QueryBatch(x0, cond, minus, np.arange(2))
    queries = [METHODS["concept-trak"].query, METHODS["d-trak"].query]
    ask = partial(ct.query_features, ct.QueryRecipe(**values), *found, queries, null=null)
    return jax.jit(train)(batch).features, jax.jit(ask)(asked)


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_tree_of_arrays_gives_the_numbers_of_one_array(kind):
    one = features(plain, plain)
    for found, wanted in zip(features(*WRAPPED[kind]), one, strict=True):
        largest = np.abs(wanted).max()
        assert largest > 1e-3
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE[kind] * largest)


def test_mixtures_of_trees_are_filled_array_by_array():
    two, one = (TextCondition(np.ones((n, 3, 2)), np.full((n, 5), n)) for n in (2, 1))
    found = mixtures([[two, one]])
    shapes = [leaf.shape for leaf in jax.tree.leaves(found.conditions)]
    assert shapes == [(1, 2, 2, 3, 2), (1, 2, 2, 5)]
    np.testing.assert_array_equal(found.weights, [[[0.5, 0.5], [1.0, 0.0]]])
    np.testing.assert_array_equal(found.conditions.pooled[0, 1], np.ones((2, 5)))


def test_arrays_have_the_names_of_their_fields():
    text: Cond = TextCondition(np.zeros((3, 2), np.float16), np.zeros(5, np.int32))
    assert list(by_name(text)) == ["embeddings", "pooled"]
    assert list(by_name(text.embeddings)) == [""]
    both = stacked([text, text], axis=-1)
    assert [leaf.shape for leaf in both] == [(3, 2, 2), (5, 2)]
    found = zeros_like(jax.eval_shape(lambda: text))
    assert [leaf.dtype for leaf in found] == [np.float16, np.int32]
