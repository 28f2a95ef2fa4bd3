"""Scores: one damping a method by the validation queries, then rankings and the Fisher on disk."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from ctrak_jax import fisher, metrics, score
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.methods import METHODS
from ctrak_jax.stages import model, questions, unlearning
from ctrak_jax.stages.context import Context, read_json, write_atomically
from ctrak_jax.stages.featurize import folder, place, relabelled_rows
from ctrak_jax.stages.gradients import feature_key, selected, store_of
from ctrak_jax.stages.query import query_key
from ctrak_jax.stages.questions import Question
from ctrak_jax.stages.variant import MAIN, Variant
from ctrak_jax.store import FeatureStore, write_scores


class Features(NamedTuple):
    """A method's training features [n, k] and the weights of its samples [n] (or none)."""

    matrix: np.ndarray
    weights: np.ndarray | None


def run(ctx: Context, variant: Variant = MAIN) -> None:
    """Write ``scores/``, ``top/`` and ``fisher/`` of the config's methods."""
    out = folder(ctx, variant)
    asked = questions.read(ctx.root / "queries" / "queries.csv")
    if done(ctx, variant):
        return
    with (
        stage(out, variant.title("score"), ctx.mesh.size) as record,
        meter(variant.title("score"), len(ctx.config.methods)) as bar,
    ):
        choices = {}
        for method in ctx.config.methods:
            if METHODS[method].train is None:
                scores = unlearning.scores(ctx, variant, asked)
            else:
                scores, choices[method] = _by_features(ctx, variant, method, asked)
            _write(ctx, out, method, asked, scores)
            record.samples += scores.shape[1]
            bar.advance(1)
        write_atomically(out / "scores" / "damping.json", json.dumps(choices, indent=1))
    ctx.finish(variant.title("score"), inputs(ctx, variant))


def done(ctx: Context, variant: Variant) -> bool:
    """Are the scores of these settings and questions there?"""
    out, methods = folder(ctx, variant), ctx.config.methods
    outputs = [out / "scores" / "damping.json", *(out / "top" / f"{m}.csv" for m in methods)]
    outputs += [out / "fisher" / m for m in methods if METHODS[m].train is not None]
    if ctx.config.score.keep_all:
        outputs += [out / "scores" / f"{m}.zarr" for m in methods]
    return ctx.fresh(variant.title("score"), inputs(ctx, variant), *outputs)


def inputs(ctx: Context, variant: Variant) -> dict[str, Any]:
    """What the scores depend on."""
    config = ctx.config
    return {
        "queries": questions.fingerprint(ctx.root / "queries"),
        "model": model.sha256(ctx),
        "dataset": ctx.dataset.fingerprint,
        "variant": variant,
        "config": config.model_dump(
            mode="json",
            exclude={"name", "out", "run", "train", "evaluate", "controls", "store"},
        ),
        "k": config.evaluate.k[0],
    }


def load_features(ctx: Context, variant: Variant, method: str) -> Features:
    """A method's features; the relabelled rows of a control stand in for the main ones."""
    sha256, spec = model.sha256(ctx), METHODS[method].train
    assert spec is not None
    denoiser = model.load(ctx)

    def opened(part: Variant) -> FeatureStore:
        chosen = selected(ctx, denoiser, part)
        return FeatureStore.open(
            place(ctx, part, store_of(method)),
            feature_key(ctx, chosen, part, spec, sha256),
        )

    form = METHODS[method].error_weight
    names = ["features"] + (["errors"] if form else [])
    arrays = {name: opened(variant if not variant.relabel else MAIN).read(name) for name in names}
    if variant.relabel:
        rows = relabelled_rows(ctx, variant.relabel)
        for name in names:
            arrays[name][rows] = opened(variant).read(name)
    weights = np.asarray(score.error_weights(arrays["errors"], form)) if form else None
    return Features(arrays["features"], weights)


def load_query_features(ctx: Context, variant: Variant, method: str) -> np.ndarray:
    """A method's query features [query, k]; the wrong-label control asks the main ones."""
    part = MAIN if variant.relabel else variant
    spec = METHODS[method].query
    assert spec is not None
    key = feature_key(ctx, selected(ctx, model.load(ctx), part), part, spec, model.sha256(ctx))
    key |= query_key(ctx)
    return FeatureStore.open(folder(ctx, part) / "queries" / method, key).read()


