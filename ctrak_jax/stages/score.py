"""Scores: dampings by the validation queries, then rankings and the Fisher on disk.

One damping is chosen for each method, or for each method and attribute. ``fisher/<method>/`` holds
gram, count and trace; where the Gram matrix does not fit into memory, diagonal, count and trace.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ctrak_jax import devices, fisher, hosts, metrics, rewards, score
from ctrak_jax.errors import StoreError
from ctrak_jax.log import meter, stage
from ctrak_jax.methods import METHODS, READ_CONDITIONS
from ctrak_jax.run import questions
from ctrak_jax.run.dampings import Damping, choose, read_dampings, write_dampings
from ctrak_jax.run.features import (
    IN_MEMORY,
    Replacement,
    TrainingFeatures,
    in_memory,
    open_features,
    ranked,
    solve,
)
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import write_ranking
from ctrak_jax.run.variants import MAIN, Variant
from ctrak_jax.stages import references, unlearning, unnamed
from ctrak_jax.stages.context import Context
from ctrak_jax.store import FeatureStore, read_scores, write_scores


class Scored(NamedTuple):
    """What is written of a method: rankings [query, rank] by row of the candidates, and all scores
    [query, sample] where they are kept."""

    ranking: score.Ranking
    scores: np.ndarray | None


def run(ctx: Context, variant: Variant = MAIN) -> None:
    """Write ``scores/`` and ``top/`` of all that is compared, ``fisher/`` of the methods."""
    folder, finished = ctx.folder.part(variant.folder), done(ctx, variant)
    asked, title = ctx.questions(variant), variant.title("score")
    hosts.barrier("scoring")  # all have looked before the first one writes
    if finished:
        return
    dampings: dict[str, Damping] = {}
    with (
        stage(folder.root, title, ctx.mesh.size) as record,
        meter(
            title, Counter(_effort(ctx, variant, method) for method in ctx.compared(variant))
        ) as bar,
    ):
        solvers = record.extra.setdefault("solvers", {})
        for method in ctx.compared(variant):
            scored = None
            if _reads_no_label(ctx, variant, method):
                if hosts.is_first():
                    scored = _ranked_whole(ctx, read_scores(ctx.folder.scores(method)))
                    dampings[method] = read_dampings(ctx.folder.dampings)[method]
            elif METHODS[method].kind == "gradients":
                features = load_features(ctx, variant, method)
                _save_fisher(ctx, folder.fisher(method), features.rows)
                if features.solver not in IN_MEMORY or hosts.is_first():
                    features = in_memory(features)
                    queries = load_query_features(ctx, variant, method)
                    solution = solve(features, queries, ctx.config.score.damping)
                    solvers[method] = {
                        "solver": solution.solver,
                        "products": solution.products,
                        "residual": solution.residual,
                    }
                    scored, dampings[method] = _by_features(
                        ctx, variant, method, asked, features, solution
                    )
            elif hosts.is_first() and METHODS[method].kind == "unlearning":
                scored = _by_unlearning(ctx, variant, asked)
            elif hosts.is_first():
                scored = _by_reference(ctx, variant, method, asked)
            if scored is not None and hosts.is_first():
                _write(ctx, variant, method, asked, scored)
                if variant is MAIN and unnamed.answering(ctx, method):
                    dampings[method] = unnamed.answer(ctx, method, dampings[method])
                record.samples += len(ctx.candidates(variant).train_index)
            bar.advance(1, _effort(ctx, variant, method))
    if hosts.is_first():
        write_dampings(folder.dampings, dampings)
        folder.finish("score", key(ctx, variant))
    hosts.barrier("scored")


def _effort(ctx: Context, variant: Variant, method: str) -> str:
    """The same of methods that take equally long."""
    if _reads_no_label(ctx, variant, method):
        return "taken"
    return "gradients" if METHODS[method].kind == "gradients" else method


def done(ctx: Context, variant: Variant) -> bool:
    """Are the scores of these settings and questions there?"""
    folder, methods = ctx.folder.part(variant.folder), ctx.compared(variant)
    outputs = [folder.dampings, *map(folder.top, methods)]
    outputs += [
        folder.fisher(m)
        for m in methods
        if METHODS[m].kind == "gradients" and not _reads_no_label(ctx, variant, m)
    ]
    if ctx.config.score.keep_all:
        outputs += map(folder.scores, methods)
    return folder.fresh("score", key(ctx, variant), *outputs)


def _reads_no_label(ctx: Context, variant: Variant, method: str) -> bool:
    """Does a method rank as in the main experiment, whatever the labels are changed to?"""
    spec = ctx.config.table[method].train
    return variant.relabel > 0 and spec is not None and spec.condition == "null"


def require(ctx: Context, variant: Variant) -> None:
    """Refuse to continue without the scores of these settings and questions.

    Raises:
        StoreError: they are missing, or of others.
    """
    if not done(ctx, variant):
        raise StoreError(
            f"{ctx.folder.part(variant.folder).root}: no scores of these settings and questions; "
            "run `ctrak score` first."
        )


def key(ctx: Context, variant: Variant) -> dict[str, Any]:
    """What the scores depend on."""
    clip, reward = (name in ctx.compared(variant) for name in ("similarity-clip", "reward"))
    return {
        **ctx.upstream(),
        **({"clip": references.clip_key(ctx)} if clip else {}),
        **({"reward": rewards.key(ctx.config, ctx.folder.root)} if reward else {}),
        "questions": questions.fingerprint(ctx.folder.queries),
        "variant": ctx.variant_key(variant),
        "answered by": [part.without for part in unnamed.answering(ctx, "concept-trak")],
        **settings_of(ctx.config, "scores"),
    }


def load_features(
    ctx: Context, variant: Variant, method: str, memory: int | None = None
) -> TrainingFeatures:
    """A method's features, this process's share of them; the relabelled rows of a control stand in
    for the main ones. ``memory``: bytes that the solve may take, or what the devices have."""
    solver, replacement = ctx.config.score.solver, None
    if variant.relabel:
        replacement = Replacement(ctx.features(method, variant), ctx.samples(variant).rows)
    return open_features(
        ctx.features(method, MAIN if variant.relabel else variant),
        ctx.mesh,
        None if solver == "auto" else solver,
        METHODS[method].error_weight,
        replacement,
        memory,
    )


def load_query_features(ctx: Context, variant: Variant, method: str) -> np.ndarray:
    """A method's features of the questions that a variant answers [query, k]."""
    part, spec = variant if variant.changes_network else MAIN, METHODS[method].query
    assert spec is not None
    folder = ctx.folder.part(part.folder)
    store = FeatureStore.open(folder.query_features(method), ctx.query_key(spec, part))
    return store.read()[ctx.question_rows(variant)]


