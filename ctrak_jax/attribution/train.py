"""Features of training samples, all of a method's side of it in one pure call."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.attribution.gradients import (
    denoising_errors,
    gradients_of,
    loss_of,
    project_together,
)
from ctrak_jax.attribution.network import Network, Weights
from ctrak_jax.attribution.recipe import Recipe, guidance_of
from ctrak_jax.methods import GradientSpec
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
        x0, cond, index, negatives = item
        key = jax.random.fold_in(jax.random.key(recipe.seed), index)
        forward = forward_path(recipe.schedule, x0, recipe.grid.recorded, key)
        inverted = partial(invert, functions.exact_fn, chosen, recipe.schedule, recipe.grid, x0)

        def under(condition: Cond, wanted: Sequence[GradientSpec], inversion: Callable[[], Path]):
            paths = {"forward": forward}
            if any(spec.path == "inversion" for spec in wanted):
                paths["inversion"] = inversion()
            return gradients_of(
                functions.layers_fn,
                chosen,
                wanted,
                paths,
                condition,
                lambda spec: loss_of(spec.loss, recipe.schedule, x0, condition, 1.0),
                recipe.projection,
                recipe.time_chunk,
                network.precision.gradients,
            )

        named = [spec for spec in specs if spec.condition == "own"]
        guided = partial(guided_inversions, recipe, inverted, cond, negatives)
        gradients = under(cond, named, guided)
        if len(named) < len(specs):
            if null is None:
                raise ValueError("a gradient under the null condition needs it: pass null.")
            free = [spec for spec in specs if spec.condition == "null"]
            gradients |= under(null, free, lambda: inverted(null))
        found = jnp.zeros(0)
        if errors:
            found = denoising_errors(functions.eps_fn, chosen, recipe.schedule, forward, x0, cond)
        return [gradients[spec] for spec in specs], found

    gradients, found = jax.vmap(one)(batch)
    projected = project_together(gradients, recipe.projection)
    features = projected.reshape(len(specs), -1, recipe.projection.k).swapaxes(0, 1)
    return TrainFeatures(features, found)


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
