"""Unlearning on AbC: one ascent per question, then the loss of every candidate (equation (6.3)).

One question per customisation, the first, over ``candidates`` portraits and its exemplars, each
under its own prompt; no mirrored copies.
"""

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np

from benchmarks.abc_small.measures import Found, measured, tasks_of
from ctrak_jax.abc.prepared import Benchmark, Candidates, prepare
from ctrak_jax.attribution import Weights
from ctrak_jax.attribution.unlearning import (
    NoisedBatch,
    denoising_gradient,
    denoising_losses,
    floored,
    squared_gradients,
    unlearned,
)
from ctrak_jax.config import Config
from ctrak_jax.log import deadline, meter
from ctrak_jax.store.files import write_atomically
from ctrak_jax.typing import Array

BATCH = 256
QUESTIONS_APART = 2**29
"""Keeps a question's noise from being that of a candidate."""


def unlearning(config: Config, run: Path, folder: Path, candidates: int) -> Found:
    """The measures of unlearning; the scores of every question are kept in ``folder``."""
    bench, tasks = prepare(config, run), tasks_of(run)
    first = [tasks.index(task) for task in dict.fromkeys(tasks)]
    files = {number: folder / f"{number:05d}.npy" for number in first}
    missing = {number: file for number, file in files.items() if not file.exists()}
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        _keep_scores(config, bench, candidates, missing)
    scores = np.stack([np.load(file) for file in files.values()])
    rows = bench.exemplars.of
    own = [scores[place, candidates + np.array(rows[n])] for place, n in enumerate(first)]
    return measured([tasks[n] for n in first], own, scores[:, :candidates])


def _keep_scores(
    config: Config, bench: Benchmark, candidates: int, files: Mapping[int, Path]
) -> None:
    """Write s [portrait, then exemplar] of some questions."""
    recipe, (network, params, _) = bench.recipe, bench.placed()
    exemplars = bench.exemplar_candidates()
    each = [_noised(bench.laion(), candidates), _noised(exemplars, len(exemplars.rows))]
    batch: NoisedBatch = jax.tree.map(lambda *leaves: np.concatenate(leaves), *each)
    index = batch.index

    @jax.jit
    def loss(weights: Weights, batch: NoisedBatch) -> Array:
        eps_fn = network.given(weights.others).eps_fn
        return denoising_losses(recipe, eps_fn, weights.chosen, batch)

    def part(n: int, size: int) -> NoisedBatch:
        taken = np.minimum(np.arange(n, n + size), len(index) - 1)
        return jax.tree.map(lambda leaf: leaf[taken], batch)

    def losses(weights: Weights) -> np.ndarray:
        parts = [loss(weights, part(n, BATCH)) for n in range(0, len(index), BATCH)]
        return np.concatenate([np.asarray(p) for p in parts])[: len(index)]

    squares, total = jax.jit(partial(squared_gradients, recipe, network)), None
    wanted = min(config.unlearning.fisher_samples, candidates)
    for n in range(0, wanted, 32):
        found = squares(params, part(n, 32))
        total = found if total is None else jax.tree.map(jax.numpy.add, total, found)
    diagonal, before = floored(total, wanted, params.size), losses(params)
    gradient = jax.jit(partial(denoising_gradient, recipe, network))
    with meter("unlearning", len(files)) as bar:
        for number, file in files.items():
            deadline.check()
            question = bench.asked[number].prompt
            latent = bench.encoder.latents([bench.abc.tasks[number].image])[0]
            index_of = np.int32(QUESTIONS_APART + number)
            item = NoisedBatch(latent, bench.encoder.embedding(question), index_of)
            rate = config.unlearning.learning_rate / len(index)
            moved = unlearned(params, gradient(params, item), diagonal, rate)
            content = io.BytesIO()
            np.save(content, losses(moved) - before)
            write_atomically(file, content.getvalue())
            bar.advance(1)


def _noised(candidates: Candidates, count: int) -> NoisedBatch:
    """The first ``count`` candidates under their prompts."""
    inputs = candidates.inputs
    parts = (np.arange(n, min(n + BATCH, count)) for n in range(0, count, BATCH))
    found = [
        NoisedBatch(inputs.samples(rows), inputs.conditions(rows), candidates.rows[rows])
        for rows in parts
    ]
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
    return whole._replace(index=whole.index.astype(np.int32))