def _by_features(
    ctx: Context,
    variant: Variant,
    method: str,
    asked: list[Question],
    features: TrainingFeatures,
    solution: fisher.Solution,
) -> tuple[Scored, Damping]:
    """Scores at the chosen damping, and the choice with its curve."""
    wanted, answered = ctx.config.score, ctx.answered(method, asked)
    depth = min(wanted.top, features.rows.n)
    ranking, scores = ranked(features, solution, depth, keep=wanted.keep_all)
    if variant.relabel:  # the control changes labels only: the damping stays the main experiment's
        damping = read_dampings(ctx.folder.dampings)[method]
    else:
        rows, candidates = np.asarray(ranking.samples), ctx.candidates(variant)
        depth = min(wanted.k, depth)
        precision = np.array(
            [
                [
                    metrics.precision_at_k(row, candidates.carries(q.attribute, q.value), depth)
                    for row, q in zip(samples, asked, strict=True)
                ]
                for samples in rows
            ]
        )
        judged = [q for q, there in zip(asked, answered, strict=True) if there]
        damping = choose(judged, precision[:, answered], wanted.damping, wanted.damping_for)
    # What is found at one damping per question.
    at = np.array([wanted.damping.index(damping.of(q.attribute)) for q in asked])
    every = np.arange(len(asked))
    chosen = score.Ranking(*(np.asarray(part)[at, every] for part in ranking))
    chosen.score[~answered] = np.nan
    kept = None if scores is None else scores[at, every]
    if kept is not None:
        kept[~answered] = np.nan
    if kept is not None and features.shared:
        kept = hosts.joined_up(kept, 1)
    return Scored(chosen, kept), damping


def _by_unlearning(ctx: Context, variant: Variant, asked: list[Question]) -> Scored:
    """Scores of the local questions by unlearning each of their images."""
    wrong = ctx.samples(variant) if variant.relabel else None
    samples = ctx.samples(MAIN if variant.relabel else variant)
    found = unlearning.scores(
        unlearning.Unlearner(ctx.recipe, ctx.placed(ctx.load(), variant), ctx.mesh),
        samples,
        ctx.question_inputs,
        asked,
        ctx.config.unlearning,
        ctx.config.gradient.batch,
        None if wrong is None else (wrong, read_scores(ctx.folder.scores("unlearning"))),
    )
    return _ranked_whole(ctx, found)


def _by_reference(ctx: Context, variant: Variant, method: str, asked: list[Question]) -> Scored:
    """Scores of a reference; in the wrong-label control those that read no condition stay."""
    if variant.relabel and method not in READ_CONDITIONS:
        return _ranked_whole(ctx, read_scores(ctx.folder.scores(method)))
    questions = references.reference_questions(ctx, asked)
    return _ranked_whole(ctx, references.scores(ctx, ctx.samples(variant), method, questions))


def _ranked_whole(ctx: Context, scores: np.ndarray) -> Scored:
    return Scored(score.top_k(scores, min(ctx.config.score.top, scores.shape[1])), scores)


def _save_fisher(ctx: Context, path: Path, rows: fisher.Rows) -> None:
    tree: dict[str, Any] = {"count": jnp.int32(rows.n)}
    if fisher.gram_fits(rows.k, devices.memory(ctx.mesh)):
        tree["gram"] = rows.total(fisher.outer, None)
        tree["trace"] = jnp.trace(tree["gram"])
    else:
        tree["diagonal"] = rows.total(fisher.squares, None)
        tree["trace"] = tree["diagonal"].sum()
    if hosts.is_first():
        with hosts.checkpointer() as checkpointer:
            checkpointer.save(path.resolve(), hosts.savable(tree), force=True)


def _write(
    ctx: Context, variant: Variant, method: str, asked: list[Question], scored: Scored
) -> None:
    """top/<method>.csv, and all scores where they are kept."""
    folder, (ranking, scores) = ctx.folder.part(variant.folder), scored
    candidates = ctx.candidates(variant)
    if scores is not None and ctx.config.score.keep_all:
        write_scores(folder.scores(method), scores)
    write_ranking(folder.top(method), [q.key for q in asked], ranking, candidates.train_index)
