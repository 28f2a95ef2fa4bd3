"""Parts of a score sum to it, and are where they must be."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ctrak_jax as ct
from ctrak_jax.attribution.explanation import parts_of, states_of
from ctrak_jax.attribution.gradients import gradients_of
from ctrak_jax.attribution.train import train_terms
from ctrak_jax.methods import GradientSpec, concept_trak
from ctrak_jax.projection import KINDS, project_leaves
from ctrak_jax.projection.api import Kind
from ctrak_jax.projection.transpose import transpose_leaves
from tests.tiny import make_tiny

METHODS = {
    "concept-trak": ct.METHODS["concept-trak"],
    "published": concept_trak("inversion", "own"),
    **{name: ct.METHODS[name] for name in ("trak", "d-trak", "das", "das-paper", "ablation-b")},
}
PROJECTIONS: list[Kind] = [*KINDS, "factored"]
K = 64


def train_spec(name: str) -> GradientSpec:
    spec = METHODS[name].train
    assert spec is not None
    return spec


def query_spec(name: str) -> GradientSpec:
    spec = METHODS[name].query
    assert spec is not None
    return spec


@pytest.fixture(scope="module")
def tiny():
    model = make_tiny()
    return model, *ct.differentiable(model.eps_fn, model.params, layers_fn=model.layers_fn)


def recipes(tiny, kind: Kind, guidance: float = 1.0, members: int = 1):
    shared = {
        "schedule": tiny[0].schedule,
        "grid": ct.grid(steps=6, every=2),
        "projection": ct.Projection(K, kind),
        "guidance": guidance,
    }
    return ct.Recipe(**shared), ct.QueryRecipe(**shared, members=members, eta=0.3)


def batches(tiny, negatives: int = 2):
    x0, cond = tiny[0].x0[:2], tiny[0].cond[:2]
    others = jnp.stack([tiny[0].cond[(i + 1) % 3] + 0.1 * i for i in range(negatives)])
    train = ct.TrainBatch(x0, cond, jnp.arange(2), jnp.tile(others[None], (2, 1, 1)))
    minus = ct.mixtures([[others[:1], others], [others[:1], others]])
    return train, ct.QueryBatch(x0, cond, minus, jnp.arange(2))


def agree(parts, scores, scale):
    """Every way to sum gives the scores."""

    def near(found, expected, rtol):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-4 * scale)

    by_time = np.sum(list(parts.layers.values()), axis=0)
    near(parts.pixels.sum((1, 2, 3)), scores, 1e-4)
    near(by_time.sum(1), scores, 1e-4)
    near(parts.pixels.sum((2, 3)), by_time, 1e-3)


def check_training_samples(tiny, name, kind):
    _, network, params = tiny
    recipe, _ = recipes(tiny, kind, guidance=2.0 if name == "published" else 1.0)
    (train, _), spec = batches(tiny), train_spec(name)
    null = jnp.zeros(4)
    phi = ct.train_features(recipe, network, params, [spec], train, null=null).features[:, 0]
    z = jax.random.normal(jax.random.key(3), (K,))
    parts = ct.train_parts(recipe, network, params, spec, train, z, null=null)
    assert parts.pixels.shape == (2, 2 * (2 if name == "published" else 1), 8, 8)
    agree(parts, phi @ z, np.linalg.norm(phi[0]) * np.linalg.norm(z))


@pytest.mark.parametrize(
    ("name", "kind"), [("concept-trak", "rademacher"), ("das", "factored"), ("published", "srht")]
)
def test_parts_of_training_samples_sum_to_their_scores(tiny, name, kind):
    """By the calls of the library; ``published``: guided inversions against two negatives."""
    check_training_samples(tiny, name, kind)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_with_every_projection(tiny, name):
    """The directions of all projections, one after the other in one program."""
    _, network, params = tiny
    recipe, _ = recipes(tiny, "rademacher", guidance=2.0 if name == "published" else 1.0)
    item = jax.tree.map(lambda leaf: leaf[1], batches(tiny)[0])
    chosen, functions, spec = params.chosen, network.given(params.others), train_spec(name)
    z = jax.random.normal(jax.random.key(3), (K,))
    projections = [ct.Projection(K, kind) for kind in PROJECTIONS]

    @jax.jit
    def taken_apart(vs):
        terms = train_terms(recipe, functions, chosen, item, [spec], jnp.zeros(4))
        g = gradients_of(functions.layers_fn, chosen, terms, recipe.projection, None, None)[spec]
        states = states_of(functions, chosen, terms[spec], spec.normalise, None)
        parts = partial(parts_of, functions, chosen, terms[spec], states)
        return g, jax.lax.map(parts, vs)

    directions = [transpose_leaves(z, chosen, projection) for projection in projections]
    g, parts = taken_apart(jax.tree.map(lambda *leaves: jnp.stack(leaves), *directions))
    one = jax.tree.map(lambda leaf: leaf[None], g)
    phi = np.concatenate([project_leaves(one, projection) for projection in projections])
    agree(parts, phi @ z, np.linalg.norm(phi[0]) * np.linalg.norm(z))


@pytest.mark.parametrize(("name", "kind"), [("concept-trak", "srht"), ("trak", "factored")])
def test_parts_of_a_question_sum_to_its_score(tiny, name, kind):
    """A mixture of conditions without the concept, two members with fresh noise."""
    _, network, params = tiny
    _, recipe = recipes(tiny, kind, members=2)
    (_, queries), spec = batches(tiny), query_spec(name)
    phi = ct.query_features(recipe, network, params, [spec], queries)[1, 1, 0]
    z = jax.random.normal(jax.random.key(4), (3, K))
    item = jax.tree.map(lambda leaf: leaf[1], queries)
    item = item._replace(minus=jax.tree.map(lambda leaf: leaf[1], item.minus))
    parts = ct.query_parts(recipe, network, params, spec, item, z)
    assert parts.pixels.shape == (3, 2, 8, 8)
    agree(parts, z @ phi, np.linalg.norm(phi) * np.linalg.norm(z[0]))


def test_time_chunks_change_nothing(tiny):
    _, network, params = tiny
    recipe, _ = recipes(tiny, "srht")
    spec, (train, _), null = train_spec("concept-trak"), batches(tiny), jnp.zeros(4)
    one, two = (
        ct.train_parts(
            replace(recipe, time_chunk=chunk), network, params, spec, train, jnp.ones(K), null=null
        )
        for chunk in (1, 2)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), one, two)


def test_a_network_of_single_pixels_is_explained_pixel_by_pixel():
    """eps[p] = theta[p] x[p]: a score's part at p is the product of gradient and direction at p,
    by hand, and nothing of one pixel is found at another."""
    shape = (4, 4, 1)
    theta = jax.random.normal(jax.random.key(0), shape)

    def eps_fn(params, x, t, cond, /):
        return params["theta"] * x

    network, params = ct.differentiable(eps_fn, {"theta": theta})
    grid, schedule = ct.grid(steps=6, every=3), ct.schedule.linear()
    recipe = ct.Recipe(schedule=schedule, grid=grid, projection=ct.Projection(32))
    spec = GradientSpec("l2", "forward", False)
    x0 = jax.random.normal(jax.random.key(1), shape)
    v = {"theta": jnp.zeros(shape).at[1, 2, 0].set(2.0).at[3, 3, 0].set(-1.0)}
    functions, item = network.given({}), ct.TrainBatch(x0, jnp.zeros(1), jnp.int32(0))
    term = train_terms(recipe, functions, params.chosen, item, [spec], None)[spec]
    states = states_of(functions, params.chosen, term, normalise=False, time_chunk=None)
    parts = parts_of(functions, params.chosen, term, states, v)

    key = jax.random.fold_in(jax.random.key(0), 0)
    (x,) = ct.forward_path(schedule, x0, grid.recorded, key).x
    expected = (2 / 16) * theta * x * x * v["theta"]
    np.testing.assert_allclose(parts.pixels[0], expected[..., 0], rtol=1e-5)
