"""Evaluation over all training seeds: writes ``metrics.json``."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax import metrics
from ctrak_jax.errors import StoreError
from ctrak_jax.log import stage
from ctrak_jax.stages import questions, score
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.featurize import folder
from ctrak_jax.stages.questions import Question
from ctrak_jax.stages.samples import labels_of
from ctrak_jax.stages.variant import CONTROLS, MAIN, Variant, variants
from ctrak_jax.store import read_scores
from ctrak_jax.store.files import read_json, write_atomically

Row = dict[str, Any]


def run(out: Path, contexts: Sequence[Context]) -> None:
    """Evaluate every training seed and write ``out/metrics.json``.

    Raises:
        StoreError: scores are missing, damaged or of other settings or questions.
    """
    config = contexts[0].config
    for ctx in contexts:
        for variant in variants(config.controls):
            score.require(ctx, variant)
    inputs = {
        "scores": [score.inputs(ctx, MAIN) for ctx in contexts],
        "config": config.model_dump(mode="json", exclude={"out", "counterfactual"}),
    }
    whole = replace(contexts[0], root=out)
    if whole.fresh("evaluate", inputs, out / "metrics.json"):
        return
    with stage(out, "evaluate") as record:
        rows = [row for ctx in contexts for row in precision_rows(ctx, MAIN)]
        record.samples = len(rows)
        controls: dict[str, Any] = {}
        for name in config.controls:
            variant = CONTROLS[name]
            if variant.relabel:
                shifts = [row for ctx in contexts for row in label_rows(ctx, variant)]
                controls[name] = {
                    "rows": shifts,
                    "summary": summarise_labels(shifts, config.evaluate.bootstrap),
                }
            else:
                control = [row for ctx in contexts for row in precision_rows(ctx, variant)]
                controls[name] = {
                    "rows": control,
                    "summary": summarise(control, config.evaluate.bootstrap),
                }
        result = {
            "rows": rows,
            "summary": summarise(rows, config.evaluate.bootstrap),
            "damping": damping_curves(contexts),
            "controls": controls,
            "settings": config.model_dump(mode="json", exclude={"counterfactual"}),
        }
        write_atomically(out / "metrics.json", json.dumps(result, indent=1) + "\n")
    whole.finish("evaluate", inputs)


def read_top(path: Path) -> dict[tuple[str, str], list[int]]:
    """top/<method>.csv as (query, attribute) -> dataset indices, best first.

    Raises:
        StoreError: missing or damaged.
    """
    ranked: dict[tuple[str, str], list[int]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                ranked.setdefault((row["query"], row["attribute"]), []).append(int(row["index"]))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run `ctrak score` first.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged ({error!r}); delete it and run `ctrak score`."
        ) from None
    return ranked


def reported(ctx: Context) -> list[Question]:
    """The questions whose answers are reported."""
    asked = questions.read(ctx.root / "queries" / "queries.csv")
    return [q for q in asked if q.split == "report"]


def precision_rows(ctx: Context, variant: Variant) -> list[Row]:
    """precision@k of every method, reported question and depth."""
    rows = []
    asked = reported(ctx)
    carriers = {
        key: np.array([v == key[1] for v in ctx.dataset.raw.attributes[key[0]]])
        for key in {(q.attribute, q.value) for q in asked}
    }
    for method in ctx.config.methods:
        ranked = read_top(folder(ctx, variant) / "top" / f"{method}.csv")
        for q in asked:
            if (q.query, q.attribute) not in ranked:
                continue
            relevant = carriers[q.attribute, q.value]
            for k in ctx.config.evaluate.k:
                top = np.array(ranked[q.query, q.attribute])
                rows.append(
                    {
                        "seed": ctx.seed,
                        "method": method,
                        "scope": q.scope,
                        "scenario": q.scenario,
                        "query": q.query,
                        "attribute": q.attribute,
                        "value": q.value,
                        "k": k,
                        "precision": metrics.precision_at_k(top, relevant, k),
                        "base_rate": float(relevant[ctx.dataset.train_index].mean()),
                    }
                )
    return rows


def _grouped(rows: Iterable[Row], *keys: str) -> dict[tuple, list[Row]]:
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _interval(rows: list[Row], field: str, replicates: int) -> metrics.Interval:
    """Over training seeds and, inside each, over images (all concepts of an image together)."""
    groups = [
        np.array(
            [np.mean([row[field] for row in image]) for image in _grouped(seed, "query").values()]
        )
        for seed in _grouped(rows, "seed").values()
    ]
    return metrics.bootstrap_mean(groups, replicates)


def summarise(rows: list[Row], replicates: int) -> list[Row]:
    """Means with intervals by method, scope, scenario, k; over all attributes and each one."""
    summary = []
    keys = ("method", "scope", "scenario", "k")
    for group, members in _grouped(rows, *keys).items():
        parts = {("all",): members, **_grouped(members, "attribute")}
        for (attribute,), part in parts.items():
            mean, low, high = _interval(part, "precision", replicates)
            summary.append(
                {
                    **dict(zip(keys, group, strict=True)),
                    "attribute": attribute,
                    "precision": mean,
                    "ci95": [low, high],
                    "queries": len(_grouped(part, "seed", "query")),
                    "base_rate": float(np.mean([row["base_rate"] for row in part])),
                }
            )
    return summary


def label_rows(ctx: Context, variant: Variant) -> list[Row]:
    """The wrong-label control: percentiles of every method and reported local question."""
    rows = []
    asked = questions.read(ctx.root / "queries" / "queries.csv")
    labels = labels_of(ctx, variant)
    for method in ctx.config.methods:
        scores = read_scores(folder(ctx, variant) / "scores" / f"{method}.zarr")
        for q, row in zip(asked, scores, strict=True):
            if q.split != "report" or np.isnan(row).any():
                continue
            shift = label_shift(ctx, labels, q, row)
            if shift is None:
                continue
            rows.append(
                {
                    "seed": ctx.seed,
                    "method": method,
                    "scope": q.scope,
                    "scenario": q.scenario,
                    "query": q.query,
                    "attribute": q.attribute,
                    "value": q.value,
                    "picture_only": shift.picture_only,
                    "label_only": shift.label_only,
                }
            )
    return rows


def summarise_labels(rows: list[Row], replicates: int) -> list[Row]:
    """Means with intervals of both percentiles by method, scope and scenario."""
    summary = []
    keys = ("method", "scope", "scenario")
    for group, members in _grouped(rows, *keys).items():
        entry: Row = dict(zip(keys, group, strict=True))
        for field in ("picture_only", "label_only"):
            mean, low, high = _interval(members, field, replicates)
            entry |= {field: mean, f"{field}_ci95": [low, high]}
        summary.append(entry | {"queries": len(_grouped(members, "seed", "query"))})
    return summary


def damping_curves(contexts: Sequence[Context]) -> dict[str, Any]:
    """Chosen damping by seed (``0``, or ``0/<attribute>``) and the mean curve over seeds, by
    method."""
    by_seed = {
        ctx.seed: read_json(ctx.root / "scores" / "damping.json", "score") for ctx in contexts
    }
    curves: dict[str, Any] = {}
    for method in next(iter(by_seed.values())):
        points = [point for choice in by_seed.values() for point in choice[method]["curve"]]
        keys = ("r", "split", "scope", "scenario")
        curves[method] = {
            "chosen": {
                f"{seed}/{name}" if name else f"{seed}": r
                for seed, choice in by_seed.items()
                for name, r in choice[method]
                .get("by_attribute", {"": choice[method]["chosen"]})
                .items()
            },
            "curve": [
                dict(zip(keys, group, strict=True))
                | {"precision": float(np.mean([point["precision"] for point in members]))}
                for group, members in _grouped(points, *keys).items()
            ],
        }
    return curves


class LabelShift(NamedTuple):
    """Mean rank percentiles (1 = top) of one query in the wrong-label control."""

    picture_only: float
    label_only: float


def label_shift(
    ctx: Context, labels: np.ndarray, question: Question, scores: np.ndarray
) -> LabelShift | None:
    """Where images stand whose picture carries the concept but whose label does not, and those
    whose label carries it but whose picture does not; None where there are none of either.

    Args:
        labels: whose conditions the training images were featurized under, int [sample].
        scores: of one question [sample].
    """
    picture = ctx.dataset.carries(question.attribute, question.value)
    label = picture[labels]
    if not ((picture & ~label).any() and (label & ~picture).any()):
        return None
    percentile = metrics.rank_percentiles(scores)
    return LabelShift(
        float(percentile[picture & ~label].mean()), float(percentile[label & ~picture].mean())
    )
