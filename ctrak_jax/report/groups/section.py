"""Influence by group as a section of the report's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ctrak_jax.data.raw import Images
from ctrak_jax.report import thumbnails
from ctrak_jax.report.blocks import data_uri
from ctrak_jax.report.groups.table import GroupRow, GroupTable
from ctrak_jax.report.labels import SCENARIO_NAMES, label
from ctrak_jax.run.questions import Scenario, Scope

GROUPS = 12
"""Groups of a table, those of the largest sums."""
FIRST = 6
"""First images of a group that are shown."""
SIZE = 1_500_000
"""Bytes of all their pictures."""
COLUMNS = 32
"""Pictures of a row of the one that has them all."""
WIDTH = 36
"""Of a picture on the page, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ReportedGroups:
    """Influence by one column on the report questions of one scenario.

    Attributes:
        scope: of the questions.
        scenario: of the questions.
        overall: on the mean over them.
        concepts: on the mean over those about one concept, by its name.
        seed: training seed of the model whose scores they are; None for the average of all.
    """

    scope: Scope
    scenario: Scenario
    overall: GroupTable
    concepts: Mapping[str, GroupTable]
    seed: int | None

    @property
    def tables(self) -> list[GroupTable]:
        return [self.overall, *self.concepts.values()]


def group_views(sections: Sequence[ReportedGroups], images: Images) -> dict[str, Any] | None:
    """What the page's template shows of them; None where there is nothing.

    Args:
        sections: by column and scenario.
        images: uint8 [N, H, W, 3], by dataset index.
    """
    if not sections:
        return None
    tables = [table for section in sections for table in section.tables]
    shown = [hit.index for table in tables for row in _rows(table) for hit in row.first[:FIRST]]
    used = list(dict.fromkeys(shown))
    height, width = images.shape[1:3]

    def sheet(form: thumbnails.Form, places: Sequence[int]) -> bytes:
        tile = thumbnails.shrunk((width, height), form.side)
        pictures = [Image.fromarray(images[used[n]]) for n in places]
        return thumbnails.webp(thumbnails.sheet(pictures, tile, COLUMNS), form)

    form, fitting = thumbnails.choose(
        thumbnails.TILES, len(used), SIZE, lambda form, places: len(sheet(form, places))
    )
    high = max(1, round(WIDTH * height / width))
    places = {
        index: f"background-position:{-(n % COLUMNS) * WIDTH}px {-(n // COLUMNS) * high}px"
        for n, index in enumerate(used[:fitting])
    }
    drawn = [_view(section, places) for section in sections]
    return {
        "sections": drawn,
        "columns": list(dict.fromkeys(section.overall.by for section in sections)),
        "method": label(sections[0].overall.method).short,
        "seed": sections[0].seed,
        "sheet": data_uri(sheet(form, range(len(places))), "webp"),
        "width": WIDTH,
        "height": high,
        "whole": WIDTH * COLUMNS,
    }


def _rows(table: GroupTable) -> Sequence[GroupRow]:
    return table.overview[:GROUPS]


def _view(section: ReportedGroups, places: Mapping[int, str]) -> dict[str, Any]:
    return {
        "title": f"{section.overall.by}: {section.scope}, {SCENARIO_NAMES[section.scenario]}",
        "overall": _table(section.overall, places),
        "concepts": {name: _table(table, places) for name, table in section.concepts.items()},
    }


def _table(table: GroupTable, places: Mapping[int, str]) -> dict[str, Any]:
    return {
        "by": table.by,
        "k": table.k,
        "asked": table.asked,
        "more": len(table.overview) - len(_rows(table)),
        "rows": [
            {
                "group": row.group,
                "images": f"{row.images:,}",
                "sum": f"{row.total:.3g}",
                "sum_ends": _ends(row.total_ci95),
                "mean": f"{row.mean:.3g}",
                "mean_ends": _ends(row.mean_ci95),
                "share": row.share,
                "base_rate": row.base_rate,
                "first": [
                    {
                        "place": places.get(hit.index),
                        "said": f"dataset index {hit.index}, score {hit.score:.3g}",
                    }
                    for hit in row.first[:FIRST]
                ],
            }
            for row in _rows(table)
        ],
    }


def _ends(interval: tuple[float, float] | None) -> str | None:
    return None if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
