"""Featurize the training set: writes ``features/<method>/``, chunk by chunk."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax import mesh as devices
from ctrak_jax.data import opposite_indices
from ctrak_jax.log import meter, stage
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.projection import implementation_of
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import (
    TrainBatch,
    TrainRows,
    Weights,
    feature_key,
    needs_errors,
    projection_of,
    selected,
    train_rows,
    train_specs,
)
from ctrak_jax.stages.variant import MAIN, Variant
from ctrak_jax.store import FeatureStore


def folder(ctx: Context, variant: Variant) -> Path:
    """Where a variant keeps its results."""
    return ctx.root / "controls" / variant.name if variant.name else ctx.root


def run(ctx: Context, variant: Variant = MAIN) -> None:
    """Complete the feature stores of all methods of the config."""
    denoiser = model.load(ctx)
    chosen = selected(ctx, denoiser, variant)
    specs = train_specs(ctx.config.methods)
    with_errors = needs_errors(specs)
    samples = samples_of(ctx, variant)
    sha256 = model.sha256(ctx)
    widths = {"features": ctx.config.projection.k}
    there = folder(ctx, variant) / "features"
    begun = [n for n in specs.values() if not (there / n / "manifest.json").exists()]
    stores = {
        spec: FeatureStore.create(
            there / name,
            feature_key(ctx, chosen, variant, spec, sha256),
            index=ctx.dataset.train_index[samples.rows],
            widths=widths | ({"errors": len(ctx.grid.recorded)} if name in with_errors else {}),
            chunk=ctx.config.store.chunk,
            together=begun,
        )
        for spec, name in specs.items()
    }
    open_specs = [spec for spec, store in stores.items() if store.missing]
    if not open_specs:
        return
    with stage(folder(ctx, variant), variant.title("featurize"), ctx.mesh.size) as record:
        # The program that made a store's other rows makes those it lacks: to the same bytes, also
        # where a kill came between the writes of two stores.
        compiled = {}
        todo = sorted(
            {chunk.start: chunk for s in open_specs for chunk in stores[s].missing}.items()
        )
        implementation = implementation_of(projection_of(ctx))
        record.extra = {"projection": implementation, "specs": len(open_specs)}
        with meter(variant.title("featurize"), sum(len(chunk) for _, chunk in todo)) as bar:
            for start, chunk in todo:
                lacking = [
                    s for s in open_specs if any(c.start == start for c in stores[s].missing)
                ]
                for together in sorted({stores[s].together for s in lacking}):
                    program = _program(together)
                    errors = any(name in with_errors for name in together)
                    if together not in compiled:
                        fn = partial(train_rows, ctx, chosen, program, errors)
                        compiled[together] = devices.over_samples(fn, ctx.mesh)
                    result = _compute(ctx, compiled[together], chosen.weights, samples, chunk)
                    for spec in (s for s in lacking if stores[s].together == together):
                        arrays = {"features": np.asarray(result.features)[:, program.index(spec)]}
                        if specs[spec] in with_errors:
                            arrays["errors"] = np.asarray(result.errors)
                        stores[spec].write(chunk, arrays)
                record.samples += len(chunk)
                bar.advance(len(chunk))


def _program(together: tuple[str, ...]) -> list[GradientSpec]:
    """The training gradients of stores that one program fills."""
    specs = [METHODS[name].train for name in together]
    return [spec for spec in specs if spec is not None]


def relabelled_rows(ctx: Context, share: float) -> np.ndarray:
    """Rows of the training set that the wrong-label control featurizes under another condition."""
    count = len(ctx.dataset.train_index)
    picked = np.random.default_rng((ctx.config.trajectory.seed, 2)).permutation(count)
    return np.sort(picked[: max(1, round(share * count))])


def train_conditions(ctx: Context, variant: Variant) -> np.ndarray:
    """Conditions under which the training samples are featurized: [n, condition]."""
    conditions = ctx.dataset.train_conditions
    if variant.relabel:
        rows = relabelled_rows(ctx, variant.relabel)
        wrong = conditions[opposite_indices(conditions, ctx.dataset.train_index, seed=1)]
        conditions = conditions.copy()
        conditions[rows] = wrong[rows]
    return conditions


class Samples(NamedTuple):
    """What the training samples of a variant are featurized with, by row of the training set."""

    rows: np.ndarray
    conditions: np.ndarray
    against: np.ndarray


def samples_of(ctx: Context, variant: Variant) -> Samples:
    """The rows a variant computes, and the conditions of all rows."""
    conditions = train_conditions(ctx, variant)
    rows = relabelled_rows(ctx, variant.relabel) if variant.relabel else np.arange(len(conditions))
    return Samples(rows, conditions, ctx.against(conditions))


def _compute(
    ctx: Context,
    fn: Callable[[Weights, TrainBatch], TrainRows],
    weights: Weights,
    samples: Samples,
    chunk: range,
) -> TrainRows:
    """One chunk in batches of a fixed size; the last one is padded."""
    size = ctx.config.gradient.batch
    size += -size % ctx.mesh.size
    parts = []
    for first in range(chunk.start, chunk.stop, size):
        real = samples.rows[first : min(first + size, chunk.stop)]
        rows = devices.padded(real, size)
        batch = TrainBatch(
            ctx.dataset.train_images(rows),
            samples.conditions[rows],
            samples.against[rows],
            ctx.dataset.train_index[rows],
        )
        out = fn(weights, batch)
        parts.append(TrainRows(*(np.asarray(leaf)[: len(real)] for leaf in out)))
    return TrainRows(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))
