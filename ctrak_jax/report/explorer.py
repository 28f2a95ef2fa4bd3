"""The explorer's data: an index of all queries, which the page holds, and blocks.

The blocks, with ``n`` counting from 0:

==============  ====================================================================================
``answers-n``   ``ANSWERS`` queries: commands, and the images that each method ranks first and last
``queries-n``   ``QUERIES`` queries: their pictures
``tiles-n``     ``TILES`` training images: thumbnails in one picture, dataset indices, attributes
``maps-n``      one question: overlays of where its first images' scores come from
==============  ====================================================================================

Training images are numbered as they occur, query after query, so that the images of one answer are
in few blocks.
"""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ctrak_jax.data.raw import Images
from ctrak_jax.methods import METHODS
from ctrak_jax.report import thumbnails
from ctrak_jax.report.blocks import Blocks, data_uri
from ctrak_jax.report.explanation.explored import write_explored
from ctrak_jax.report.explanation.maps import MapFiles
from ctrak_jax.report.labels import (
    MAIN,
    SCENARIO_NAMES,
    SCENARIOS,
    SCOPES,
    concept_text,
    is_ablation,
    label,
    ordered,
)
from ctrak_jax.report.read import Answers, Found, QueryImage
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import Hit

Item = TypeVar("Item")

ANSWERS = 32
QUERIES = 256
TILES = 256
COLUMNS = 16
"""Thumbnails of a row of a block's picture."""
# With more attributes than this a tooltip shows only those that the queries speak of.
MAX_TOOLTIP_ATTRIBUTES = 6

