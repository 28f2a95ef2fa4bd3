"""The damping chosen for every method on the validation queries: ``scores/damping.json``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ctrak_jax.log import logger
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tables import read_json_as, write_json


@dataclass(frozen=True, kw_only=True)
class DampingPoint:
    """Mean precision at one damping factor r over the questions of one split, scope, scenario."""

    r: Annotated[float, Field(gt=0)]
    split: str
    scope: str
    scenario: str
    precision: float


@dataclass(frozen=True, kw_only=True)
class Damping:
    """The damping of one method.

    Attributes:
        chosen: for all questions.
        by_attribute: for the questions about each attribute (``score.damping_for: attribute``).
        curve: what every damping of the config would have given.
    """

    chosen: float
    by_attribute: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[DampingPoint, ...]

    def of(self, attribute: str | None) -> float:
        """The damping for questions about an attribute; None where a concept is no value of one."""
        return self.chosen if attribute is None else self.by_attribute.get(attribute, self.chosen)


def choose(
    asked: Sequence[Question],
    precision: np.ndarray,
    multiples: Sequence[float],
    each: Literal["method", "attribute"],
) -> Damping:
    """The damping of a method by the precision of its validation questions; the largest without
    any.

    Args:
        asked: the questions.
        precision: at every damping [damping, query].
        multiples: the dampings.
        each: one for all questions, or for every attribute, too.
    """
    validation = np.array([q.split == "validation" for q in asked], bool)
    if asked and not validation.any():
        logger.warning("no validation question: the largest damping is taken")
    by_attribute = {}
    if each == "attribute":
        attributes = np.array([q.attribute for q in asked], str)
        by_attribute = {
            name: multiples[choose_damping(precision[:, validation & (attributes == name)])]
            for name in dict.fromkeys(attributes[validation].tolist())
        }
    best = choose_damping(precision[:, validation]) if validation.any() else -1
    points = [
        DampingPoint(r=r, split=q.split, scope=q.about, scenario=q.scenario, precision=float(found))
        for r, row in zip(multiples, precision, strict=True)
        for q, found in zip(asked, row, strict=True)
    ]
    return Damping(chosen=multiples[best], by_attribute=by_attribute, curve=mean_curve(points))


def choose_damping(precision: np.ndarray) -> int:
    """The damping by the mean precision over VALIDATION queries [damping, query]: of those within
    one standard error of the best, the largest, which relies least on the Fisher (the rule of
    Breiman et al. 1984 among models of one accuracy)."""
    means = precision.mean(axis=1)
    error = precision[means.argmax()].std() / np.sqrt(precision.shape[1])
    return int(np.flatnonzero(means >= means.max() - error - 1e-9)[-1])


def mean_curve(points: Iterable[DampingPoint]) -> tuple[DampingPoint, ...]:
    """The mean precision at each damping, split, scope and scenario."""
    groups: dict[tuple, list[DampingPoint]] = {}
    for point in points:
        groups.setdefault((point.r, point.split, point.scope, point.scenario), []).append(point)
    return tuple(
        replace(members[0], precision=float(np.mean([point.precision for point in members])))
        for members in groups.values()
    )


def write_dampings(path: Path, dampings: Mapping[str, Damping]) -> None:
    """Write scores/damping.json; by method."""
    write_json(path, dict[str, Damping], dict(dampings))


def read_dampings(path: Path) -> dict[str, Damping]:
    """Read scores/damping.json.

    Raises:
        StoreError: missing or damaged.
    """
    return read_json_as(dict[str, Damping], path, "score")
