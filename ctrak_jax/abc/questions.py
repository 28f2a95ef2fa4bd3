"""The features of the tasks' questions."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ctrak_jax import devices
from ctrak_jax.abc.inputs import TaskPrompt, content, prompt_key
from ctrak_jax.abc.prepared import Benchmark
from ctrak_jax.abc.seeds import noise_of, seed_of
from ctrak_jax.attribution import QueryBatch, mixtures, query_features
from ctrak_jax.config.recipes import query_recipe_of
from ctrak_jax.log import stage
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.precision import described
from ctrak_jax.run import model_file
from ctrak_jax.run.fill import Computed, FillJob, fill
from ctrak_jax.store import FeatureStore
from ctrak_jax.store.files import digest


def query_key(bench: Benchmark, method: str) -> dict[str, Any]:
    """What the features of a method's questions depend on."""
    spec = METHODS[method].query
    assert spec is not None
    images = [content(task.image) for task in bench.abc.tasks]
    words = [[prompt_key(q.prompt), prompt_key(q.minus)] for q in bench.asked]
    codecs = model_file.about(bench.folder.model)["codecs"]
    again = bench.config.query.path == "resample"
    seeds = [[seed_of(task.image) for task in bench.abc.tasks]] if again else []
    return bench.key(spec, {"tasks": digest([codecs, images, words, *seeds])}, query=True)


def ask(bench: Benchmark) -> None:
    """Complete ``queries/<method>/``, a row per task."""
    specs = {m: spec for m in bench.config.methods if (spec := METHODS[m].query) is not None}
    precision = described(bench.config.run.precision)
    stores = {
        name: FeatureStore.create(
            bench.folder.query_features(name),
            query_key(bench, name),
            index=np.arange(len(bench.asked)),
            widths={"features": bench.config.projection.k},
            chunk=1,
            precision=precision,
        )
        for name in specs
    }
    missing = {name: store.missing for name, store in stores.items() if store.missing}
    todo = sorted({chunk.start for chunks in missing.values() for chunk in chunks})
    if not todo:
        return
    size = min(bench.config.gradient.batch, len(todo))
    size += -size % bench.mesh.size
    parts = [todo[first : first + size] for first in range(0, len(todo), size)]
    jobs = [FillJob(tuple(range(n, n + 1) for n in part), tuple(missing)) for part in parts]
    dispatch = _dispatcher(bench, {name: specs[name] for name in missing}, size)
    with stage(bench.folder.root, "abc questions", bench.mesh.size) as record:
        record.extra = {"precision": precision}
        fill(stores, jobs, dispatch, "abc questions", record)
        for store in stores.values():
            store.seal()


def _dispatcher(
    bench: Benchmark, wanted: Mapping[str, GradientSpec], size: int
) -> Callable[[FillJob], Callable[[], Computed]]:
    """Starts batches of ``size`` tasks."""
    network, params, placing = bench.placed()
    weights, specs = devices.put(params, bench.mesh, placing), sorted(set(wanted.values()))
    recipe = query_recipe_of(bench.config, bench.architecture.schedule, "local")
    recipe = replace(recipe, projection=bench.on_imported(recipe.projection))
    step, null = partial(query_features, recipe, network), bench.encoder.embedding(TaskPrompt(""))
    program = devices.over_samples(lambda w, b: step(w, specs, b, null), bench.mesh, placing)

    def dispatch(job: FillJob) -> Callable[[], Computed]:
        numbers = np.array([chunk.start for chunk in job.chunks])
        found = program(weights, _batch(bench, devices.padded(numbers, size)))

        def fetch() -> Computed:
            rows = np.asarray(found)[: len(numbers), 0]
            return {name: {"features": rows[:, specs.index(s)]} for name, s in wanted.items()}

        return fetch

    return dispatch


def _batch(bench: Benchmark, numbers: np.ndarray) -> QueryBatch:
    """The arrays of some tasks."""
    asked, again = [bench.asked[n] for n in numbers], bench.config.query.path == "resample"
    images = [bench.abc.tasks[n].image for n in numbers]
    sample = bench.architecture.sample
    return QueryBatch(
        bench.encoder.latents(images),
        np.stack([bench.encoder.embedding(q.prompt) for q in asked]),
        mixtures([[bench.encoder.embedding(q.minus)[None]] for q in asked]),
        numbers.astype(np.int32),
        noise=np.stack([noise_of(seed_of(image), sample) for image in images]) if again else None,
    )
