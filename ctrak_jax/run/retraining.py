"""What the models show that were trained again: ``counterfactual.json`` and ``lds.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrak_jax.metrics import Interval
from ctrak_jax.run.questions import QuestionRow
from ctrak_jax.run.tables import read_json_as, write_json

NOTHING, RANDOM = "nothing", "random"
"""What is left out for comparison: nothing, or images at random."""


@dataclass(frozen=True, kw_only=True)
class RemovalRow(QuestionRow):
    """One question to one model that was trained again.

    Attributes:
        removed_by: the method that ranked the images left out first, or :data:`RANDOM`, or
            :data:`NOTHING`.
        removed: how many images were left out.
        carriers_removed: how many of them carry the concept.
        carriers_left: how many of those left in training do.
        presence: share of the model's images that show the concept; None where none is checked.
        loss_rise: of the denoising loss of its images, over the run's own model: equation (7.6).
    """

    removed_by: str
    removed: int
    carriers_removed: int
    carriers_left: int
    presence: float | None
    loss_rise: float


@dataclass(frozen=True, kw_only=True)
class RemovalTable:
    """counterfactual.json: a row for every seed, question and removal, and the resolved config."""

    rows: tuple[RemovalRow, ...]
    settings: Mapping[str, Any]


def left_out(by: str, count: int) -> str:
    """What a training went without, in words."""
    words = {NOTHING: NOTHING, RANDOM: f"{count} at random"}
    return words.get(by, f"{count} by {by}")


def write_counterfactual(path: Path, table: RemovalTable) -> None:
    """Write counterfactual.json."""
    write_json(path, RemovalTable, table)


def read_counterfactual(path: Path) -> RemovalTable:
    """Read counterfactual.json.

    Raises:
        StoreError: missing or damaged.
    """
    return read_json_as(RemovalTable, path, "counterfactual")


NAMED, UNNAMED = "named", "unnamed"
"""Candidates featurized under their own condition, or without the attribute asked about."""


@dataclass(frozen=True, kw_only=True)
class QuestionOutputs:
    """What one retrained model gives for one question: equations (10.1) and (10.2), and the share
    of its images under the question's condition that show the concept; None where none is
    checked."""

    query: str
    attribute: str
    loss: float
    concept: float
    presence: float | None


@dataclass(frozen=True, kw_only=True)
class SubsetOutputs:
    """``lds/subset-NNN/outputs.json``: one retrained model; of the further trainings on the subset
    ``again-J/outputs.json`` beside it.

    Attributes:
        made_from: what the outputs depend on.
        subset: candidates it was trained on, by dataset index.
    """

    made_from: Mapping[str, Any]
    subset: tuple[int, ...]
    outputs: tuple[QuestionOutputs, ...]


@dataclass(frozen=True, kw_only=True)
class LdsRow(QuestionRow):
    """Equation (10.4) of one method, output and question."""

    method: str
    condition: str
    output: str
    lds: float


@dataclass(frozen=True, kw_only=True)
class LdsSummary:
    """Mean LDS over the questions of one scope and scenario.

    Attributes:
        method: an attribution method or a reference.
        condition: how the candidates were featurized: :data:`NAMED` or :data:`UNNAMED`.
        output: loss, concept or presence.
        ci95_queries: interval over training seeds and images.
        ci95_subsets: interval over the subsets that models were retrained on.
        subsets: how many there are, of one model each or several.
        queries: how many images asked about.
    """

    method: str
    condition: str
    output: str
    scope: str
    scenario: str
    lds: float
    ci95_queries: tuple[float, float]
    ci95_subsets: tuple[float, float]
    subsets: int
    queries: int

    @property
    def interval(self) -> Interval:
        """The mean with its interval over the retrained models."""
        return Interval(self.lds, *self.ci95_subsets)


@dataclass(frozen=True, kw_only=True)
class LdsDifference:
    """LDS of ``method`` minus that of ``rival`` on the same questions and models."""

    method: str
    rival: str
    condition: str
    output: str
    scope: str
    scenario: str
    difference: float
    ci95_queries: tuple[float, float]
    ci95_subsets: tuple[float, float]
    queries: int


@dataclass(frozen=True, kw_only=True)
class LdsTable:
    """lds.json.

    Attributes:
        subsets: candidates that models were retrained on, by dataset index.
        settings: the resolved config.
        trainings: how many models were retrained on each.
    """

    summary: tuple[LdsSummary, ...]
    differences: tuple[LdsDifference, ...]
    rows: tuple[LdsRow, ...]
    subsets: tuple[tuple[int, ...], ...]
    settings: Mapping[str, Any]
    trainings: int = 1

    @property
    def models(self) -> str:
        """How many models there are, in words."""
        count, each = len(self.subsets), self.trainings
        return f"{count} models" if each == 1 else f"{count * each} models, {each} per subset"


def write_lds(path: Path, table: LdsTable) -> None:
    """Write lds.json."""
    write_json(path, LdsTable, table)


def read_lds(path: Path) -> LdsTable:
    """Read lds.json.

    Raises:
        StoreError: missing or damaged.
    """
    return read_json_as(LdsTable, path, "lds")


def write_outputs(path: Path, outputs: SubsetOutputs) -> None:
    """Write the outputs of one retrained model."""
    write_json(path, SubsetOutputs, outputs)


def read_outputs(path: Path) -> SubsetOutputs:
    """Read what :func:`write_outputs` wrote.

    Raises:
        StoreError: missing or damaged.
    """
    return read_json_as(SubsetOutputs, path, "lds")
