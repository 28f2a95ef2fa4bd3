"""Rankings that cost nothing, beside the methods: the token looked up, chance, and the likeness of
latents (:mod:`ctrak_jax.attribution.references`)."""

from collections.abc import Iterator

import numpy as np

from ctrak_jax.abc.inputs import AbcInputs
from ctrak_jax.abc.prepared import Benchmark
from ctrak_jax.abc.results import CandidateScores
from ctrak_jax.abc.tokens import tokens_of
from ctrak_jax.attribution import references

READ = 256
"""Latents compared at a time."""


def reference_scores(bench: Benchmark, name: str) -> CandidateScores:
    """Scores of a reference, the same at every damping; ties are broken at random."""
    laion, own = bench.laion(), bench.exemplar_candidates()
    if name == "similarity-latents":
        among, mine = (_likeness(bench, part.inputs, len(part.rows)) for part in (laion, own))
    else:
        index = np.concatenate([laion.rows, own.rows])
        kinds = [f"{name}/{number}" for number in range(len(bench.asked))]
        found = np.stack(
            [references.random_places(bench.config.data.seed, kind, index) for kind in kinds]
        )
        if name == "labels":
            tokens = [question.token for question in bench.asked]
            has = [" ".join(tokens_of(prompt.text)) for prompt in bench.exemplars.prompts]
            named = np.array([[False] * len(laion.rows) + [h == t for h in has] for t in tokens])
            found = named + np.float32(references.SPACING) * found
        among, mine = np.split(found, [len(laion.rows)], axis=1)
    dampings = len(bench.dampings)
    chosen = [mine[number, np.array(rows)] for number, rows in enumerate(bench.exemplars.of)]
    return CandidateScores(
        [np.broadcast_to(scores, (dampings, len(scores))) for scores in chosen],
        np.broadcast_to(among, (dampings, *among.shape)),
        "none",
    )


def _likeness(bench: Benchmark, inputs: AbcInputs, count: int) -> np.ndarray:
    """Minus the distance of every question's latent and every candidate's [task, row]."""
    asked = _flat(bench.encoder.latents([task.image for task in bench.abc.tasks]))
    parts = [
        references.negative_distances(asked, _flat(inputs.samples(rows))) for rows in _parts(count)
    ]
    return np.concatenate(parts, axis=1)


def _parts(count: int) -> Iterator[np.ndarray]:
    for first in range(0, count, READ):
        yield np.arange(first, min(first + READ, count))


def _flat(latents: np.ndarray) -> np.ndarray:
    return latents.reshape(len(latents), -1)