SIZE = 24_000_000
"""Bytes that answers and thumbnails take together, about, where there is much of them."""
QUERY_SIZE = 4_000_000
"""Bytes of the query pictures at most."""
TILE_SIZE = (2_000_000, 12_000_000)
"""Bytes that the thumbnails may take, whatever the answers leave."""
HIT_SIZE = 10
"""Bytes of an image in an answer, about."""
SHARES = 1000
"""Scores are whole numbers of this part of the largest of their ranking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explorer:
    """``index`` is ready for JSON; of ``images`` training images that occur, ``drawn`` have a
    thumbnail."""

    index: Mapping[str, Any]
    images: int
    drawn: int


def write_explorer(
    blocks: Blocks,
    seeds: Sequence[Answers],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    base_rates: Mapping[tuple[str, str], float],
    *,
    run: Path,
    maps: MapFiles,
) -> Explorer:
    """Write the blocks and gather the index.

    Args:
        blocks: where the blocks go.
        seeds: what is shown of every training seed.
        images: uint8 [N, H, W, 3], by dataset index.
        attributes: attribute name -> N values, by dataset index.
        base_rates: (attribute, value) -> share of training images carrying it.
        run: the run's folder, as the commands name it.
        maps: where the scores of some questions' first images come from.
    """
    queries = [(found, query) for found in seeds for query in _sorted(found.queries)]
    methods = ordered(method for found in seeds for method in found.methods)
    numbers, drawn, form = _numbered(queries, images)
    mapped, where = write_explored(blocks, seeds, methods, images, maps, run=run)
    for start, part in _parts(queries, ANSWERS):
        entries = [
            _answer(found, query, methods, numbers, attributes, run, mapped)
            for found, query in part
        ]
        blocks.add(f"answers-{start // ANSWERS}", {"queries": entries})
    _write_queries(blocks, [query.image for _, query in queries])
    shown = _tooltip_attributes(attributes, seeds)
    tile = thumbnails.shrunk((images.shape[2], images.shape[1]), form.side)
    codes = {name: _codes(attributes[name]) for name in shown}
    for start, part in _parts(list(numbers), TILES):
        value = {
            "index": part,
            "codes": [[codes[name][attributes[name][i]] for i in part] for name in shown],
        }
        pictures = [Image.fromarray(images[i]) for i in part[: max(0, drawn - start)]]
        sheet = thumbnails.sheet(pictures, tile, COLUMNS) if pictures else None
        blocks.add(f"tiles-{start // TILES}", value, sheet and thumbnails.webp(sheet, form))
    index = {
        "sizes": {"answers": ANSWERS, "queries": QUERIES, "tiles": TILES, "shares": SHARES},
        "tile": {"width": tile[0], "height": tile[1], "columns": COLUMNS, "drawn": drawn},
        "attributes": [{"name": name, "values": list(codes[name])} for name in shown],
        "methods": [_method(method) for method in methods],
        "maps": where,
        **_index(seeds, base_rates),
    }
    return Explorer(index=index, images=len(numbers), drawn=drawn)


def condition_text(query: QueryImage) -> str:
    """The condition a query was generated under, as ``triangle, red``."""
    return ", ".join(concept_text(name, value) for name, value in query.condition.items())


def command(run: Path, query: QueryImage, question: Question) -> str | None:
    """The command that asks a question again; None where there is none: a global question is about
    many images, and of a model without prompts the command takes one."""
    values = query.condition
    one = query.scope != "global"
    about = {"image": str(query.image)} if one else {"scope": "global"}
    if question.mask:
        about["mask"] = str(query.image.parents[1] / question.mask)
    if one and not any("," in text for text in values.values()):
        about["condition"] = ",".join(f"{name}={value}" for name, value in values.items())
        about["concept"] = question.attribute
    elif question.prompt:
        about |= {"prompt": question.prompt, "concepts": question.value}
        about["minus"] = question.minus_prompt
    else:
        return None
    words = ["ctrak", "attribute", str(run)]
    for name, value in about.items():
        words += [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]
    return shlex.join(words)


def _index(seeds: Sequence[Answers], base_rates: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """Seeds, queries and the concepts asked about; what queries share stands once."""
    conditions: dict[str, int] = {}
    kinds: dict[tuple[str, str], int] = {}
    concepts: dict[tuple[str, str], int] = {}

    def entry(query: QueryImage) -> list[Any]:
        asked = [
            concepts.setdefault((q.attribute, q.value), len(concepts)) for q in query.questions
        ]
        kind = kinds.setdefault((query.scope, query.scenario), len(kinds))
        condition = conditions.setdefault(condition_text(query), len(conditions))
        return [query.id, kind, condition, asked]

    runs = [
        {"seed": found.seed, "queries": [entry(query) for query in _sorted(found.queries)]}
        for found in seeds
    ]
    return {
        "runs": runs,
        "conditions": list(conditions),
        "kinds": [
            {"scope": scope, "scenario": scenario, "text": SCENARIO_NAMES.get(scenario, scenario)}
            for scope, scenario in kinds
        ],
        "concepts": [
            {
                "attribute": attribute,
                "value": value,
                "text": concept_text(attribute, value),
                "base_rate": base_rates.get((attribute, value)),
            }
            for attribute, value in concepts
        ],
    }


def _method(method: str) -> dict[str, Any]:
    answers = method in METHODS and METHODS[method].kind in ("gradients", "reference")
    about = {"id": method, "ablation": is_ablation(method), "asks": answers}
    return about | {"main": method == MAIN} | label(method)._asdict()


def _answer(
    found: Answers,
    query: QueryImage,
    methods: Sequence[str],
    numbers: Mapping[int, int],
    attributes: Mapping[str, Sequence[str]],
    run: Path,
    mapped: Mapping[tuple[int, str, str], Sequence[int]],
) -> list[Any]:
    """For every question of a query: its command, what it is contrasted with, the rankings of all
    candidates, and of those that do not name the attribute; and its maps, if it has any."""

    def ranking(question: Question, method: str, first: Found, last: Found) -> list[Any]:
        """The method, the largest score, images and scores, which of them carry the concept, and
        how many are the first ones; the rest are the last ones."""
        key = method, *question.key
        highs, lows = list(first[key]), list(last.get(key, ()))
        hits, values = highs + lows, attributes[question.attribute]
        largest = max((abs(hit.score) for hit in hits), default=0.0) or 1.0
        return [
            methods.index(method),
            float(f"{largest:.4g}"),
            [numbers[hit.index] for hit in hits],
            [round(SHARES * hit.score / largest) for hit in hits],
            "".join(str(int(values[hit.index] == question.value)) for hit in hits),
            len(highs),
        ]

    def rankings(question: Question, first: Found, last: Found) -> list[Any]:
        return [
            ranking(question, method, first, last)
            for method in found.methods
            if (method, *question.key) in first
        ]

    return [
        [
            command(run, query, question),
            "; ".join(f"{name}={value}" for name, value in question.minus.items()),
            rankings(question, found.hits, found.lowest),
            rankings(question, found.unnamed, found.unnamed_lowest),
            *([mapped[found.seed, *question.key]] if (found.seed, *question.key) in mapped else []),
        ]
        for question in query.questions
    ]


def _numbered(
    queries: Sequence[tuple[Answers, QueryImage]], images: Images
) -> tuple[dict[int, int], int, thumbnails.Form]:
    """Dataset index -> number of all images that occur, those with a thumbnail first; how many have
    one, and of which form. Where there is not room for all, the best placed have one."""
    place: dict[int, int] = {}
    hits = 0
    for found, query in queries:
        for rank, hit in _hits(found, query):
            place[hit.index] = min(rank, place.get(hit.index, rank))
            hits += 1
    least, most = TILE_SIZE
    budget = min(most, max(least, SIZE - HIT_SIZE * hits))
    used = list(place)
    height, width = images.shape[1:3]

    def size(form: thumbnails.Form, sample: Sequence[int]) -> int:
        tile = thumbnails.shrunk((width, height), form.side)
        pictures = [Image.fromarray(images[used[nth]]) for nth in sample]
        return len(thumbnails.webp(thumbnails.sheet(pictures, tile, COLUMNS), form))

    form, fitting = thumbnails.choose(thumbnails.TILES, len(used), budget, size)
    best = set(sorted(used, key=place.__getitem__)[:fitting])
    kept = [index for index in used if index in best]
    rest = [index for index in used if index not in best] if fitting < len(used) else []
    return {index: nth for nth, index in enumerate([*kept, *rest])}, fitting, form


def _hits(found: Answers, query: QueryImage) -> Iterator[tuple[int, Hit]]:
    """Every image of a query's answers with its place in the ranking from either end."""
    for question in query.questions:
        for method in found.methods:
            for table in (found.hits, found.unnamed, found.lowest, found.unnamed_lowest):
                yield from enumerate(table.get((method, *question.key), ()))


