"""What a run measured, over all its training seeds: ``metrics.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrak_jax.metrics import Among, Interval
from ctrak_jax.run.dampings import DampingPoint
from ctrak_jax.run.tables import read_json_as, write_json


@dataclass(frozen=True, kw_only=True)
class PrecisionRow:
    """precision@k of one method for one question; ``base_rate`` is that of chance."""

    seed: int
    method: str
    scope: str
    scenario: str
    query: str
    attribute: str
    value: str
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
class LabelShiftRow:
    """The wrong-label control of one method and question: mean rank percentiles (1 = top) of the
    images that carry the concept in the picture only, or in the label only."""

    seed: int
    method: str
    scope: str
    scenario: str
    query: str
    attribute: str
    value: str
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
class HiddenRow:
    """What one method finds for one question about an attribute that training hid from a share of
    the images (``data.unlabelled``).

    Attributes:
        among: all: of the ranking of all candidates, carriers that are not named are relevant;
            unnamed, named: of the ranking of those alone, all carriers are.
        precision: share of the first ``k`` that are relevant.
        recall: share of the relevant that are among the first ``k``.
        base_rate: share of those ranked that are relevant, the precision of chance.
    """

    seed: int
    method: str
    scope: str
    scenario: str
    query: str
    attribute: str
    value: str
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
