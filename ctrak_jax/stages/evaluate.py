"""Evaluation over all training seeds: writes ``metrics.json``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctrak_jax import metrics
from ctrak_jax.log import stage
from ctrak_jax.run.dampings import mean_curve, read_dampings
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.metrics import (
    DampingCurve,
    EnsembleTables,
    HiddenRow,
    HiddenTable,
    LabelShiftRow,
    LabelShiftTable,
    Metrics,
    PrecisionRow,
    PrecisionTable,
    summarise,
    summarise_hidden,
    summarise_labels,
    write_metrics,
)
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import read_tops
from ctrak_jax.run.variants import CONTROLS, MAIN, Variant, unnamed, variants
from ctrak_jax.stages import ensemble, score
from ctrak_jax.stages.context import Context
from ctrak_jax.store import read_scores


def run(out: Path, contexts: Sequence[Context]) -> None:
    """Evaluate every training seed and write ``out/metrics.json``.

    Raises:
        StoreError: scores are missing, damaged or of other settings or questions.
    """
    config = contexts[0].config
    for ctx in contexts:
        for variant in variants(config):
            score.require(ctx, variant)
    if config.score.ensemble:
        ensemble.require(out, contexts)
    whole = RunFolder(root=out)
    key = {
        "scores": [score.key(ctx, MAIN) for ctx in contexts],
        **settings_of(config, "metrics"),
    }
    if whole.fresh("evaluate", key, out / "metrics.json"):
        return
    with stage(out, "evaluate") as record:
        main = _precision_table(contexts, [MAIN])
        record.samples = len(main.rows)
        controls: dict[str, PrecisionTable | LabelShiftTable] = {}
        for name in config.compared_controls:
            control = CONTROLS[name]
            if control.relabel:
                controls[name] = _label_table(contexts, control)
            else:
                controls[name] = _precision_table(contexts, [control])
        result = Metrics(
            rows=main.rows,
            summary=main.summary,
            damping=damping_curves(contexts),
            unnamed=_precision_table(contexts, unnamed(config)),
            ensemble=_ensemble_tables(out, contexts),
            controls=controls,
            hidden=_hidden_table(contexts),
            settings=config.model_dump(mode="json", exclude={"counterfactual", "lds"}),
        )
        write_metrics(out / "metrics.json", result)
    whole.finish("evaluate", key)


def _precision_table(contexts: Sequence[Context], parts: Sequence[Variant]) -> PrecisionTable:
    rows = tuple(row for ctx in contexts for part in parts for row in precision_rows(ctx, part))
    return PrecisionTable(rows=rows, summary=summarise(rows, contexts[0].config.evaluate.bootstrap))


def _label_table(contexts: Sequence[Context], variant: Variant) -> LabelShiftTable:
    rows = tuple(row for ctx in contexts for row in label_rows(ctx, variant))
    return LabelShiftTable(
        rows=rows, summary=summarise_labels(rows, contexts[0].config.evaluate.bootstrap)
    )


def _hidden_table(contexts: Sequence[Context]) -> HiddenTable | None:
    wanted = contexts[0].config.evaluate
    if not contexts[0].config.data.unlabelled:
        return None
    rows = tuple(row for ctx in contexts for row in hidden_rows(ctx))
    summary = summarise_hidden(rows, wanted.bootstrap)
    return HiddenTable(k=wanted.hidden_k, rows=rows, summary=summary)


def _ensemble_tables(out: Path, contexts: Sequence[Context]) -> EnsembleTables | None:
    if not contexts[0].config.score.ensemble:
        return None
    average = [ensemble.context_of(out, contexts)]
    return EnsembleTables(
        named=_precision_table(average, [MAIN]),
        unnamed=_precision_table(average, unnamed(average[0].config)),
    )


def reported(ctx: Context, variant: Variant = MAIN) -> list[Question]:
    """The questions whose answers are reported."""
    return [q for q in ctx.questions(variant) if q.split == "report"]


def precision_rows(ctx: Context, variant: Variant) -> list[PrecisionRow]:
    """precision@k of all that ranks, by reported question and depth."""
    rows = []
    asked, candidates = reported(ctx, variant), ctx.candidates(variant).train_index
    carriers = {
        key: np.array([v == key[1] for v in ctx.dataset.raw.attributes[key[0]]])
        for key in {(q.attribute, q.value) for q in asked}
    }
    for method in ctx.compared(variant):
        tops = read_tops(ctx.folder.part(variant.folder).top(method))
        for q in asked:
            if q.key not in tops:
                continue
            relevant = carriers[q.attribute, q.value]
            ranked = np.array([hit.index for hit in tops[q.key]])
            rows += [
                PrecisionRow(
                    seed=ctx.seed,
                    method=method,
                    **q.columns,
                    k=k,
                    precision=metrics.precision_at_k(ranked, relevant, k),
                    base_rate=float(relevant[candidates].mean()),
                )
                for k in ctx.config.evaluate.k
            ]
    return rows


def label_rows(ctx: Context, variant: Variant) -> list[LabelShiftRow]:
    """The wrong-label control: percentiles of every method and reported local question."""
    rows = []
    asked, labels = ctx.questions(), ctx.samples(variant).labels
    for method in ctx.compared(variant):
        scores = read_scores(ctx.folder.part(variant.folder).scores(method))
        for q, row in zip(asked, scores, strict=True):
            if q.split != "report" or np.isnan(row).any():
                continue
            picture = ctx.dataset.carries(q.attribute, q.value)
            shift = metrics.label_shift(row, picture, picture[labels])
            if shift is None:
                continue
            entry = LabelShiftRow(
                seed=ctx.seed,
                method=method,
                **q.columns,
                **shift._asdict(),
            )
            rows.append(entry)
    return rows


def hidden_rows(ctx: Context) -> list[HiddenRow]:
    """What every method finds of the carriers that training did not name, by reported question
    about an attribute of ``data.unlabelled`` and by depth; from the main experiment's scores."""
    data, wanted = ctx.dataset, ctx.config.evaluate
    depths = sorted({*wanted.k, wanted.hidden_k})
    asked = [(row, q) for row, q in enumerate(ctx.questions()) if q.attribute in data.hidden]
    rows = []
    for method in ctx.compared():
        scores = read_scores(ctx.folder.scores(method))
        for place, q in asked:
            if q.split != "report" or np.isnan(scores[place]).any():
                continue
            carries, named = data.carries(q.attribute, q.value), data.named(q.attribute)
            rows += [
                HiddenRow(seed=ctx.seed, method=method, **q.columns, **found._asdict())
                for found in metrics.hidden_found(scores[place], carries, named, depths)
            ]
    return rows


def damping_curves(contexts: Sequence[Context]) -> dict[str, DampingCurve]:
    """Chosen damping by seed (``0``, or ``0/<attribute>``) and the mean curve over seeds, by
    method."""
    by_seed = {ctx.seed: read_dampings(ctx.folder.dampings) for ctx in contexts}
    curves = {}
    for method in next(iter(by_seed.values())):
        found = {seed: dampings[method] for seed, dampings in by_seed.items()}
        chosen = {}
        for seed, damping in found.items():
            chosen |= {f"{seed}/{name}": r for name, r in damping.by_attribute.items()} or {
                f"{seed}": damping.chosen
            }
        curve = mean_curve(point for damping in found.values() for point in damping.curve)
        curves[method] = DampingCurve(chosen=chosen, curve=curve)
    return curves
