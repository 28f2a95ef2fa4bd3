"""The average answer of several models: writes ``ensemble/``, laid out as one training seed is.

Every model of the run ranks the same candidates for the same questions (those of the first one,
with its pictures); a question's scores are standardised over the candidates and averaged over the
models, for all methods alike.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ctrak_jax import score as scoring
from ctrak_jax.errors import StoreError
from ctrak_jax.log import stage
from ctrak_jax.run.folder import ensemble_folder
from ctrak_jax.run.tops import write_ranking
from ctrak_jax.run.variants import CONTROLS, Variant, variants
from ctrak_jax.stages import score
from ctrak_jax.stages.context import Context
from ctrak_jax.store import read_scores, write_scores


def run(out: Path, contexts: Sequence[Context]) -> None:
    """Average the scores of every variant but the controls."""
    ensemble = context_of(out, contexts)
    for variant in variants(ensemble.config):
        if variant in CONTROLS.values():
            continue
        folder = ensemble.folder.part(variant.folder)
        if _done(ensemble, contexts, variant):
            continue
        with stage(out, variant.title("ensemble")) as record:
            for method in ensemble.config.compared:
                record.samples += _average(ensemble, contexts, variant, method)
        folder.finish("ensemble", _key(contexts, variant))
    asked = ensemble.folder.questions
    asked.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(contexts[0].folder.questions, asked)


def context_of(out: Path, contexts: Sequence[Context]) -> Context:
    """The first training seed, whose results are the averages."""
    return replace(contexts[0], folder=ensemble_folder(out))


def require(out: Path, contexts: Sequence[Context]) -> None:
    """Refuse to continue without the averages of these scores.

    Raises:
        StoreError: they are missing, or of others.
    """
    ensemble = context_of(out, contexts)
    for variant in variants(ensemble.config):
        if variant not in CONTROLS.values() and not _done(ensemble, contexts, variant):
            raise StoreError(f"{ensemble.folder.root}: no averages of these scores; score first.")


def _done(ensemble: Context, contexts: Sequence[Context], variant: Variant) -> bool:
    folder, methods = ensemble.folder.part(variant.folder), ensemble.config.compared
    outputs = [*map(folder.top, methods), *map(folder.scores, methods)]
    return folder.fresh("ensemble", _key(contexts, variant), *outputs)


def _key(contexts: Sequence[Context], variant: Variant) -> dict:
    return {"scores": [score.key(ctx, variant) for ctx in contexts]}


def _average(ensemble: Context, contexts: Sequence[Context], variant: Variant, method: str) -> int:
    """Scores and rankings of one method; how many candidates there are."""
    folder = ensemble.folder.part(variant.folder)
    found = [read_scores(ctx.folder.part(variant.folder).scores(method)) for ctx in contexts]
    scores = np.mean([np.asarray(scoring.standardised(s)) for s in found], axis=0)
    write_scores(folder.scores(method), scores)
    asked = contexts[0].questions(variant)
    depth = min(ensemble.config.score.top, scores.shape[1])
    index = ensemble.candidates(variant).train_index
    write_ranking(folder.top(method), [q.key for q in asked], scoring.top_k(scores, depth), index)
    return len(index)