def _write_queries(blocks: Blocks, files: Sequence[Path]) -> None:
    """The pictures of all queries, as data URIs."""

    def picture(file: Path, form: thumbnails.Form) -> bytes:
        with Image.open(file) as opened:
            return thumbnails.webp(thumbnails.lower(opened.convert("RGB"), form.side), form)

    def size(form: thumbnails.Form, sample: Sequence[int]) -> int:
        return sum(math.ceil(4 / 3 * len(picture(files[nth], form))) for nth in sample)

    form, _ = thumbnails.choose(thumbnails.QUERIES, len(files), QUERY_SIZE, size)
    for start, part in _parts(files, QUERIES):
        pictures = [data_uri(picture(file, form), "webp") for file in part]
        blocks.add(f"queries-{start // QUERIES}", {"pictures": pictures})


def _parts(items: Sequence[Item], size: int) -> Iterator[tuple[int, Sequence[Item]]]:
    """Runs of ``size`` items with the place of their first one."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def _sorted(queries: Iterable[QueryImage]) -> list[QueryImage]:
    """Local before global, OOD before ID, condition by condition."""

    def order(query: QueryImage) -> tuple[int, int, str]:
        scope = SCOPES.index(query.scope) if query.scope in SCOPES else len(SCOPES)
        scenario = -SCENARIOS.index(query.scenario) if query.scenario in SCENARIOS else 1
        return scope, scenario, condition_text(query)

    return sorted(queries, key=order)


def _tooltip_attributes(
    attributes: Mapping[str, Sequence[str]], seeds: Sequence[Answers]
) -> list[str]:
    if len(attributes) <= MAX_TOOLTIP_ATTRIBUTES:
        return list(attributes)
    named = {
        name
        for run in seeds
        for query in run.queries
        for name in (*query.condition, *(question.attribute for question in query.questions))
    }
    return [name for name in attributes if name in named]


def _codes(values: Sequence[str]) -> dict[str, int]:
    return {value: nth for nth, value in enumerate(sorted(set(values)))}
