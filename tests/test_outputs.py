"""The outputs of retrained models against NumPy, and against the losses they stand for."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import reward
from ctrak_jax.attribution import QueryBatch, QueryRecipe, mixtures
from ctrak_jax.attribution.outputs import Outputs, QuestionStates, outputs, question_states
from ctrak_jax.gradient import sample_gradient
from ctrak_jax.projection import Projection
from ctrak_jax.schedule import implied_prediction
from ctrak_jax.trajectory import Path, grid
from tests.tiny import make_tiny

TIMES = grid(steps=10, every=2)
SCALE = 3.0


def recipe_of(scope: Any, members: int = 2) -> QueryRecipe:
    return QueryRecipe(
        schedule=make_tiny().schedule,
        grid=TIMES,
        projection=Projection(8),
        scope=scope,
        members=members,
        eta=0.1,
        scale=SCALE,
    )


def batch_of(rows: list[int]) -> QueryBatch:
    """Two concepts of every image, the first against one condition, the second against two."""
    tiny = make_tiny()
    cond = np.asarray(tiny.cond)
    minus = [[cond[[(i + 1) % 3]], cond[[(i + 1) % 3, (i + 2) % 3]]] for i in rows]
    index = np.array(rows, np.int32)
    return QueryBatch(tiny.x0[index], cond[index], mixtures(minus), index)


@cache
def states_of(scope: Any) -> QuestionStates:
    tiny = make_tiny()
    fixed = partial(question_states, recipe_of(scope), tiny.eps_fn)
    return jax.jit(fixed)(tiny.params, batch_of([0, 1]))


@cache
def measure() -> Any:
    tiny = make_tiny()
    return jax.jit(partial(outputs, tiny.schedule, tiny.eps_fn))


def other_params() -> Any:
    return jax.tree.map(lambda leaf: 1.1 * leaf, make_tiny().params)


def predictions(params: Any, path: Path, cond: Any) -> np.ndarray:
    """eps at every state of a path [time, ...]."""
    eps_fn = make_tiny().eps_fn
    return np.asarray(jax.vmap(lambda x, t: eps_fn(params, x, t, cond))(path.x, path.t), float)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_both_outputs_are_those_of_the_definitions(scope):
    tiny, states, params = make_tiny(), states_of(scope), other_params()
    found, batch = measure()(params, states), batch_of([0, 1])
    for image in range(2):
        losses, concepts = [], []
        cond = batch.cond[image]
        for member in range(2):
            at = jax.tree.map(lambda leaf: leaf[image, member], (states.forward, states.own))  # noqa: B023
            x0, (forward, own) = states.x0[image, member], at
            noise = jax.vmap(lambda x, t: implied_prediction(tiny.schedule, x, t, x0))(*forward)  # noqa: B023
            losses.append(np.mean((np.asarray(noise) - predictions(params, forward, cond)) ** 2))
            full = predictions(tiny.params, own, cond)
            mine = predictions(params, own, cond)
            for concept, weights in enumerate(([1.0], [0.5, 0.5])):
                others = batch.minus.conditions[image, concept][: len(weights)]
                pairs = zip(weights, others, strict=True)
                minus = sum(w * predictions(tiny.params, own, c) for w, c in pairs)
                target = full + SCALE * (full - minus)
                concepts.append((concept, np.mean((target - mine) ** 2)))
        np.testing.assert_allclose(found.loss[image], -np.mean(losses), rtol=1e-4)
        for concept in range(2):
            expected = -np.mean([value for which, value in concepts if which == concept])
            np.testing.assert_allclose(found.concept[image, concept], expected, rtol=1e-4)


def test_local_states_belong_to_the_image_and_global_ones_to_the_condition():
    tiny = make_tiny()
    local, drawn = states_of("local"), states_of("global")
    for member in range(2):
        np.testing.assert_array_equal(local.x0[:, member], tiny.x0[:2])
    assert not np.allclose(drawn.x0[:, 0], tiny.x0[:2])
    assert not np.allclose(drawn.x0[:, 0], drawn.x0[:, 1])


def test_its_gradient_is_minus_that_of_the_concepts_loss():
    """At the full model: what Concept-TRAK's query gradient estimates is this output."""
    tiny, states, batch = make_tiny(), states_of("local"), batch_of([0, 1])
    times = len(TIMES.recorded)

    def concept(params: Any) -> Any:
        return outputs(tiny.schedule, tiny.eps_fn, params, states).concept[1, 0]

    found, total = jax.grad(concept)(tiny.params), None
    for member in range(2):
        path = jax.tree.map(lambda leaf: leaf[1, member], states.own)  # noqa: B023
        loss = reward.slider(batch.minus.conditions[1, 0, 0], SCALE)
        one = sample_gradient(loss, tiny.eps_fn, tiny.params, path, batch.cond[1], normalise=False)
        total = one if total is None else jax.tree.map(jnp.add, total, one)
    expected = jax.tree.map(lambda leaf: -leaf / (2 * times), total)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * size)


def test_an_image_is_measured_alike_in_any_batch():
    tiny = make_tiny()
    fixed = partial(question_states, recipe_of("local"), tiny.eps_fn)
    alone = jax.jit(fixed)(tiny.params, batch_of([1]))
    whole, one = (measure()(other_params(), s) for s in (states_of("local"), alone))
    assert isinstance(one, Outputs)
    np.testing.assert_allclose(one.loss[0], whole.loss[1], rtol=1e-5)
    np.testing.assert_allclose(one.concept[0], whole.concept[1], rtol=1e-5)
