r"""Unlearning-based attribution (method, section 6): one preconditioned ascent on the query.

.. math::
    \theta' = \theta + \mathrm{lr}\, F_\mathrm{diag}^{-1}\, \nabla L(x_q) / N,\qquad
    s_i = L(x_i; \theta') - L(x_i; \theta)                                                \tag{13}

L is the denoising loss, mean over the attribution timesteps, with the same noise before and after;
:math:`F_\mathrm{diag}` is the mean over training samples of their squared gradients. A training
image whose loss rises most when the query is unlearned taught it most; of an image and its mirrored
copy, where there is one, the larger score counts. Source: Wang et al. 2024.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import devices
from ctrak_jax.devices import in_batches
from ctrak_jax.gradient import sample_gradient
from ctrak_jax.log import meter
from ctrak_jax.reward import dsm
from ctrak_jax.run.questions import Question
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import Selected, Weights, denoising_errors, selected
from ctrak_jax.stages.query import query_batch
from ctrak_jax.stages.samples import Samples, relabelled_rows, samples_of
from ctrak_jax.stages.variant import MAIN, Variant
from ctrak_jax.store import read_scores
from ctrak_jax.trajectory import forward_path
from ctrak_jax.typing import Array, Params

FLOOR = 1e-3
"""The diagonal is not taken below this share of its mean: parameters that no sample moves."""


QUERIES_APART = 2**30
"""Keeps a question's noise from being that of the training image of its number."""


class Batch(NamedTuple):
    """Samples with conditions and the index that fixes their noise."""

    x0: Any
    cond: Any
    index: Any


def scores(ctx: Context, variant: Variant, asked: list[Question]) -> np.ndarray:
    """s_i of every reported local question [query, sample]; NaN elsewhere."""
    denoiser = model.load(ctx)
    chosen = selected(ctx, denoiser, variant)
    weights = chosen.weights
    samples = samples_of(ctx, variant)
    count = len(ctx.dataset.train_index)
    result = np.full((len(asked), count), np.nan, np.float32)
    # One F and so one theta' for the main scores and a control with some labels changed.
    diagonal = fisher_diagonal(ctx, chosen, samples_of(ctx, MAIN) if variant.relabel else samples)
    loss = devices.over_samples(lambda w, b: _losses(ctx, chosen, w, b), ctx.mesh, chosen.specs)
    gradient = jax.jit(lambda w, b: _gradient(ctx, chosen, w, b))
    # A control with some labels changed recomputes those rows and takes the others as they are.
    rows = np.arange(count)
    if variant.relabel:
        rows = relabelled_rows(ctx, variant.relabel)
        result = read_scores(ctx.root / "scores" / "unlearning.zarr")
    copies = (False, True) if ctx.inputs.flipped else (False,)
    before = [_all_losses(ctx, loss, weights, samples, rows, copy) for copy in copies]
    first: dict[str, int] = {}
    local = [i for i, q in enumerate(asked) if q.scope == "local" and q.split == "report"]
    rate = ctx.config.unlearning.learning_rate / count
    with meter("unlearning", len(local)) as bar:
        for i in local:
            source = first.setdefault(asked[i].query, i)
            if source == i:
                query = query_batch(ctx, asked, np.array([[i]]))
                item = Batch(query.x0[0], query.cond[0], np.int32(i + QUERIES_APART))
                step = gradient(weights, item)
                moved = weights._replace(
                    chosen=jax.tree.map(
                        lambda p, g, f: p + rate * g / f, weights.chosen, step, diagonal
                    )
                )
                after = [_all_losses(ctx, loss, moved, samples, rows, copy) for copy in copies]
                result[i, rows] = np.max(np.subtract(after, before), axis=0)
            else:
                result[i] = result[source]
            bar.advance(1)
    return result


def fisher_diagonal(ctx: Context, chosen: Selected, samples: Samples) -> Params:
    """The floored diagonal: mean squared gradient of ``unlearning.fisher_samples`` samples."""
    count = len(samples.labels)
    wanted = min(ctx.config.unlearning.fisher_samples, count)
    rows = np.sort(np.random.default_rng(ctx.config.trajectory.seed).permutation(count)[:wanted])

    def squares(weights: Weights, batch: Batch) -> Params:
        each = jax.vmap(lambda item: _gradient(ctx, chosen, weights, item))(batch)
        return jax.tree.map(lambda g: jnp.sum(g**2, axis=0), each)

    compiled, total = jax.jit(squares), None
    for first in range(0, wanted, ctx.config.gradient.batch):
        part = compiled(
            chosen.weights,
            _batch(ctx, samples, rows[first : first + ctx.config.gradient.batch]),
        )
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    mean = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(total)) / chosen.selection.size
    return jax.tree.map(lambda f: jnp.maximum(f, FLOOR * mean) / wanted, total)


def _batch(ctx: Context, samples: Samples, rows: np.ndarray, mirrored: bool = False) -> Batch:
    inputs = ctx.inputs
    return Batch(
        inputs.samples(rows, mirrored=mirrored),
        inputs.conditions(samples.labels[rows]),
        ctx.dataset.train_index[rows],
    )


def _gradient(ctx: Context, chosen: Selected, weights: Weights, item: Batch) -> Params:
    """grad L of one sample: the mean over timesteps of the dsm gradient on its forward path."""
    times = ctx.grid.recorded
    key = jax.random.fold_in(jax.random.key(ctx.config.trajectory.seed), item.index)
    path = forward_path(ctx.schedule, item.x0, times, key)
    eps_fn = chosen.network(weights.others).eps_fn
    total = sample_gradient(
        dsm(ctx.schedule, item.x0), eps_fn, weights.chosen, path, item.cond, normalise=False
    )
    return jax.tree.map(lambda g: g / len(times), total)


def _losses(ctx: Context, chosen: Selected, weights: Weights, batch: Batch) -> Array:
    eps_fn = chosen.network(weights.others).eps_fn

    def one(item: Batch) -> Array:
        key = jax.random.fold_in(jax.random.key(ctx.config.trajectory.seed), item.index)
        path = forward_path(ctx.schedule, item.x0, ctx.grid.recorded, key)
        return denoising_errors(
            eps_fn, weights.chosen, ctx.schedule, path, item.x0, item.cond
        ).mean()

    return jax.vmap(one)(batch)


def _all_losses(
    ctx: Context, loss, weights: Weights, samples: Samples, rows: np.ndarray, mirrored: bool
) -> np.ndarray:
    def of(some: np.ndarray) -> Array:
        return loss(weights, _batch(ctx, samples, rows[some], mirrored))

    return in_batches(of, len(rows), 256 + -256 % ctx.mesh.size)
