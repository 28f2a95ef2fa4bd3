r"""Where a score comes from: exact parts by pixel, timestep and layer (method.md, section 9).

With v = R z, equation (9.1), a score is the inner product of a gradient with one direction among
the parameters, and so a sum over everything that the gradient is a sum over:

.. math::
    \langle \phi, z \rangle = \langle g, v \rangle = \sum_t w_t \sum_p
    \bigl\langle u_t[p], (J_t v)[p] \bigr\rangle = \sum_t w_t \sum_l
    \langle g_{t,l}, v_l \rangle                                                          \tag{9.2}

with :math:`J_t = \partial\epsilon(x_t)/\partial\theta`, p the pixels, l the parameters and the
weights :math:`w_t` of equation (4.4). Of a training sample, with z a question's solved feature,
this says where in the picture, at which noise level and in which layers its influence is. Of a
question, with z a training sample's solved feature, it says which part of the query image that
sample accounts for: the score is symmetric.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.attribution.gradients import Term
from ctrak_jax.attribution.network import Network, Predictions, Weights
from ctrak_jax.attribution.query import QueryBatch, member_key, query_member, query_terms
from ctrak_jax.attribution.recipe import QueryRecipe, Recipe
from ctrak_jax.attribution.train import TrainBatch, train_terms
from ctrak_jax.gradient.layers import Layers, path_layers, step_norms
from ctrak_jax.methods import GradientSpec
from ctrak_jax.precision import EXACT
from ctrak_jax.projection.transpose import transpose_leaves
from ctrak_jax.reward import linearise
from ctrak_jax.trajectory import Path
from ctrak_jax.typing import Array, Cond, Image, Params, TargetReward, Timestep


class Parts(NamedTuple):
    """The parts of scores, which each of the two sums to.

    Attributes:
        pixels: by state and place, channels summed [sample, time, ...]. States are those of the
            path: where there are several negatives, one path after the other.
        layers: by parameter and state, path -> [sample, time].
    """

    pixels: Float[Array, "sample time ..."]
    layers: dict[str, Float[Array, "sample time"]]


def train_parts(
    recipe: Recipe,
    network: Network,
    params: Weights,
    spec: GradientSpec,
    batch: TrainBatch,
    z: Float[Array, " proj"],
    *,
    null: Cond | None = None,
) -> Parts:
    """Equation (9.2) for training samples: where in each its <phi, z> comes from. They are
    computed one after the other, in the memory of one sample's gradient.

    Args:
        recipe: as for :func:`ctrak_jax.train_features`, which gives phi.
        network: the noise prediction of one sample.
        params: its parameters.
        spec: the training gradient.
        batch: the samples.
        z: a question's solved feature.
        null: the condition that says nothing, where the gradient is taken under it.

    Returns:
        parts that sum to <phi, z> of every sample, to rounding.

    Raises:
        ValueError: the gradient is taken under the null condition, and there is none.
    """
    chosen, functions = params.chosen, network.given(params.others)
    v = transpose_leaves(z, chosen, recipe.projection)

    def one(item: TrainBatch) -> Parts:
        term = train_terms(recipe, functions, chosen, item, [spec], null)[spec]
        states = states_of(functions, chosen, term, spec.normalise, recipe.time_chunk)
        return parts_of(functions, chosen, term, states, v)

    return jax.lax.map(one, batch)


def influence_map(parts: Parts) -> Float[Array, "sample ..."]:
    """Where in the picture each score comes from: its parts by pixel, over all states.

    Args:
        parts: of :func:`train_parts` (places in each training sample) or :func:`query_parts`
            (places in the query image).

    Returns:
        maps [sample, height, width] that sum to the scores.
    """
    return parts.pixels.sum(1)


def query_parts(
    recipe: QueryRecipe,
    network: Network,
    params: Weights,
    spec: GradientSpec,
    item: QueryBatch,
    z: Float[Array, "sample proj"],
    *,
    null: Cond | None = None,
    reward: TargetReward | None = None,
) -> Parts:
    """Equation (9.2) for one question: which part of its image each training sample accounts for,
    mean over the question's members.

    Args:
        recipe: as for :func:`ctrak_jax.query_features`, which gives phi.
        network: the noise prediction of one sample.
        params: its parameters.
        spec: the query gradient.
        item: ONE image and ONE concept: the fields of :class:`QueryBatch` without their first axes.
        z: the solved features of training samples.
        null: the condition that guidance is against, where there is guidance.
        reward: as for :func:`ctrak_jax.query_features`.

    Returns:
        parts that sum to <phi, z> of every sample, to rounding.
    """
    chosen, functions = params.chosen, network.given(params.others)

    def member(number: Array) -> Parts:
        key = member_key(recipe, item, number)
        drawn = query_member(recipe, functions.exact_fn, chosen, item, null, key)
        terms = query_terms(
            recipe, network, functions, chosen, drawn, item.cond, item.concepts, [spec], reward
        )

        states = states_of(functions, chosen, terms[spec], spec.normalise, recipe.time_chunk)

        def one(z: Array) -> Parts:
            v = transpose_leaves(z, chosen, recipe.projection)
            return parts_of(functions, chosen, terms[spec], states, v)

        return jax.lax.map(one, z)

    found = jax.lax.map(member, jnp.arange(recipe.members))
    return jax.tree.map(lambda leaf: leaf.mean(0), found)


class States(NamedTuple):
    """What the gradients of a term are made of at every state of its path.

    Attributes:
        u: the cotangents, times the weights w [time, ...].
        layers: the gradients by parameter, without the weights.
        weights: w [time].
    """

    u: Float[Array, "time ..."]
    layers: Layers
    weights: Float[Array, " time"]


def states_of(
    functions: Predictions,
    chosen: dict[str, Any],
    term: Term,
    normalise: bool,
    time_chunk: int | None,
) -> States:
    """The states of one sample's term, ``time_chunk`` of them side by side."""

    def step(state: tuple[Image, Timestep]) -> States:
        x, t = state
        one = Path(x[None], jnp.asarray(t)[None])
        layers = path_layers(term.loss, functions.layers_fn, chosen, one, term.cond)
        weight = jnp.float32(1.0)
        if normalise:
            (norm,) = step_norms(layers)
            weight = jnp.where(norm > 0, 1.0 / jnp.where(norm > 0, norm, 1.0), 0.0)
        u = term.loss(linearise(functions.eps_fn, chosen, x, t, term.cond))
        return States(weight * u, jax.tree.map(lambda leaf: leaf[0], layers), weight)

    return jax.lax.map(step, (term.path.x, term.path.t), batch_size=time_chunk)


def parts_of(
    functions: Predictions, chosen: dict[str, Any], term: Term, states: States, v: Params
) -> Parts:
    """The parts of <g, v> of one sample, without the axis ``sample``, for the gradient g of a term
    with these states."""

    def step(state: tuple[Image, Timestep, States]) -> Parts:
        x, t, (u, layers, weight) = state
        _, moved = jax.jvp(lambda p: functions.eps_fn(p, x, t, term.cond), (chosen,), (v,))
        pixels = jnp.sum(u * moved.astype(jnp.float32), axis=-1)
        return Parts(pixels, {p: weight * s for p, s in _by_layer(layers, v).items()})

    return jax.lax.map(step, (term.path.x, term.path.t, states))


def _by_layer(layers: Layers, v: Params) -> dict[str, Float[Array, ""]]:
    """<g_l, v_l> of every parameter, from the gradients of one state."""
    found: dict[str, Array] = {
        path: jnp.vdot(g, v[path], precision=EXACT) for path, g in layers.others.items()
    }
    for kernel, a in layers.inputs.items():
        through = jnp.matmul(a, v[kernel], precision=EXACT)
        found[kernel] = jnp.vdot(through, layers.output_cotangents[kernel], precision=EXACT)
    return found
