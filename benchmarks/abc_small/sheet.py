"""A contact sheet: exemplars, generated pictures, and what each method ranks first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ctrak_jax.abc.prepared import Benchmark

SIDE, GAP, TITLE = 32, 6, 12
SHOWN = 6
"""Candidates of a method."""


def write_sheet(
    bench: Benchmark, run: Path, tasks: Sequence[int], dampings: dict[str, float], file: Path
) -> None:
    """One row per task.

    Args:
        dampings: of every method that is shown.
    """
    columns = ["exemplars", "image", *dampings]
    widths = [4 * SIDE, SIDE, *[SHOWN * SIDE] * len(dampings)]
    starts = np.cumsum([0, *[width + GAP for width in widths]])
    sheet = Image.new("RGB", (int(starts[-1]) - GAP, TITLE + len(tasks) * (SIDE + 2)), "white")
    text = ImageDraw.Draw(sheet)
    for start, name in zip(starts, columns, strict=False):
        text.text((int(start), 0), name, fill="black")
    for place, number in enumerate(tasks):
        task = bench.abc.tasks[number]
        groups = [list(task.exemplars[:4]), [task.image]]
        groups += [_first(bench, run, method, r, number) for method, r in dampings.items()]
        for start, files in zip(starts, groups, strict=False):
            for column, picture in enumerate(files):
                image = Image.open(picture).convert("RGB")
                sheet.paste(image, (int(start) + column * SIDE, TITLE + place * (SIDE + 2)))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(file)


def _first(bench: Benchmark, run: Path, method: str, damping: float, number: int) -> list[Path]:
    """The pictures that a method ranks first for a task."""
    place, task = bench.dampings.index(damping), bench.abc.tasks[number]
    counts = [len(rows) for rows in bench.exemplars.of]
    first = sum(counts[:number])
    own = np.load(run / "scores" / f"{method}-exemplars.npy")[place, first : first + counts[number]]
    others = np.load(run / "scores" / f"{method}.npy", mmap_mode="r")[place, number]
    order = np.argsort(-np.concatenate([own, others]), kind="stable")[:SHOWN]
    folder = bench.config.data.path
    assert folder is not None
    portraits = folder / "laion_subset" / "images"
    return [
        task.exemplars[i] if i < len(own) else portraits / f"{bench.rows[i - len(own)]:09d}.png"
        for i in order
    ]
