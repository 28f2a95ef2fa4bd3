"""What the models show that were trained without some images: ``counterfactual.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrak_jax.run.tables import read_json_as, write_json

NOTHING, RANDOM = "nothing", "random"
"""What is left out for comparison: nothing, or images at random."""


@dataclass(frozen=True, kw_only=True)
class RemovalRow:
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

    seed: int
    query: str
    scope: str
    scenario: str
    attribute: str
    value: str
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