def _by_features(
    ctx: Context, variant: Variant, method: str, asked: list[Question]
) -> tuple[np.ndarray, dict]:
    """Scores [query, sample] at the chosen damping, and the choice with its curve."""
    features = load_features(ctx, variant, method)
    queries = load_query_features(ctx, variant, method)
    _save_fisher(folder(ctx, variant) / "fisher" / method, features.matrix)
    multiples = ctx.config.score.damping
    spectrum = fisher.spectrum(features.matrix)
    scores = fisher.damped_scores(spectrum, features.matrix, queries, multiples)
    if features.weights is not None:
        scores = scores * features.weights
    if variant.relabel:
        # The control changes labels only: the damping stays the main experiment's.
        main = read_json(ctx.root / "scores" / "damping.json", "score")
        return scores[multiples.index(main[method]["chosen"])], main[method]
    depth = ctx.config.evaluate.k[0]
    precision = np.array(
        [[_precision(ctx, row, q, depth) for row, q in zip(s, asked, strict=True)] for s in scores]
    )
    validation = np.array([q.split == "validation" for q in asked])
    if validation.any():
        best = choose_damping(precision[:, validation])
    else:
        best = len(multiples) - 1
        logger.warning("no validation question: %s takes the largest damping", method)
    curve = [
        {"r": r, "split": split, "scope": scope, "scenario": scenario, "precision": float(mean)}
        for i, r in enumerate(multiples)
        for (split, scope, scenario), rows in _groups(asked).items()
        for mean in [precision[i, rows].mean()]
    ]
    return scores[best], {"chosen": multiples[best], "curve": curve}


def choose_damping(precision: np.ndarray) -> int:
    """The damping with the best mean precision over VALIDATION queries [damping, query]; of equals
    the smallest, which stays closest to the influence of section 1."""
    means = precision.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - 1e-9)[0])


def _groups(asked: list[Question]) -> dict[tuple[str, str, str], list[int]]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i, q in enumerate(asked):
        groups.setdefault((q.split, q.scope, q.scenario), []).append(i)
    return groups


def _precision(ctx: Context, scores: np.ndarray, question: Question, k: int) -> float:
    ranked = score.top_k(scores[None], k).samples[0]
    relevant = ctx.dataset.carries(question.attribute, question.value)
    return metrics.precision_at_k(np.asarray(ranked), relevant, k)


def _save_fisher(path: Path, features: np.ndarray) -> None:
    gram = jax.jit(fisher.update)(fisher.init(features.shape[1]), features)
    with ocp.StandardCheckpointer() as checkpointer:
        tree = {"gram": gram.matrix, "count": gram.samples, "trace": gram.trace}
        checkpointer.save(path.resolve(), tree, force=True)


def _write(ctx: Context, out: Path, method: str, asked: list[Question], scores: np.ndarray) -> None:
    """top/<method>.csv, and all scores where they are kept."""
    if ctx.config.score.keep_all:
        write_scores(out / "scores" / f"{method}.zarr", scores)
    depth = min(ctx.config.score.top, scores.shape[1])
    ranking = score.top_k(scores, depth)
    path = out / "top" / f"{method}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query", "rank", "index", "score", "attribute"])
        index, value = np.asarray(ranking.samples), np.asarray(ranking.score)
        for q, rows, values in zip(asked, index, value, strict=True):
            if np.isnan(values).any():
                continue  # the method does not answer this question (unlearning, global scope)
            for rank, (row, v) in enumerate(zip(rows, values, strict=True), 1):
                dataset_index = int(ctx.dataset.train_index[row])
                writer.writerow([q.query, rank, dataset_index, f"{v:.6g}", q.attribute])
    part.replace(path)


class LabelShift(NamedTuple):
    """Mean rank percentiles (1 = top) of one query in the wrong-label control."""

    picture_only: float
    label_only: float


def label_shift(
    ctx: Context, conditions: np.ndarray, question: Question, scores: np.ndarray
) -> LabelShift | None:
    """Where images stand whose picture carries the concept but whose label does not, and those
    whose label carries it but whose picture does not; None where there are none of either.

    Args:
        conditions: under which the training images were featurized [sample, condition].
        scores: of one question [sample].
    """
    picture = ctx.dataset.carries(question.attribute, question.value)
    label = conditions @ ctx.conditions.encode({question.attribute: question.value}) > 0
    if not ((picture & ~label).any() and (label & ~picture).any()):
        return None
    percentile = metrics.rank_percentiles(scores)
    return LabelShift(
        float(percentile[picture & ~label].mean()), float(percentile[label & ~picture].mean())
    )
