"""The score stage of unlearning: one preconditioned ascent per query, one loss per sample."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices
from ctrak_jax.attribution import Recipe, Weights
from ctrak_jax.attribution.unlearning import (
    NoisedBatch,
    denoising_gradient,
    denoising_losses,
    floored,
    squared_gradients,
    unlearned,
)
from ctrak_jax.config import UnlearningConfig
from ctrak_jax.inputs.batches import TrainSamples
from ctrak_jax.inputs.questions import QuestionInputs
from ctrak_jax.log import meter
from ctrak_jax.run.network import PlacedNetwork
from ctrak_jax.run.questions import Question
from ctrak_jax.typing import Array, Params

QUERIES_APART = 2**30
"""Keeps a question's noise from being that of the training image of its number."""
LOSSES = 256
"""Losses computed side by side."""


class Unlearner(NamedTuple):
    """What losses and gradients are computed with."""

    recipe: Recipe
    placed: PlacedNetwork
    mesh: Mesh


def scores(
    unlearner: Unlearner,
    samples: TrainSamples,
    inputs: QuestionInputs,
    asked: Sequence[Question],
    config: UnlearningConfig,
    batch: int,
    wrong: tuple[TrainSamples, np.ndarray] | None,
) -> np.ndarray:
    """s_i of every reported local question [query, sample]; NaN elsewhere.

    Args:
        wrong: samples with some labels changed and the scores with none changed: the control's
            rows are computed, the others taken as they are.
    """
    recipe, (network, params, specs), mesh = unlearner
    count = len(samples.index)
    result = np.full((len(asked), count), np.nan, np.float32)
    # One F and so one theta' for the main scores and a control with some labels changed.
    diagonal = _fisher_diagonal(unlearner, samples, config.fisher_samples, batch)
    if wrong is not None:
        samples, result = wrong

    def batch_losses(weights: Weights, batch: NoisedBatch) -> Array:
        eps_fn = network.given(weights.others).eps_fn
        return denoising_losses(recipe, eps_fn, weights.chosen, batch)

    loss = devices.over_samples(batch_losses, mesh, specs)
    gradient = jax.jit(partial(denoising_gradient, recipe, network))
    copies = (False, True) if samples.inputs.flipped else (False,)

    def losses(weights: Weights) -> list[np.ndarray]:
        return [
            devices.in_batches(
                lambda rows, copy=copy: loss(weights, _batch(samples, samples.rows[rows], copy)),
                len(samples.rows),
                LOSSES + -LOSSES % mesh.size,
            )
            for copy in copies
        ]

    before = losses(params)
    first: dict[str, int] = {}
    local = [i for i, q in enumerate(asked) if q.scope == "local" and q.split == "report"]
    with meter("unlearning", len(local)) as bar:
        for i in local:
            source = first.setdefault(asked[i].query, i)
            if source == i:
                query = inputs.batch(asked, np.array([[i]]))
                x0, cond = jax.tree.map(lambda leaf: leaf[0], (query.x0, query.cond))
                item = NoisedBatch(x0, cond, np.int32(i + QUERIES_APART))
                rate = config.learning_rate / count
                after = losses(unlearned(params, gradient(params, item), diagonal, rate))
                result[i, samples.rows] = np.max(np.subtract(after, before), axis=0)
            else:
                result[i] = result[source]
            bar.advance(1)
    return result


def _fisher_diagonal(
    unlearner: Unlearner, samples: TrainSamples, wanted: int, batch: int
) -> Params:
    """The floored diagonal: mean squared gradient of ``wanted`` samples."""
    recipe, (network, params, _), _ = unlearner
    count = len(samples.index)
    wanted = min(wanted, count)
    rows = np.sort(np.random.default_rng(recipe.seed).permutation(count)[:wanted])
    compiled, total = jax.jit(partial(squared_gradients, recipe, network)), None
    for first in range(0, wanted, batch):
        part = compiled(params, _batch(samples, rows[first : first + batch]))
        total = part if total is None else jax.tree.map(jax.numpy.add, total, part)
    return floored(total, wanted, params.size)


def _batch(samples: TrainSamples, rows: np.ndarray, mirrored: bool = False) -> NoisedBatch:
    inputs = samples.inputs
    return NoisedBatch(
        inputs.samples(rows, mirrored=mirrored),
        inputs.conditions(samples.labels[rows]),
        samples.index[rows],
    )
