"""Features of training samples, all of a method's side of it in one pure call."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.attribution.gradients import (
    Term,
    denoising_errors,
    gradients_of,
    loss_of,
    project_together,
)
from ctrak_jax.attribution.network import Network, Predictions, Weights
from ctrak_jax.attribution.recipe import Recipe, guidance_of
from ctrak_jax.methods import GradientSpec, StatePath, Told
from ctrak_jax.trajectory import Path, forward_path, invert
from ctrak_jax.typing import Array, Cond

GRADIENT = 4
"""A per-sample gradient with its norm, in forward passes: one, two back, one."""


class TrainBatch(NamedTuple):
    """Training samples.

    Attributes:
        x0: clean samples [sample, ...].
        cond: their conditions [sample, ...].
        index: numbers that fix their noise [sample].
        negatives: what their inversions are guided against [sample, negative, ...], where a
            gradient is taken on guided inversions.
    """

    x0: Any
    cond: Any
    index: Any
    negatives: Any = None


class TrainFeatures(NamedTuple):
    """Features [sample, spec, proj] and denoising errors on the forward path [sample, time] (no
    columns where they are not wanted)."""

    features: Float[Array, "sample spec proj"]
    errors: Float[Array, "sample time"]


def train_features(
    recipe: Recipe,
    network: Network,
    params: Weights,
    specs: Sequence[GradientSpec],
    batch: TrainBatch,
    *,
    null: Cond | None = None,
    errors: bool = False,
) -> TrainFeatures:
    """Features of a batch of training samples, for several gradients that share their paths.

    Args:
        recipe: schedule, grid, projection, guidance.
        network: the noise prediction of one sample.
        params: its parameters.
        specs: the training gradients, such as ``METHODS["concept-trak"].train``.
        batch: the samples.
        null: the condition that says nothing, where a gradient is taken under it.
        errors: also compute the denoising errors, which cost a pass of their own.
    """
    chosen, functions = params.chosen, network.given(params.others)

    def one(item: TrainBatch) -> tuple[list[Any], Array]:
        gradients = gradients_of(
            functions.layers_fn,
            chosen,
            train_terms(recipe, functions, chosen, item, specs, null),
            recipe.projection,
            recipe.time_chunk,
            network.precision.gradients,
        )
        found = jnp.zeros(0)
        if errors:
            forward = noised(recipe, item)
            found = denoising_errors(
                functions.eps_fn, chosen, recipe.schedule, forward, item.x0, item.cond
            )
        return [gradients[spec] for spec in specs], found

    gradients, found = jax.vmap(one)(batch)
    projected = project_together(gradients, recipe.projection)
    features = projected.reshape(len(specs), -1, recipe.projection.k).swapaxes(0, 1)
    return TrainFeatures(features, found)


def noised(recipe: Recipe, item: TrainBatch) -> Path:
    """The states of one sample under forward noise."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), item.index)
    return forward_path(recipe.schedule, item.x0, recipe.grid.recorded, key)


def train_terms(
    recipe: Recipe,
    functions: Predictions,
    chosen: dict[str, Any],
    item: TrainBatch,
    specs: Sequence[GradientSpec],
    null: Cond | None,
) -> dict[GradientSpec, Term]:
    """What the gradients of one sample are taken of; those that share a path share its states.

    Raises:
        ValueError: a gradient is taken under the null condition, and there is none.
    """
    x0, cond, _, negatives = item
    if null is None and any(spec.condition == "null" for spec in specs):
        raise ValueError("a gradient under the null condition needs it: pass null.")
    inverted = partial(invert, functions.exact_fn, chosen, recipe.schedule, recipe.grid, x0)

    @cache
    def path(kind: StatePath, condition: Told) -> Path:
        if kind == "forward":
            return noised(recipe, item)
        if condition == "null":
            return inverted(null)
        return guided_inversions(recipe, inverted, cond, negatives)

    def term(spec: GradientSpec) -> Term:
        own = cond if spec.condition == "own" else null
        loss = loss_of(spec.loss, recipe.schedule, x0, own, 1.0)
        return Term(loss, path(spec.path, spec.condition), own)

    return {spec: term(spec) for spec in specs}


def passes(
    specs: Iterable[GradientSpec], *, timesteps: int, stride: int, negatives: int, guidance: float
) -> int:
    """Forward passes that the features of one sample take, projection left out.

    Args:
        specs: the training gradients.
        timesteps: attribution timesteps.
        stride: steps of an inversion between two of them.
        negatives: inversions per sample, where they are guided.
        guidance: their scale; 1 for none.
    """
    guided, wanted, total = guidance != 1.0, list(specs), 0
    for condition, paths, each in (("own", negatives if guided else 1, 1 + guided), ("null", 1, 1)):
        counts = [
            paths if spec.path == "inversion" else 1
            for spec in wanted
            if spec.condition == condition
        ]
        total += GRADIENT * timesteps * sum(counts)
        if any(spec.path == "inversion" and spec.condition == condition for spec in wanted):
            total += paths * each * timesteps * stride
    return total


def guided_inversions(
    recipe: Recipe, inverted: Callable[..., Path], cond: Cond, negatives: Cond
) -> Path:
    """The inversions of one sample, ``inverted(cond, guidance)``, guided against each negative
    [negative, ...], end to end.

    One negative alone says as much about that negative as about the sample: against (circle, blue)
    a blue triangle's gradient is that of "triangle, not circle", and ranks high for whatever else a
    circle is not. With one attribute changed at a time each attribute is contrasted on its own.
    """

    def one(negative: Cond) -> Path:
        return inverted(cond, guidance=guidance_of(recipe.guidance, negative))

    if recipe.guidance == 1.0:
        return one(negatives[0])
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), jax.vmap(one)(negatives))
