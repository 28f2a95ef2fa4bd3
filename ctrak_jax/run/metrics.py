"""What a run measured, over all its training seeds: ``metrics.json``, its rows and their means."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ctrak_jax.metrics import Among, Interval, bootstrap_mean
from ctrak_jax.run.dampings import DampingPoint
from ctrak_jax.run.questions import QuestionRow
from ctrak_jax.run.tables import read_json_as, write_json

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PrecisionRow(QuestionRow):
    """precision@k of one method for one question; ``base_rate`` is that of chance."""

    method: str
    k: int
    precision: float
    base_rate: float


@dataclass(frozen=True, kw_only=True)
class PrecisionSummary:
    """Mean precision@k over the queries of one scope, scenario and attribute (or ``all``)."""

    method: str
    scope: str
    scenario: str
    k: int
    attribute: str
    precision: float
    ci95: tuple[float, float]
    queries: int
    base_rate: float

    @property
    def interval(self) -> Interval:
        """The mean with its 95% interval."""
        return Interval(self.precision, *self.ci95)


@dataclass(frozen=True, kw_only=True)
class LabelShiftRow(QuestionRow):
    """The wrong-label control of one method and question: mean rank percentiles (1 = top) of the
    images that carry the concept in the picture only, or in the label only."""

    method: str
    picture_only: float
    label_only: float


@dataclass(frozen=True, kw_only=True)
class LabelShiftSummary:
    """Means of :class:`LabelShiftRow` over the queries of one scope and scenario."""

    method: str
    scope: str
    scenario: str
    picture_only: float
    picture_only_ci95: tuple[float, float]
    label_only: float
    label_only_ci95: tuple[float, float]
    queries: int

    @property
    def intervals(self) -> tuple[Interval, Interval]:
        """The two means with their 95% intervals: picture only, label only."""
        return (
            Interval(self.picture_only, *self.picture_only_ci95),
            Interval(self.label_only, *self.label_only_ci95),
        )


@dataclass(frozen=True, kw_only=True)
class PrecisionTable:
    """The precision of an experiment: every question, and the means."""

    rows: tuple[PrecisionRow, ...]
    summary: tuple[PrecisionSummary, ...]


@dataclass(frozen=True, kw_only=True)
class EnsembleTables:
    """The precision of the average of all training seeds (``score.ensemble``); its rows bear the
    seed whose pictures are asked about."""

    named: PrecisionTable
    unnamed: PrecisionTable


@dataclass(frozen=True, kw_only=True)
class LabelShiftTable:
    """The wrong-label control: every question, and the means."""

    rows: tuple[LabelShiftRow, ...]
    summary: tuple[LabelShiftSummary, ...]


@dataclass(frozen=True, kw_only=True)
class HiddenRow(QuestionRow):
    """What one method finds for one question about an attribute that training hid from a share of
    the images (``data.unlabelled``).

    Attributes:
        among: all: of the ranking of all candidates, carriers that are not named are relevant;
            unlabelled, labelled: of the ranking of those alone, all carriers are.
        precision: share of the first ``k`` that are relevant.
        recall: share of the relevant that are among the first ``k``.
        base_rate: share of those ranked that are relevant, the precision of chance.
    """

    method: str
    among: Among
    k: int
    precision: float
    recall: float
    base_rate: float


@dataclass(frozen=True, kw_only=True)
class HiddenSummary:
    """Means of :class:`HiddenRow` over the queries of one scope, scenario and attribute (or
    ``all``)."""

    method: str
    scope: str
    scenario: str
    among: Among
    k: int
    attribute: str
    precision: float
    precision_ci95: tuple[float, float]
    recall: float
    recall_ci95: tuple[float, float]
    queries: int
    base_rate: float

    @property
    def intervals(self) -> tuple[Interval, Interval]:
        """The two means with their 95% intervals: precision, recall."""
        return (
            Interval(self.precision, *self.precision_ci95),
            Interval(self.recall, *self.recall_ci95),
        )


@dataclass(frozen=True, kw_only=True)
class HiddenTable:
    """What methods find of carriers that training did not name: the depth that tables show
    (``evaluate.hidden_k``), every question, and the means."""

    k: int
    rows: tuple[HiddenRow, ...]
    summary: tuple[HiddenSummary, ...]


@dataclass(frozen=True, kw_only=True)
class DampingCurve:
    """A method's damping over all seeds.

    Attributes:
        chosen: by seed (``0``), or by seed and attribute (``0/color``).
        curve: means over seeds.
    """

    chosen: Mapping[str, float]
    curve: tuple[DampingPoint, ...]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """metrics.json.

    Attributes:
        rows: every question.
        summary: means with 95% intervals.
        unnamed: the same where the candidates' conditions do not name the attribute asked about.
        hidden: what is found of carriers that are not named; None where training hid no value.
        ensemble: the same for the average of several models, where it was asked for.
        damping: curves by method.
        controls: by name.
        settings: the resolved config.
    """

    rows: tuple[PrecisionRow, ...]
    summary: tuple[PrecisionSummary, ...]
    unnamed: PrecisionTable
    damping: Mapping[str, DampingCurve]
    controls: Mapping[str, PrecisionTable | LabelShiftTable]
    settings: Mapping[str, Any]
    hidden: HiddenTable | None = None
    ensemble: EnsembleTables | None = None


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics.json."""
    write_json(path, Metrics, metrics)


