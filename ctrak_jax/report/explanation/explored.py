"""Maps as the report's explorer shows them: blocks ``maps-n``, and what its index says of them."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ctrak_jax.data.raw import Images
from ctrak_jax.report import thumbnails
from ctrak_jax.report.blocks import Blocks
from ctrak_jax.report.explanation.maps import MapFiles, QuestionMaps, mapped_method, read_maps
from ctrak_jax.report.explanation.overlay import overlaid
from ctrak_jax.report.read import Answers

SIZE = 4_000_000
"""Bytes of all overlays of a report, about."""
COLUMNS = 4
"""Overlays of a row of a block's picture."""


class MappedQuestion(NamedTuple):
    """A question with maps: its key with the training seed, its query's picture, and whether they
    are also of the ranking in which no condition names the attribute."""

    key: tuple[int, str, str]
    picture: Path
    unnamed: bool
    maps: QuestionMaps


class ExploredMaps(NamedTuple):
    """What questions point to, ``[block, also of the unnamed ranking]``, and the index's part."""

    questions: Mapping[tuple[int, str, str], Sequence[int]]
    about: Mapping[str, Any] | None


def write_explored(
    blocks: Blocks,
    seeds: Sequence[Answers],
    methods: Sequence[str],
    images: Images,
    maps: MapFiles,
    *,
    run: Path,
) -> ExploredMaps:
    """Write the blocks ``maps-n``: overlays of a question's first training images, best first,
    then that of its query, where their scores together come from.

    Args:
        blocks: where they go.
        seeds: what is shown of every training seed.
        methods: whose rankings are shown.
        images: uint8 [N, H, W, 3], by dataset index.
        maps: the files of the questions that have any, the most wanted first.
        run: the run's folder, as the commands name it.
    """
    method = mapped_method(methods)
    if method is None:
        return ExploredMaps({}, None)
    questions = _questions(seeds, method, maps)
    height, width = images.shape[1:3]

    def size(form: thumbnails.Form, sample: Sequence[int]) -> int:
        tile = thumbnails.shrunk((width, height), form.side)
        return sum(len(thumbnails.webp(_sheet(questions[n], images, tile), form)) for n in sample)

    form, fitting = thumbnails.choose(thumbnails.TILES, len(questions), SIZE, size)
    tile = thumbnails.shrunk((width, height), form.side)
    found = {}
    for nth, question in enumerate(questions[:fitting]):
        picture = thumbnails.webp(_sheet(question, images, tile), form)
        blocks.add(f"maps-{nth}", {"images": len(question.maps.index)}, picture)
        found[question.key] = [nth, int(question.unnamed)]
    about = {
        "method": method,
        "width": tile[0],
        "height": tile[1],
        "columns": COLUMNS,
        "count": len(found),
        "explain": shlex.join(["ctrak", "explain", str(run)]),
        "report": shlex.join(["ctrak", "report", str(run), "--report.maps"]),
    }
    return ExploredMaps(found, about)


def _questions(seeds: Sequence[Answers], method: str, maps: MapFiles) -> list[MappedQuestion]:
    """The questions whose maps are there and of the images that are shown, in the order of the
    files."""
    known = {
        (found.seed, *question.key): (found, query)
        for found in seeds
        for query in found.queries
        for question in query.questions
    }
    questions = []
    for key, path in maps.items():
        of = read_maps(path)
        if of is None or key not in known:
            continue
        answers, query = known[key]
        hits = answers.hits.get((method, *key[1:]), ())
        if [hit.index for hit in hits] == of.index.tolist():
            unnamed = answers.unnamed.get((method, *key[1:]), ()) == hits
            questions.append(MappedQuestion(key, query.image, unnamed, of))
    return questions


def _sheet(question: MappedQuestion, images: Images, tile: tuple[int, int]) -> Image.Image:
    maps = question.maps

    def small(picture: Image.Image) -> np.ndarray:
        return np.asarray(picture.resize(tile, Image.Resampling.BOX))

    with Image.open(question.picture) as opened:
        query = small(opened.convert("RGB"))
    pictures = [*(small(Image.fromarray(images[i])) for i in maps.index), query]
    found = [*maps.maps, maps.query_maps.sum(0)]
    overlays = [overlaid(*pair) for pair in zip(pictures, found, strict=True)]
    return thumbnails.sheet(overlays, tile, COLUMNS)
