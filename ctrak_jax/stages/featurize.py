"""Featurize the training set: writes ``features/<method>/``, chunk by chunk."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices, hosts
from ctrak_jax.attribution import Recipe, TrainBatch, TrainFeatures, train_features
from ctrak_jax.config import Config
from ctrak_jax.data import read_ahead
from ctrak_jax.inputs.batches import TrainSamples
from ctrak_jax.log import stage
from ctrak_jax.methods import METHODS, GradientSpec, Method, needs_errors, train_specs
from ctrak_jax.precision import described
from ctrak_jax.projection import implementation_of
from ctrak_jax.run.fill import Computed, FillJob, fill
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.network import PlacedNetwork
from ctrak_jax.run.variants import MAIN, Variant, feature_set, table_of
from ctrak_jax.stages import probe
from ctrak_jax.stages.context import Context
from ctrak_jax.store import Dtype, FeatureStore


class Featurizer(NamedTuple):
    """Samples, and all that makes features of them, ``batch`` side by side over all devices;
    ``table`` says what each method's gradient is."""

    placed: PlacedNetwork
    recipe: Recipe
    samples: TrainSamples
    mesh: Mesh
    batch: int
    table: Mapping[str, Method] = METHODS


class StoreForm(NamedTuple):
    """How rows are kept: rows per chunk, the numbers' format, and for the record the precision
    that they are computed with."""

    chunk: int
    dtype: Dtype
    precision: Mapping[str, str]


def form_of(config: Config) -> StoreForm:
    """How a config keeps rows."""
    store = config.store
    return StoreForm(store.chunk, store.dtype, described(config.run.precision))


def run(ctx: Context, variant: Variant = MAIN) -> None:
    """Complete the feature stores of all methods of the config; each process its share of the
    chunks."""
    if variant is MAIN:
        probe.run(ctx)
    complete(
        Featurizer(
            ctx.placed(ctx.load(), variant),
            ctx.recipe,
            ctx.samples(variant),
            ctx.mesh,
            ctx.config.gradient.batch,
            table_of(ctx.config, variant),
        ),
        ctx.folder.part(variant.folder),
        feature_set(ctx.config, variant, len(ctx.dataset.train_index)).methods,
        partial(ctx.feature_key, variant=variant),
        form_of(ctx.config),
        variant.title("featurize"),
    )


def complete(
    featurizer: Featurizer,
    folder: RunFolder,
    methods: Sequence[str],
    key: Callable[[GradientSpec], Mapping[str, Any]],
    form: StoreForm,
    title: str,
) -> None:
    """Fill the stores of the methods' training gradients; ``key`` says what the features of one
    depend on."""
    specs = train_specs(methods, featurizer.table)
    names = {name: spec for spec, name in specs.items()}
    keep_errors = needs_errors(train_specs(tuple(METHODS)))  # also of stores not asked for here
    stores: dict[str, FeatureStore] = {}
    for turn in (hosts.is_first(), not hosts.is_first()):  # the first one makes what is not there
        if turn:
            begun = [n for n in names if not FeatureStore.exists(folder.features(n))]
            stores = {
                name: FeatureStore.create(
                    folder.features(name),
                    key(spec),
                    index=featurizer.samples.indices,
                    widths=_widths(featurizer.recipe, name in keep_errors),
                    chunk=form.chunk,
                    dtype=form.dtype,
                    together=begun,
                    precision=form.precision,
                )
                for name, spec in names.items()
            }
        hosts.barrier("stores opened")
    missing = {name: set(store.missing) for name, store in stores.items()}
    todo = sorted(set().union(*missing.values()), key=lambda chunk: chunk.start)
    if todo:
        # The program that made a store's other rows makes those it lacks: to the same bytes, also
        # where a kill came between the writes of two stores.
        jobs = [
            FillJob((chunk,), tuple(n for n in lacking if stores[n].together == program), program)
            for chunk in hosts.share(todo)
            for lacking in [[n for n in stores if chunk in missing[n]]]
            for program in sorted({stores[n].together for n in lacking})
        ]
        with stage(folder.root, title, featurizer.mesh.size) as record:
            record.extra = {
                "projection": implementation_of(featurizer.recipe.projection),
                "specs": sum(bool(chunks) for chunks in missing.values()),
                "processes": hosts.count(),
                "precision": form.precision,
            }
            fill(stores, jobs, _dispatcher(featurizer, jobs, keep_errors), title, record)
    hosts.barrier("featurized")
    if hosts.is_first():
        for store in stores.values():
            store.seal()
    hosts.barrier("sealed")


def _widths(recipe: Recipe, errors: bool) -> dict[str, int]:
    width = {"features": recipe.projection.k}
    return width | ({"errors": len(recipe.grid.recorded)} if errors else {})


def _dispatcher(
    featurizer: Featurizer, jobs: Sequence[FillJob], keep_errors: set[str]
) -> Callable[[FillJob], Callable[[], Computed]]:
    """Starts the jobs, in order, batch by batch; images are read ahead of the devices."""
    (network, params, specs), recipe, samples, mesh, size, table = featurizer
    size += -size % mesh.size
    weights = devices.put(params, mesh, specs)

    def pieces(job: FillJob) -> list[np.ndarray]:
        rows = range(job.chunks[0].start, job.chunks[0].stop, size)
        return [samples.rows[first : min(first + size, job.chunks[0].stop)] for first in rows]

    wanted = [spec for job in jobs for name in job.program if (spec := table[name].train)]
    guided = any(spec.path == "inversion" and spec.condition == "own" for spec in wanted)

    def read(rows: np.ndarray) -> TrainBatch:
        return samples.batch(devices.padded(rows, size), guided=guided)

    def program(stores: tuple[str, ...]) -> jax.stages.Wrapped:
        errors = any(name in keep_errors for name in stores)
        wanted = [spec for name in stores if (spec := table[name].train) is not None]
        free = any(spec.condition == "null" for spec in wanted)
        null = samples.inputs.null if free else None
        step = partial(train_features, recipe, network, null=null, errors=errors)
        return devices.over_samples(lambda w, batch: step(w, wanted, batch), mesh, specs)

    programs = {stores: program(stores) for stores in {job.program for job in jobs}}
    batches = read_ahead([rows for job in jobs for rows in pieces(job)], read)

    def dispatch(job: FillJob) -> Callable[[], Computed]:
        parts = [(len(rows), programs[job.program](weights, next(batches))) for rows in pieces(job)]
        return lambda: _fetched(job.program, parts, keep_errors)

    return dispatch


def _fetched(
    stores: Sequence[str], parts: Sequence[tuple[int, TrainFeatures]], keep_errors: set[str]
) -> Computed:
    features, errors = (
        np.concatenate(
            [np.asarray(leaf)[:real] for (real, _), leaf in zip(parts, leaves, strict=True)]
        )
        for leaves in zip(*(found for _, found in parts), strict=True)
    )
    return {
        name: {"features": features[:, place]} | ({"errors": errors} if name in keep_errors else {})
        for place, name in enumerate(stores)
    }
