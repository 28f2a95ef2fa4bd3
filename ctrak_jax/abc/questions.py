"""The features of the tasks' questions."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import devices
from ctrak_jax.abc.inputs import content, words_key
from ctrak_jax.abc.prepared import Bench
from ctrak_jax.log import meter, stage
from ctrak_jax.methods import METHODS
from ctrak_jax.stages import model
from ctrak_jax.stages.gradients import Selected, feature_key, selected
from ctrak_jax.stages.query_rows import QueryBatch, query_rows, stacked
from ctrak_jax.stages.variant import MAIN
from ctrak_jax.store import FeatureStore
from ctrak_jax.store.files import digest


def query_key(bench: Bench, chosen: Selected, method: str) -> dict[str, Any]:
    """What the features of a method's questions depend on."""
    ctx, spec = bench.laion, METHODS[method].query
    assert spec is not None
    images = [content(task.image) for task in bench.abc.tasks]
    words = [[words_key(q.prompt), words_key(q.minus)] for q in bench.asked]
    asked = digest([model.about(ctx.root / "model")["codecs"], images, words])
    query = ctx.config.query.model_dump(mode="json")
    key = feature_key(ctx, chosen.selection, MAIN, spec, model.key(ctx))
    # A question depends on no LAION row.
    return key | {"dataset": "", "encoded": "", "query": query, "tasks": asked}


def query_place(bench: Bench, method: str) -> Path:
    """Where the features of a method's questions are."""
    return bench.laion.root / "queries" / method


def ask(bench: Bench) -> None:
    """Complete ``queries/<method>/``, a row a task."""
    ctx, methods = bench.laion, bench.config.methods
    chosen = selected(ctx, model.load(ctx), MAIN)
    stores = {
        name: FeatureStore.create(
            query_place(bench, name),
            query_key(bench, chosen, name),
            index=np.arange(len(bench.asked)),
            widths={"features": ctx.config.projection.k},
            chunk=1,
        )
        for name in methods
    }
    lacking = {name: {c.start: c for c in store.missing} for name, store in stores.items()}
    todo = sorted(set().union(*lacking.values()))
    if not todo:
        return
    specs = sorted({spec for name in methods if lacking[name] and (spec := METHODS[name].query)})
    size = min(ctx.config.gradient.batch, len(todo))
    size += -size % ctx.mesh.size
    rows = partial(query_rows, ctx, chosen, specs, "local", ctx.inputs.null)
    fn = devices.over_samples(rows, ctx.mesh, chosen.specs)
    weights = devices.put(chosen.weights, ctx.mesh, chosen.specs)
    with stage(ctx.root, "abc questions", ctx.mesh.size) as record:
        record.samples = len(todo)
        with meter("abc questions", len(todo)) as bar:
            for first in range(0, len(todo), size):
                real = np.array(todo[first : first + size])
                found = np.asarray(fn(weights, _batch(bench, devices.padded(real, size))))
                for number, features in zip(real.tolist(), found, strict=False):
                    for name, chunks in lacking.items():
                        if number in chunks:
                            spec = METHODS[name].query
                            assert spec is not None
                            column = features[:, specs.index(spec)]
                            stores[name].write(chunks[number], {"features": column})
                bar.advance(len(real))
        for store in stores.values():
            store.seal()


def _batch(bench: Bench, numbers: np.ndarray) -> QueryBatch:
    """The arrays of some tasks."""
    asked = [bench.asked[n] for n in numbers]
    return QueryBatch(
        bench.codec.latents([bench.abc.tasks[n].image for n in numbers]),
        np.stack([bench.codec.embedding(q.prompt) for q in asked]),
        stacked([[bench.codec.embedding(q.minus)[None]] for q in asked]),
        numbers.astype(np.int32),
    )
