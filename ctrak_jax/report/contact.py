"""Contact sheets: a query beside the training images that each method ranks first."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ctrak_jax.data.raw import Images
from ctrak_jax.errors import StoreError
from ctrak_jax.report.labels import concept_text, label
from ctrak_jax.report.read import TOP, Answers, QueryImage
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import Hit

# Pixels. A tile is the picture enlarged by a whole number to at least MIN_PICTURE.
MIN_PICTURE = 64
FRAME = 4
GAP = 4
MARGIN = 10
HEADER = 24
LABEL = 150

MOST_QUESTIONS = 500
"""With more questions than this, sheets end when they take ``MOST_BYTES``."""
MOST_BYTES = 3_000_000
FRAMED = 4096
"""Framed images that are kept for the next sheet."""

PAPER = (255, 255, 255)
INK = (34, 38, 43)
_FAINT = (150, 155, 162)
_CARRIER = (0, 114, 178)
_OTHER = (205, 208, 212)


def picture_scale(height: int, width: int) -> int:
    """Whole factor that brings the shorter side to at least ``MIN_PICTURE`` pixels."""
    return max(1, -(-MIN_PICTURE // min(height, width)))


def sheet_size(height: int, width: int, rows: int) -> tuple[int, int]:
    """(width, height) in pixels of a sheet of ``rows`` methods for pictures of that size."""
    scale = picture_scale(height, width)
    tile_w, tile_h = scale * width + 2 * FRAME, scale * height + 2 * FRAME
    return (
        2 * MARGIN + LABEL + tile_w + MARGIN + TOP * (tile_w + GAP) - GAP,
        2 * MARGIN + HEADER + rows * (tile_h + GAP) - GAP,
    )


def write_contact_sheets(
    folder: Path, run: Answers, images: Images, attributes: Mapping[str, Sequence[str]]
) -> list[Path]:
    """Write ``<query>-<attribute>-<method>.png`` and ``<query>-<attribute>.png`` (all methods), and
    ``<query>-<attribute>-unnamed.png`` where candidates were ranked that do not name the attribute.

    Carriers of the concept have a coloured frame and a check mark, other images a grey frame
    and a cross. Of more than ``MOST_QUESTIONS`` questions only as many have sheets as fit
    ``MOST_BYTES``, the first query of every combination before the second.

    Raises:
        StoreError: two queries would share a file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = images.shape[1:3]
    scale = picture_scale(height, width)

    # The same training images come back under query after query, so each is framed once.
    @lru_cache(FRAMED)
    def tile(index: int, carrier: bool) -> Image.Image:
        return _tile(Image.fromarray(images[index]), scale, carrier)

    written: dict[Path, None] = {}

    def save(sheet: Image.Image, name: str) -> int:
        path = folder / f"{file_name(name)}.png"
        if path in written:
            raise StoreError(f"{path}: two contact sheets of that name; rename the queries")
        # Level 1 halves the time of thousands of sheets and costs about a tenth in size.
        sheet.save(path, compress_level=1)
        written[path] = None
        return path.stat().st_size

    every = has_all_sheets(run)
    size = 0
    for query in run.queries if every else _spread(run.queries):
        if not every and size > MOST_BYTES:
            break
        with Image.open(query.image) as opened:
            picture = _folded(opened.convert("RGB"), height, width)
        picture = _fit(picture, height * scale, width * scale)
        for question in query.questions:
            values = attributes[question.attribute]
            name = f"{query.id}-{question.attribute}"
            asked = concept_text(question.attribute, question.value)
            title = f"{query.id}   Which training images taught “{asked}”?"
            named, unnamed = (
                _strips(run.methods, found, question, values, tile)
                for found in (run.hits, run.unnamed)
            )
            for method, strip in named.items():
                one = _sheet(title, picture, [strip], height, width)
                size += save(one, f"{name}-{method}")
            if named:
                size += save(_sheet(title, picture, [*named.values()], height, width), name)
            if unnamed:
                silent = f"{title}   (unnamed)"
                both = _sheet(silent, picture, [*unnamed.values()], height, width)
                size += save(both, f"{name}-unnamed")
    return list(written)


def has_all_sheets(run: Answers) -> bool:
    """Does every question have sheets?"""
    return sum(len(query.questions) for query in run.queries) <= MOST_QUESTIONS


def _spread(queries: Iterable[QueryImage]) -> list[QueryImage]:
    """The first query of every kind, then the second ones, and so on."""
    seen: Counter[tuple[str, ...]] = Counter()
    places = []
    for query in queries:
        kind = (query.scope, query.scenario, *query.condition.values())
        places.append((seen[kind], query))
        seen[kind] += 1
    return [query for _, query in sorted(places, key=lambda pair: pair[0])]