def read_metrics(path: Path) -> Metrics:
    """Read metrics.json.

    Raises:
        StoreError: missing or damaged.
    """
    return read_json_as(Metrics, path, "evaluate")


def summarise(rows: Sequence[PrecisionRow], replicates: int) -> tuple[PrecisionSummary, ...]:
    """Means with intervals by method, scope, scenario, k; over all attributes and each one."""
    summary = []
    for group, part in _parts(rows, "method", "scope", "scenario", "k"):
        interval = _interval(part, "precision", replicates)
        entry = PrecisionSummary(
            **group,
            precision=interval.mean,
            ci95=interval[1:],
            queries=len(_grouped(part, "seed", "query")),
            base_rate=float(np.mean([row.base_rate for row in part])),
        )
        summary.append(entry)
    return tuple(summary)


def summarise_labels(
    rows: Sequence[LabelShiftRow], replicates: int
) -> tuple[LabelShiftSummary, ...]:
    """Means with intervals of both percentiles by method, scope and scenario."""
    return tuple(
        LabelShiftSummary(
            method=method,
            scope=scope,
            scenario=scenario,
            **_means(members, replicates, "picture_only", "label_only"),
        )
        for (method, scope, scenario), members in _grouped(
            rows, "method", "scope", "scenario"
        ).items()
    )


def summarise_hidden(rows: Sequence[HiddenRow], replicates: int) -> tuple[HiddenSummary, ...]:
    """Means with intervals by method, scope, scenario, candidates ranked and depth; over all
    attributes and each one."""
    return tuple(
        HiddenSummary(
            **group,
            **_means(part, replicates, "precision", "recall"),
            base_rate=float(np.mean([row.base_rate for row in part])),
        )
        for group, part in _parts(rows, "method", "scope", "scenario", "among", "k")
    )


def _means(rows: Sequence[Any], replicates: int, *fields: str) -> dict[str, Any]:
    """The mean of each field with its interval, and over how many images."""
    found: dict[str, Any] = {"queries": len(_grouped(rows, "seed", "query"))}
    for field in fields:
        interval = _interval(rows, field, replicates)
        found |= {field: interval.mean, f"{field}_ci95": interval[1:]}
    return found


def _interval(rows: Iterable[Any], field: str, replicates: int) -> Interval:
    """Over training seeds and, inside each, over images (all concepts of an image together)."""
    groups = [
        np.array(
            [
                np.mean([getattr(row, field) for row in image])
                for image in _grouped(seed, "query").values()
            ]
        )
        for seed in _grouped(rows, "seed").values()
    ]
    return bootstrap_mean(groups, replicates)


def _parts(rows: Iterable[T], *keys: str) -> Iterator[tuple[dict[str, Any], list[T]]]:
    """Groups by some fields, with the fields: over all attributes, and each one."""
    for group, members in _grouped(rows, *keys).items():
        parts = {("all",): members, **_grouped(members, "attribute")}
        for (attribute,), part in parts.items():
            yield dict(zip(keys, group, strict=True)) | {"attribute": attribute}, part


def _grouped(rows: Iterable[T], *keys: str) -> dict[tuple, list[T]]:
    groups: dict[tuple, list[T]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, key) for key in keys), []).append(row)
    return groups
