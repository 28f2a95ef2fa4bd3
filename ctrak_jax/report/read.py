"""A finished run as one typed structure: everything the report draws, checked on the way in.

Files read: `metrics.json` at the run's root and, for each training seed, `queries/queries.csv`,
the query images it names, `top/<method>.csv` and (optional) `samples.png`.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.errors import StoreError
from ctrak_jax.pairs import split
from ctrak_jax.report.labels import ordered

TOP = 10


class Estimate(NamedTuple):
    """A mean and its 95% interval (None where there are too few queries for one)."""

    value: float
    lo: float | None
    hi: float | None


class Summary(NamedTuple):
    """Precision@k of one method over the queries of one scope, scenario and attribute."""

    method: str
    scope: str
    scenario: str
    attribute: str
    k: int
    precision: Estimate
    queries: int
    base_rate: float | None


class WrongLabel(NamedTuple):
    """Rank percentiles of images that carry a concept in the picture or in the label only."""

    method: str
    scope: str
    scenario: str
    picture_only: Estimate
    label_only: Estimate
    queries: int


class DampingPoint(NamedTuple):
    """Precision at one damping factor r, averaged over training seeds."""

    r: float
    split: str
    scope: str
    scenario: str
    precision: float


class Damping(NamedTuple):
    """A method's damping curve and the r chosen on validation queries, by seed or by seed and
    attribute."""

    method: str
    chosen: Mapping[str, float]
    curve: tuple[DampingPoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """`metrics.json`, typed; the summaries hold the one k that the report shows."""

    k: int
    summary: tuple[Summary, ...]
    no_condition_embedding: tuple[Summary, ...]
    wrong_label: tuple[WrongLabel, ...]
    damping: tuple[Damping, ...]
    base_rates: Mapping[tuple[str, str], float]
    settings: Mapping[str, Any]


class Concept(NamedTuple):
    """What a query asks about: `attribute=value`, contrasted with `minus`."""

    attribute: str
    value: str
    minus: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A training image in a top ten: its dataset index and score."""

    index: int
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A generated image (for scope `global` a sheet of several) and its concepts."""

    id: str
    condition: Mapping[str, str]
    scope: str
    scenario: str
    image: Path
    concepts: tuple[Concept, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """The report queries of one training seed; `hits` by (method, query id, attribute)."""

    seed: int
    queries: tuple[Query, ...]
    methods: tuple[str, ...]
    hits: Mapping[tuple[str, str, str], tuple[Hit, ...]]
    samples: Path | None


def read_metrics(path: Path) -> Metrics:
    """Read `metrics.json`.

    Raises:
      StoreError: it is missing, not JSON, lacks a key, or has a damping factor that is not
        positive.
    """
    _require(path, "ctrak evaluate")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        summary = [_summary(row) for row in raw["summary"]]
        if not summary:
            raise ValueError("`summary` is empty")
        ks = {row.k for row in summary}
        k = TOP if TOP in ks else min(ks)
        controls = raw.get("controls", {})
        bare = controls.get("no-condition-embedding", {}).get("summary", [])
        wrong = controls.get("wrong-label", {}).get("summary", [])
        return Metrics(
            k=k,
            summary=tuple(row for row in summary if row.k == k),
            no_condition_embedding=tuple(row for row in map(_summary, bare) if row.k == k),
            wrong_label=tuple(map(_wrong_label, wrong)),
            damping=tuple(
                _damping(method, raw["damping"][method])
                for method in ordered(raw.get("damping", {}))
            ),
            base_rates={
                (row["attribute"], row["value"]): row["base_rate"]
                for row in raw["rows"]
                if row.get("base_rate") is not None
            },
            settings=raw.get("settings", {}),
        )
    except KeyError as error:
        raise StoreError(f"{path}: key {error} is missing; run `ctrak evaluate` again") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise StoreError(f"{path}: {error}; run `ctrak evaluate` again") from error


def read_run(
    seed: int, folder: Path, *, images: int, methods: Sequence[str] | None = None
) -> SeedRun:
    """Read one training seed's queries and rankings.

    Args:
      seed: training seed, for the report's labels.
      folder: holds `queries/` and `top/`.
      images: number of images in the data set, to check the indices against.
      methods: whose rankings; None for all that are there.

    Raises:
      StoreError: a file, a column or every ranking is missing, or an index or score makes no
        sense; says which file and what to run.
    """
    queries = _read_queries(folder / "queries" / "queries.csv")
    tops = {
        path.stem: path
        for path in (folder / "top").glob("*.csv")
        if methods is None or path.stem in methods
    }
    if not tops:
        raise StoreError(f"{folder / 'top'}: no <method>.csv there; run `ctrak score`")
    asked = {(query.id, concept.attribute) for query in queries for concept in query.concepts}
    hits: dict[tuple[str, str, str], tuple[Hit, ...]] = {}
    for method, path in tops.items():
        for key, top in _read_top(path, images).items():
            if key in asked:
                hits[(method, *key)] = top
    samples = folder / "samples.png"
    return SeedRun(
        seed=seed,
        queries=queries,
        methods=ordered(tops),
        hits=hits,
        samples=samples if samples.is_file() else None,
    )


def _require(path: Path, command: str) -> None:
    if not path.is_file():
        raise StoreError(f"{path} is missing; run `{command}`")


def _estimate(value: float, interval: Sequence[float] | None) -> Estimate:
    if interval is None or any(x is None or not math.isfinite(x) for x in interval):
        return Estimate(float(value), None, None)
    lo, hi = interval
    return Estimate(float(value), float(lo), float(hi))


def _summary(row: Mapping[str, Any]) -> Summary:
    return Summary(
        method=row["method"],
        scope=row["scope"],
        scenario=row["scenario"],
        attribute=row["attribute"],
        k=int(row["k"]),
        precision=_estimate(row["precision"], row.get("ci95")),
        queries=int(row["queries"]),
        base_rate=row.get("base_rate"),
    )


def _wrong_label(row: Mapping[str, Any]) -> WrongLabel:
    return WrongLabel(
        method=row["method"],
        scope=row["scope"],
        scenario=row["scenario"],
        picture_only=_estimate(row["picture_only"], row.get("picture_only_ci95")),
        label_only=_estimate(row["label_only"], row.get("label_only_ci95")),
        queries=int(row["queries"]),
    )


def _damping(method: str, raw: Mapping[str, Any]) -> Damping:
    by_key: dict[tuple[float, str, str, str], list[float]] = {}
    for point in raw["curve"]:
        r = float(point["r"])
        if r <= 0:
            raise ValueError(f"damping of {method}: r={r:g}, expected a positive number")
        key = (r, point["split"], point["scope"], point["scenario"])
        by_key.setdefault(key, []).append(float(point["precision"]))
    curve = [DampingPoint(*key, sum(found) / len(found)) for key, found in by_key.items()]
    return Damping(method, dict(raw["chosen"]), tuple(sorted(curve)))


def _table(path: Path, columns: Sequence[str], command: str) -> Iterator[dict[str, str]]:
    _require(path, command)
    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise StoreError(
                f"{path}: columns {missing} are missing (got {reader.fieldnames}); "
                f"run `{command}` again"
            )
        yield from reader


def _read_queries(path: Path) -> tuple[Query, ...]:
    columns = ("query", "condition", "concept", "minus", "scope", "scenario", "split", "image")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in _table(path, columns, "ctrak query"):
        if row["split"] == "report":
            rows.setdefault(row["query"], []).append(row)
    try:
        queries = tuple(_query(name, group, path.parent) for name, group in rows.items())
    except ValueError as error:
        raise StoreError(f"{path}: {error}, expected attribute=value") from None
    for query in queries:
        _require(query.image, "ctrak query")
    return queries


def _query(name: str, rows: Sequence[Mapping[str, str]], folder: Path) -> Query:
    def concept(row: Mapping[str, str]) -> Concept:
        ((attribute, value),) = split(row["concept"]).items()
        minus = "; ".join(f"{k}={v}" for k, v in split(row["minus"]).items())
        return Concept(attribute, value, minus)

    first = rows[0]
    return Query(
        id=name,
        condition=split(first["condition"]),
        scope=first["scope"],
        scenario=first["scenario"],
        image=folder / first["image"],
        concepts=tuple(concept(row) for row in rows),
    )


def _read_top(path: Path, images: int) -> dict[tuple[str, str], tuple[Hit, ...]]:
    ranked: dict[tuple[str, str], list[tuple[int, Hit]]] = {}
    for row in _table(path, ("query", "rank", "index", "score", "attribute"), "ctrak score"):
        rank = int(row["rank"])
        if rank > TOP:
            continue
        hit = Hit(int(row["index"]), float(row["score"]))
        if not 0 <= hit.index < images:
            raise StoreError(
                f"{path}: index {hit.index}, expected 0 to {images - 1}; "
                "give the data set that the run was scored on"
            )
        if not math.isfinite(hit.score):
            raise StoreError(f"{path}: score {hit.score} of {row['query']}; run `ctrak score`")
        ranked.setdefault((row["query"], row["attribute"]), []).append((rank, hit))
    return {
        key: tuple(hit for _, hit in sorted(top, key=lambda item: item[0]))
        for key, top in ranked.items()
    }
