"""Featurize the training set: writes ``features/<method>/``, chunk by chunk."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax import devices, hosts
from ctrak_jax.data import read_ahead
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.projection import implementation_of
from ctrak_jax.stages import model
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.gradients import (
    Selected,
    TrainRows,
    feature_key,
    needs_errors,
    projection_of,
    selected,
    train_rows,
    train_specs,
)
from ctrak_jax.stages.samples import Samples, TrainBatch, samples_of
from ctrak_jax.stages.variant import MAIN, Variant
from ctrak_jax.store import FeatureStore, Place, below


def folder(ctx: Context, variant: Variant) -> Path:
    """Where a variant keeps its results."""
    return ctx.root / "controls" / variant.name if variant.name else ctx.root


def place(ctx: Context, variant: Variant, method: str) -> Place:
    """Where the features of the training images are."""
    url = ctx.config.store.url
    if url is None:
        return folder(ctx, variant) / "features" / method
    control = ("controls", variant.name) if variant.name else ()
    return below(url, ctx.place, *control, "features", method)


def run(ctx: Context, variant: Variant = MAIN) -> None:
    """Complete the feature stores of all methods of the config; each process its share of the
    chunks."""
    chosen = selected(ctx, model.load(ctx), variant)
    specs = train_specs(ctx.config.methods)
    with_errors = needs_errors(specs)
    samples = samples_of(ctx, variant)
    stores: dict[GradientSpec, FeatureStore] = {}
    for turn in (hosts.is_first(), not hosts.is_first()):  # the first one makes what is not there
        if turn:
            stores = _stores(ctx, variant, chosen, samples)
        hosts.barrier("stores opened")
    missing = {spec: set(store.missing) for spec, store in stores.items()}
    todo = sorted(set().union(*missing.values()), key=lambda chunk: chunk.start)
    if todo:
        with stage(folder(ctx, variant), variant.title("featurize"), ctx.mesh.size) as record:
            # The program that made a store's other rows makes those it lacks: to the same bytes,
            # also where a kill came between the writes of two stores.
            jobs = [
                Job(chunk, together)
                for chunk in hosts.share(todo)
                for together in sorted(
                    {stores[spec].together for spec in stores if chunk in missing[spec]}
                )
            ]
            record.extra = {
                "projection": implementation_of(projection_of(ctx)),
                "specs": sum(bool(chunks) for chunks in missing.values()),
                "processes": hosts.count(),
            }
            total = sum(len(job.chunk) for job in jobs)
            try:
                with meter(variant.title("featurize"), total) as bar:
                    for job, result in _computed(ctx, chosen, samples, jobs, with_errors):
                        program = _program(job.together)
                        for spec, store in stores.items():
                            if store.together != job.together or job.chunk not in missing[spec]:
                                continue
                            features = np.asarray(result.features)
                            arrays = {"features": features[:, program.index(spec)]}
                            if specs[spec] in with_errors:
                                arrays["errors"] = np.asarray(result.errors)
                            store.write(job.chunk, arrays)
                        record.samples += len(job.chunk)
                        bar.advance(len(job.chunk))
            finally:
                for store in stores.values():
                    store.flush()
    hosts.barrier("featurized")
    if hosts.is_first():
        for store in stores.values():
            store.seal()
    hosts.barrier("sealed")


def _stores(
    ctx: Context, variant: Variant, chosen: Selected, samples: Samples
) -> dict[GradientSpec, FeatureStore]:
    """The stores of all training gradients, made where they are not there yet."""
    specs, made_by = train_specs(ctx.config.methods), model.key(ctx)
    with_errors = needs_errors(specs)
    places = {name: place(ctx, variant, name) for name in specs.values()}
    begun = [name for name in specs.values() if not FeatureStore.exists(places[name])]
    return {
        spec: FeatureStore.create(
            places[name],
            feature_key(ctx, chosen.selection, variant, spec, made_by),
            index=ctx.dataset.train_index[samples.rows],
            widths={"features": ctx.config.projection.k}
            | ({"errors": len(ctx.grid.recorded)} if name in with_errors else {}),
            chunk=ctx.config.store.chunk,
            dtype=ctx.config.store.dtype,
            together=begun,
        )
        for spec, name in specs.items()
    }


class Job(NamedTuple):
    """A chunk of rows, and the stores that one program fills."""

    chunk: range
    together: tuple[str, ...]


def _program(together: tuple[str, ...]) -> list[GradientSpec]:
    """The training gradients of stores that one program fills."""
    specs = [METHODS[name].train for name in together]
    return [spec for spec in specs if spec is not None]


def _computed(
    ctx: Context,
    chosen: Selected,
    samples: Samples,
    jobs: Sequence[Job],
    with_errors: set[str],
) -> Iterator[tuple[Job, TrainRows]]:
    """The rows of every job in order. The devices compute a chunk while the one before it is
    fetched and written, and images are read ahead of both."""
    size = ctx.config.gradient.batch
    size += -size % ctx.mesh.size
    pieces = [
        (job, samples.rows[first : min(first + size, job.chunk.stop)])
        for job in jobs
        for first in range(job.chunk.start, job.chunk.stop, size)
    ]

    def read(piece: tuple[Job, np.ndarray]) -> TrainBatch:
        return samples.batch(devices.padded(piece[1], size))

    programs, weights = {}, devices.put(chosen.weights, ctx.mesh, chosen.specs)
    for together in {job.together for job in jobs}:
        errors = any(name in with_errors for name in together)
        fn = partial(train_rows, ctx, chosen, _program(together), errors)
        programs[together] = devices.over_samples(fn, ctx.mesh, chosen.specs)

    def fetch(job: Job, parts: list[tuple[int, TrainRows]]) -> tuple[Job, TrainRows]:
        cut = [[np.asarray(leaf)[:real] for leaf in out] for real, out in parts]
        logger.debug("computed rows %d..%d", job.chunk.start, job.chunk.stop - 1)
        return job, TrainRows(*map(np.concatenate, zip(*cut, strict=True)))

    before: tuple[Job, list[tuple[int, TrainRows]]] | None = None
    parts: list[tuple[int, TrainRows]] = []
    for (job, rows), batch in zip(pieces, read_ahead(pieces, read), strict=True):
        parts.append((len(rows), programs[job.together](weights, batch)))
        if sum(real for real, _ in parts) == len(job.chunk):
            if before is not None:
                yield fetch(*before)
            before, parts = (job, parts), []
    if before is not None:
        yield fetch(*before)
