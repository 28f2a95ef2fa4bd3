"""What the report shows of a run's tables: one depth of the metrics, the report queries, the first
and the last ten of every ranking."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.report.labels import label, ordered
from ctrak_jax.run.metrics import (
    DampingCurve,
    HiddenTable,
    LabelShiftSummary,
    LabelShiftTable,
    Metrics,
    PrecisionSummary,
    PrecisionTable,
)
from ctrak_jax.run.questions import Question
from ctrak_jax.run.reader import SeedRun
from ctrak_jax.run.tops import Hit

TOP = 10
DRAWN = ("labels", "random")
"""References whose first images are drawn at random: there is nothing to see in them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """The numbers of the report; the summaries hold the one k that it shows, that of hidden
    carriers every k. ``averages`` are those of ``models`` models (``score.ensemble``)."""

    k: int
    summary: tuple[PrecisionSummary, ...]
    unnamed: tuple[PrecisionSummary, ...]
    averages: tuple[PrecisionSummary, ...]
    unnamed_averages: tuple[PrecisionSummary, ...]
    models: int
    no_condition_embedding: tuple[PrecisionSummary, ...]
    wrong_label: tuple[LabelShiftSummary, ...]
    hidden: HiddenTable | None
    damping: Mapping[str, DampingCurve]
    base_rates: Mapping[tuple[str, str], float]
    settings: Mapping[str, Any]

    @property
    def unnamed_attributes(self) -> tuple[str, ...]:
        """The attributes that unnamed precision was measured for."""
        return tuple(sorted({row.attribute for row in self.unnamed} - {"all"}))


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryImage:
    """A generated image (for scope ``global`` a sheet of several) and the questions about it."""

    id: str
    condition: Mapping[str, str]
    scope: str
    scenario: str
    image: Path
    questions: tuple[Question, ...]


Found = Mapping[tuple[str, str, str], Sequence[Hit]]
"""Training images by (method, query id, attribute)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The report queries of one training seed; the first images of every ranking (``hits``) and the
    last (``lowest``, lowest score first), and the same of candidates whose conditions do not name
    the attribute."""

    seed: int
    folder: Path
    queries: tuple[QueryImage, ...]
    methods: tuple[str, ...]
    hits: Found
    unnamed: Found
    lowest: Found
    unnamed_lowest: Found
    samples: Path | None


def results_of(metrics: Metrics) -> Results:
    """The depth 10 where it was evaluated, else the least one."""
    ks = {row.k for row in metrics.summary}
    k = TOP if TOP in ks else min(ks, default=TOP)

    def of_k(table: object) -> tuple[PrecisionSummary, ...]:
        rows = table.summary if isinstance(table, PrecisionTable) else ()
        return tuple(row for row in rows if row.k == k)

    wrong, average = metrics.controls.get("wrong-label"), metrics.ensemble
    return Results(
        k=k,
        summary=tuple(row for row in metrics.summary if row.k == k),
        unnamed=of_k(metrics.unnamed),
        averages=of_k(average and average.named),
        unnamed_averages=of_k(average and average.unnamed),
        models=len({row.seed for row in metrics.rows}),
        no_condition_embedding=of_k(metrics.controls.get("no-condition-embedding")),
        wrong_label=wrong.summary if isinstance(wrong, LabelShiftTable) else (),
        hidden=metrics.hidden,
        damping={method: metrics.damping[method] for method in ordered(metrics.damping)},
        base_rates={(row.attribute, row.value): row.base_rate for row in metrics.rows},
        settings=metrics.settings,
    )


def answers_of(
    run: SeedRun,
    *,
    images: int,
    attributes: Sequence[str],
    methods: Sequence[str] | None = None,
    unnamed: Sequence[str] = (),
    candidates: Mapping[str | None, np.ndarray] | None = None,
) -> Answers:
    """One training seed's report queries and rankings.

    Args:
        run: the seed's results.
        images: number of images in the data set, to check the indices against.
        attributes: names of the data set's attributes, to check the questions against.
        methods: whose rankings; None for all that the run has, but those of :data:`DRAWN`.
        unnamed: attributes that have rankings of candidates whose conditions do not name them.
        candidates: the dataset indices that are ranked, by the attribute that their conditions do
            not name (None: main rankings), to find the lowest scores of the methods that kept all;
            without them there are none.

    Raises:
        StoreError: a file or every ranking is missing, or a file is damaged.
        UsageError: the data set is not the run's.
    """
    groups: dict[str, list[Question]] = {}
    for question in run.questions:
        if question.attribute not in attributes:
            raise UsageError(
                f"{run.folder.questions}: attribute {question.attribute!r} of {question.query}, "
                f"expected one of {list(attributes)}"
            )
        if question.split == "report":
            groups.setdefault(question.query, []).append(question)
    queries = tuple(
        QueryImage(
            id=name,
            condition=about[0].condition,
            scope=about[0].about,
            scenario=about[0].scenario,
            image=run.image_file(about[0]),
            questions=tuple(about),
        )
        for name, about in groups.items()
    )
    wanted = set(run.methods if methods is None else methods) - set(DRAWN)
    shown = ordered(m for m in run.methods if m in wanted)
    if not shown:
        raise StoreError(f"{run.folder.root / 'top'}: no <method>.csv there; run `ctrak score`")
    asked = {question.key for about in groups.values() for question in about}

    def first(without: str | None) -> Found:
        found = {
            (method, *key): top
            for method in shown
            for key, top in run.tops(method, without=without, depth=TOP).items()
            if key in asked
        }
        for (method, *_), top in found.items():
            if wrong := [hit.index for hit in top if not 0 <= hit.index < images]:
                path = run.part(without).top(method)
                raise StoreError(
                    f"{path}: index {wrong[0]}, expected 0 to {images - 1}; "
                    "give the data set that the run was scored on"
                )
        return found

    def last(without: str | None) -> Found:
        index = (candidates or {}).get(without)
        return {
            (method, *key): bottom
            for method in shown
            if index is not None and not label(method).reference
            if run.part(without).scores(method).exists()
            for key, bottom in run.bottoms(method, index, without=without, depth=TOP).items()
            if key in asked
        }

    samples = run.folder.root / "samples.png"
    return Answers(
        seed=run.seed,
        folder=run.folder.root,
        queries=queries,
        methods=shown,
        hits=first(None),
        unnamed={key: top for name in unnamed for key, top in first(name).items()},
        lowest=last(None),
        unnamed_lowest={key: found for name in unnamed for key, found in last(name).items()},
        samples=samples if samples.is_file() else None,
    )


def versions_of(folders: Iterable[Path]) -> dict[str, str]:
    """Package -> the versions that the finished stages of some folders' ``log.jsonl`` ran with."""
    found: dict[str, dict[str, None]] = {}
    for folder in dict.fromkeys(folders):
        log = folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        for line in map(json.loads, lines):
            if line.get("status") != "done":
                continue
            for package, version in line.get("versions", {}).items():
                found.setdefault(package, {})[version] = None
    return {package: ", ".join(versions) for package, versions in found.items()}
