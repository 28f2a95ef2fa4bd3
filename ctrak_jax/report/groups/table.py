"""Influence by group as rows: ``groups.json`` and ``groups.csv``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctrak_jax.run.tables import write_csv, write_json
from ctrak_jax.run.tops import Hit

ALL = "all"
"""The question whose scores are the mean over all that are asked."""
HEADER = (
    *("query", "attribute", "group", "images", "total", "total_low", "total_high"),
    *("mean", "mean_low", "mean_high", "share", "base_rate", "first"),
)


@dataclass(frozen=True, kw_only=True)
class GroupQuestion:
    """What a table is about.

    Attributes:
        query: id of the image in queries.csv; of a question of one's own the file or the prompt.
        attribute: the concept's attribute, or its words.
        value: of the attribute; empty for words.
    """

    query: str
    attribute: str
    value: str

    @property
    def key(self) -> tuple[str, str]:
        """What its rows are found by: (query, attribute)."""
        return self.query, self.attribute


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """The influence of one group on one question.

    Attributes:
        query: id of the question's image, or ``all``: the mean over the questions.
        attribute: its concept's attribute, or ``all``.
        group: the column's value.
        images: how many training images have it.
        total: sum of their scores, equation (12.1).
        total_ci95: its interval; None for one image.
        mean: total over images.
        mean_ci95: equation (12.2).
        share: of the first k training images, equation (12.3).
        base_rate: share of all training images.
        first: the group's first training images.
    """

    query: str
    attribute: str
    group: str
    images: int
    total: float
    total_ci95: tuple[float, float] | None
    mean: float
    mean_ci95: tuple[float, float] | None
    share: float
    base_rate: float
    first: Sequence[Hit]


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    """The influence of every group, question by question, the largest total first.

    Attributes:
        by: the column.
        method: whose scores.
        k: of the shares.
        samples: training images.
        questions: what was asked, in the order of the rows.
        rows: of every question; of several first those of ``all``.
    """

    by: str
    method: str
    k: int
    samples: int
    questions: Sequence[GroupQuestion]
    rows: Sequence[GroupRow]

    @property
    def overview(self) -> list[GroupRow]:
        """The rows of the one question, or of the mean over the questions."""
        key = self.rows[0].query, self.rows[0].attribute
        return [row for row in self.rows if (row.query, row.attribute) == key]

    @property
    def asked(self) -> str:
        """What the overview is about, in words."""
        if len(self.questions) > 1:
            return f"mean over {len(self.questions)} questions"
        (question,) = self.questions
        concept = ": ".join(filter(None, (question.attribute, question.value)))
        return f"{question.query}, {concept}"


def write_groups(folder: Path, table: GroupTable) -> list[Path]:
    """Write groups.json and groups.csv; the files."""
    json, csv = folder / "groups.json", folder / "groups.csv"
    write_json(json, GroupTable, table)
    write_csv(csv, HEADER, map(_cells, table.rows))
    return [json, csv]


def _cells(row: GroupRow) -> tuple[object, ...]:
    ends = [
        ("", "") if pair is None else tuple(f"{end:.9g}" for end in pair)
        for pair in (row.total_ci95, row.mean_ci95)
    ]
    first = " ".join(str(hit.index) for hit in row.first)
    return (
        *(row.query, row.attribute, row.group, row.images),
        *(f"{row.total:.9g}", *ends[0], f"{row.mean:.9g}", *ends[1]),
        *(f"{row.share:.6g}", f"{row.base_rate:.6g}", first),
    )
