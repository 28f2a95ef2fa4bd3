"""The explorer's data: queries, top tens and the pictures they need, as one JSON value.

Training images that occur in some top ten lie side by side in one atlas; a top ten names them by
tile. QueryImage images are data URIs, each once.
"""

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ctrak_jax.data.raw import Images
from ctrak_jax.report.labels import (
    SCENARIO_NAMES,
    SCENARIOS,
    SCOPES,
    concept_text,
    is_ablation,
    label,
    ordered,
)
from ctrak_jax.report.read import Answers, QueryImage
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import Hit

# Larger pictures are shrunk for the page, so that thousands of photographs stay a few megabytes.
MAX_TILE = 96
MAX_QUERY_HEIGHT = 192
# With more attributes than this a tooltip shows only those that the queries speak of.
MAX_TOOLTIP_ATTRIBUTES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Explorer:
    """``data`` is ready for JSON; ``shown`` of ``total`` report queries are in it."""

    data: Mapping[str, Any]
    shown: int
    total: int


def data_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def build_explorer(
    seeds: Sequence[Answers],
    images: Images,
    attributes: Mapping[str, Sequence[str]],
    base_rates: Mapping[tuple[str, str], float],
    *,
    limit: int,
) -> Explorer:
    """Gather what the explorer shows: at most ``limit`` queries per condition, scope and seed, with
    ``base_rates``, (attribute, value) -> share of training images carrying it."""
    kept = {run.seed: _first(run.queries, limit) for run in seeds}
    used = sorted(
        {
            hit.index
            for run in seeds
            for query in kept[run.seed]
            for question in query.questions
            for method in run.methods
            for found in (run.hits, run.unnamed)
            for hit in found.get((method, *question.key), ())
        }
    )
    tile_of = {index: tile for tile, index in enumerate(used)}
    methods = ordered(method for run in seeds for method in run.methods)
    place = {method: nth for nth, method in enumerate(methods)}
    pictures: dict[str, int] = {}

    def picture(path: Path) -> int:
        uri = data_uri(_query_png(path))
        return pictures.setdefault(uri, len(pictures))

    def rows(
        run: Answers, found: Mapping[tuple[str, str, str], Sequence[Hit]], question: Question
    ) -> list[Any]:
        values, key = attributes[question.attribute], question.key

        def tile(h: Hit) -> list[Any]:
            carries = int(values[h.index] == question.value)
            return [tile_of[h.index], float(f"{h.score:.4g}"), carries]

        return [
            [place[method], [tile(hit) for hit in found[method, *key]]]
            for method in run.methods
            if (method, *key) in found
        ]

    def asked(run: Answers, question: Question) -> dict[str, Any]:
        return {
            "attribute": question.attribute,
            "value": question.value,
            "text": concept_text(question.attribute, question.value),
            "minus": "; ".join(f"{k}={v}" for k, v in question.minus.items()),
            "base_rate": base_rates.get((question.attribute, question.value)),
            "rows": rows(run, run.hits, question),
            "unnamed": rows(run, run.unnamed, question),
        }

    def shown(run: Answers, query: QueryImage) -> dict[str, Any]:
        return {
            "id": query.id,
            "image": picture(query.image),
            "group": f"{query.scope}, {SCENARIO_NAMES.get(query.scenario, query.scenario)}",
            "condition": condition_text(query),
            "scope": query.scope,
            "concepts": [asked(run, question) for question in query.questions],
        }

    runs = [
        {"seed": run.seed, "queries": [shown(run, query) for query in kept[run.seed]]}
        for run in seeds
    ]
    columns = max(1, math.isqrt(max(0, len(used) - 1)) + 1)
    atlas, (width, height) = _atlas(images, used, columns)
    data = {
        "atlas": {"src": data_uri(atlas), "width": width, "height": height, "columns": columns},
        "index": used,
        "attributes": [
            _coded(name, [attributes[name][index] for index in used])
            for name in _tooltip_attributes(attributes, seeds)
        ],
        "methods": [{"id": m, **label(m)._asdict(), "ablation": is_ablation(m)} for m in methods],
        "pictures": list(pictures),
        "runs": runs,
    }
    return Explorer(
        data=data,
        shown=sum(len(queries) for queries in kept.values()),
        total=sum(len(run.queries) for run in seeds),
    )


def condition_text(query: QueryImage) -> str:
    """The condition a query was generated under, as ``triangle, red``."""
    return ", ".join(concept_text(name, value) for name, value in query.condition.items())


def _first(queries: Iterable[QueryImage], limit: int) -> list[QueryImage]:
    """At most ``limit`` queries of each kind, local before global and OOD before ID."""
    seen: Counter[tuple[str, ...]] = Counter()
    kept = []
    for query in queries:
        kind = (query.scope, query.scenario, condition_text(query))
        seen[kind] += 1
        if seen[kind] <= limit:
            kept.append(query)

    def order(query: QueryImage) -> tuple[int, int, str]:
        scope = SCOPES.index(query.scope) if query.scope in SCOPES else len(SCOPES)
        scenario = -SCENARIOS.index(query.scenario) if query.scenario in SCENARIOS else 1
        return scope, scenario, condition_text(query)

    return sorted(kept, key=order)


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


def _coded(name: str, values: Sequence[str]) -> dict[str, Any]:
    distinct = sorted(set(values))
    code = {value: nth for nth, value in enumerate(distinct)}
    return {"name": name, "values": distinct, "codes": [code[value] for value in values]}


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _query_png(path: Path) -> bytes:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.height > MAX_QUERY_HEIGHT:
        width = round(picture.width * MAX_QUERY_HEIGHT / picture.height)
        picture = picture.resize((max(1, width), MAX_QUERY_HEIGHT), Image.Resampling.BOX)
    return _png(picture)


def _atlas(images: Images, used: Sequence[int], columns: int) -> tuple[bytes, tuple[int, int]]:
    """The images ``used``, row by row, and the size of one (width, height)."""
    height, width = images.shape[1:3]
    shrink = min(1.0, MAX_TILE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    rows = max(1, -(-len(used) // columns))
    atlas = Image.new("RGB", (columns * size[0], rows * size[1]))
    for tile, index in enumerate(used):
        picture = Image.fromarray(images[index])
        if shrink < 1:
            picture = picture.resize(size, Image.Resampling.BOX)
        atlas.paste(picture, (tile % columns * size[0], tile // columns * size[1]))
    return _png(atlas), size