def file_name(text: str) -> str:
    """The text with what a file name cannot have replaced."""
    return re.sub(r"[^\w.+-]", "_", text)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _tile(picture: Image.Image, scale: int, carrier: bool) -> Image.Image:
    colour = _CARRIER if carrier else _OTHER
    width, height = picture.width * scale, picture.height * scale
    tile = Image.new("RGB", (width + 2 * FRAME, height + 2 * FRAME), PAPER)
    draw = ImageDraw.Draw(tile)
    draw.rectangle(
        (0, 0, tile.width - 1, tile.height - 1), outline=colour, width=FRAME if carrier else 1
    )
    tile.paste(picture.resize((width, height), Image.Resampling.NEAREST), (FRAME, FRAME))
    # The mark repeats the frame's message for readers who do not see its colour.
    x, y = tile.width - 15, tile.height - 15
    draw.rectangle((x, y, x + 14, y + 14), fill=colour)
    if carrier:
        draw.line([(x + 3, y + 7), (x + 6, y + 11), (x + 11, y + 3)], fill=PAPER, width=2)
    else:
        draw.line([(x + 4, y + 4), (x + 10, y + 10)], fill=INK, width=2)
        draw.line([(x + 4, y + 10), (x + 10, y + 4)], fill=INK, width=2)
    return tile


def _strips(
    methods: Sequence[str],
    found: Mapping[tuple[str, str, str], Sequence[Hit]],
    question: Question,
    values: Sequence[str],
    tile: Callable[[int, bool], Image.Image],
) -> dict[str, Image.Image]:
    """The strip of every method that answers a question."""
    strips = {}
    for method in methods:
        hits = found.get((method, *question.key), ())
        carriers = [values[hit.index] == question.value for hit in hits]
        tiles = [tile(hit.index, c) for hit, c in zip(hits, carriers, strict=True)]
        if tiles:
            strips[method] = _strip(method, carriers, tiles)
    return strips


def _strip(method: str, carriers: Sequence[bool], tiles: Sequence[Image.Image]) -> Image.Image:
    """A method's label and its framed images, rank 1 first."""
    width, height = tiles[0].size
    strip = Image.new("RGB", (LABEL + width + MARGIN + TOP * (width + GAP) - GAP, height), PAPER)
    draw = ImageDraw.Draw(strip)
    name = label(method)
    draw.text((0, 2), name.short, fill=INK, font=_font(14))
    draw.text((0, 22), name.note, fill=_FAINT, font=_font(9))
    draw.text((0, 38), f"{sum(carriers)} of {len(tiles)}", fill=INK, font=_font(12))
    for place, tile in enumerate(tiles):
        strip.paste(tile, (LABEL + width + MARGIN + place * (width + GAP), 0))
    return strip


def _sheet(
    title: str, picture: Image.Image, strips: Sequence[Image.Image], height: int, width: int
) -> Image.Image:
    """The title, the query's picture between labels and images, and one strip per method."""
    sheet = Image.new("RGB", sheet_size(height, width, rows=len(strips)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 2), title, fill=INK, font=_font(14))
    top = MARGIN + HEADER
    for place, strip in enumerate(strips):
        sheet.paste(strip, (MARGIN, top + place * (strip.height + GAP)))
    sheet.paste(picture, (MARGIN + LABEL + FRAME, top + FRAME))
    return sheet


def _folded(picture: Image.Image, height: int, width: int) -> Image.Image:
    """A global query's strip of pictures as a nearly square grid; anything else as it is."""
    count, rest = divmod(picture.width, width)
    if picture.height != height or rest or count < 3:
        return picture
    across = math.isqrt(count - 1) + 1
    grid = Image.new("RGB", (across * width, -(-count // across) * height), PAPER)
    for nth in range(count):
        piece = picture.crop((nth * width, 0, (nth + 1) * width, height))
        grid.paste(piece, (nth % across * width, nth // across * height))
    return grid


def _fit(picture: Image.Image, height: int, width: int) -> Image.Image:
    """``picture`` enlarged by a whole number or shrunk to lie inside a box."""
    ratio = min(width / picture.width, height / picture.height)
    if ratio >= 1:
        size = (picture.width * int(ratio), picture.height * int(ratio))
        return picture.resize(size, Image.Resampling.NEAREST)
    size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
    return picture.resize(size, Image.Resampling.BOX)
