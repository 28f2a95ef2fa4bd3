"""The damping chosen for every method on the validation queries: ``scores/damping.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

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


def write_dampings(path: Path, dampings: Mapping[str, Damping]) -> None:
    """Write scores/damping.json; by method."""
    write_json(path, dict[str, Damping], dict(dampings))


def read_dampings(path: Path) -> dict[str, Damping]:
    """Read scores/damping.json.

    Raises:
        StoreError: missing or damaged.
    """
    return read_json_as(dict[str, Damping], path, "score")
