"""The page of an explained answer: self-contained HTML, and one sheet of pictures beside it."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ctrak_jax.report.blocks import data_uri
from ctrak_jax.report.contact import GAP, INK, LABEL, MARGIN, PAPER
from ctrak_jax.report.explanation.arrays import Explanation
from ctrak_jax.report.explanation.overlay import enlarged, overlaid
from ctrak_jax.report.labels import label
from ctrak_jax.store.files import write_atomically

LAYERS = 8
"""Groups of layers that are shown, those of the largest parts."""


class Shown(NamedTuple):
    """What an explanation is shown with.

    Attributes:
        picture: the query image, uint8 [H, W, 3].
        images: the training images in the order of the ranking.
        said: what is known of each, in words.
        about: which question it is and how it was answered, in words.
    """

    picture: np.ndarray
    images: Sequence[np.ndarray]
    said: Sequence[str]
    about: str


def write_explained(path: Path, found: Explanation, shown: Shown) -> list[Path]:
    """Write the page at ``path`` (.html) and the sheet beside it (.png)."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrak_jax.report.explanation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = [_card(found, shown, rank) for rank in range(len(found.index))]
    page = environment.get_template("page.html").render(
        asked=asked_text(found),
        method=label(found.method).short,
        about=shown.about,
        gap=found.gap,
        query=_uri(enlarged(shown.picture)),
        cards=cards,
    )
    write_atomically(path, page)
    sheet = path.with_suffix(".png")
    write_atomically(sheet, _png(_sheet(found, shown)))
    return [path, sheet]


def asked_text(found: Explanation) -> str:
    """What the question was about, in words."""
    return f"{found.value} ({found.concept})" if found.value else found.concept


def numbers(found: Explanation) -> dict[str, Any]:
    """Every part but the maps, for ``--json``: by rank, with the sums beside the score."""
    sums = {name: values.tolist() for name, values in found.sums.items()}
    rows = []
    for rank, index in enumerate(found.index.tolist()):
        by_layer = found.by_layer[rank].sum(1).tolist()
        rows.append(
            {
                "rank": rank + 1,
                "index": index,
                "score": float(found.score[rank]),
                "sums": {name: values[rank] for name, values in sums.items()},
                "by_timestep": found.by_time[rank].tolist(),
                "by_layer": dict(zip(found.layers, by_layer, strict=True)),
            }
        )
    return {
        "method": found.method,
        "concept": found.concept,
        "value": found.value,
        "timesteps": found.timesteps.tolist(),
        "gap": found.gap,
        "top": rows,
    }


def grouped(found: Explanation, rank: int) -> dict[str, float]:
    """Parts by group of layers, those of the largest first: a group is the first two words of the
    parameters' paths; what is not shown is under ``all others``."""
    sums: dict[str, float] = {}
    for path, part in zip(found.layers, found.by_layer[rank].sum(1).tolist(), strict=True):
        name = "/".join(path.split("/")[:2])
        sums[name] = sums.get(name, 0.0) + part
    order = sorted(sums, key=lambda name: -abs(sums[name]))
    first = {name: sums[name] for name in order[:LAYERS]}
    rest = sum(sums[name] for name in order[LAYERS:])
    return first | ({"all others": rest} if len(order) > LAYERS else {})


def _card(found: Explanation, shown: Shown, rank: int) -> dict[str, Any]:
    times: dict[str, float] = {}
    for t, part in zip(found.timesteps.tolist(), found.by_time[rank].tolist(), strict=True):
        times[f"t = {t}"] = times.get(f"t = {t}", 0.0) + part
    return {
        "rank": rank + 1,
        "index": int(found.index[rank]),
        "said": shown.said[rank],
        "score": f"{found.score[rank]:.4g}",
        "sum": f"{found.sums['training image'][rank]:.4g}",
        "image": _uri(enlarged(shown.images[rank])),
        "map": _uri(overlaid(shown.images[rank], found.maps[rank])),
        "query_map": _uri(overlaid(shown.picture, found.query_maps[rank])),
        "times": _bars(times),
        "layers": _bars(grouped(found, rank)),
    }


def _bars(parts: dict[str, float]) -> list[dict[str, Any]]:
    largest = max((abs(part) for part in parts.values()), default=0.0) or 1.0
    return [
        {"name": name, "part": f"{part:.3g}", "width": 50 * abs(part) / largest, "up": part >= 0}
        for name, part in parts.items()
    ]


def _sheet(found: Explanation, shown: Shown) -> Image.Image:
    """The query image; a row of training images, their maps, and the query image's maps."""
    first = enlarged(shown.picture)
    (width, height), count = first.size, len(found.index)
    left = MARGIN + LABEL
    size = (
        left + width + MARGIN + count * (width + GAP) + MARGIN - GAP,
        2 * MARGIN + 24 + 3 * (height + GAP),
    )
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    title = f"What taught “{asked_text(found)}”, and where is it?   {label(found.method).short}"
    draw.text((MARGIN, MARGIN - 2), title, fill=INK, font=font)
    top = MARGIN + 24
    sheet.paste(first, (left, top))
    rows = {
        "training image": [enlarged(image) for image in shown.images],
        "where in it": [
            overlaid(image, map_) for image, map_ in zip(shown.images, found.maps, strict=True)
        ],
        "where in the query": [overlaid(shown.picture, map_) for map_ in found.query_maps],
    }
    for row, (name, pictures) in enumerate(rows.items()):
        y = top + row * (height + GAP)
        draw.text((MARGIN, y + 2), name, fill=INK, font=ImageFont.load_default(12))
        for rank, picture in enumerate(pictures):
            sheet.paste(picture, (left + width + MARGIN + rank * (width + GAP), y))
    return sheet


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _uri(picture: Image.Image) -> str:
    return data_uri(_png(picture), "png")
