"""Maps of the report's first questions: writes ``maps/``, a file per question."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import hosts
from ctrak_jax.inputs.questions import noise_numbers
from ctrak_jax.log import deadline, logger, meter, stage
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.report.contact import file_name
from ctrak_jax.report.explanation.maps import QuestionMaps, key_of, mapped_method, write_maps
from ctrak_jax.report.read import TOP
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.features import in_memory, solve
from ctrak_jax.run.questions import Question
from ctrak_jax.run.tops import Hit, read_tops
from ctrak_jax.run.variants import MAIN, Variant, featurized_in, table_of
from ctrak_jax.stages import score, unnamed
from ctrak_jax.stages.ask.explain import (
    Explainer,
    Programs,
    by_question,
    features_of,
    programs_of,
)
from ctrak_jax.stages.ask.question import Answering
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import digest

TOGETHER = 64
"""Questions that are solved at a time."""


@dataclass(frozen=True, kw_only=True)
class WantedMaps:
    """The maps of one question of the run.

    Attributes:
        row: of queries.csv.
        number: what fixes the question's noise.
        question: that row.
        hits: its first training images.
        variant: whose features answer it.
        damping: its multiple r.
        path: of the file.
        key: what the maps depend on.
    """

    row: int
    number: int
    question: Question
    hits: Sequence[Hit]
    variant: Variant
    damping: float
    path: Path
    key: str


def mapped_rows(questions: Sequence[Question], count: int) -> list[int]:
    """The rows of the first ``count`` local report questions: the first image of every combination,
    held-out ones before the others, then the second of every one."""
    images: dict[str, list[int]] = {}
    for row, q in enumerate(questions):
        if (q.scope, q.split) == ("local", "report"):
            images.setdefault(q.query, []).append(row)
    seen: Counter[tuple[str, ...]] = Counter()
    order = []
    for rows in images.values():
        first = questions[rows[0]]
        kind = (first.about, first.scenario, *first.condition.values())
        order.append((seen[kind], first.scenario != "ood", rows))
        seen[kind] += 1
    return [row for *_, rows in sorted(order, key=lambda one: one[:2]) for row in rows][:count]


def run(ctx: Context, count: int) -> dict[tuple[int, str, str], Path]:
    """The maps of ``count`` questions, by (training seed, query, attribute): those that are there
    from the same features, damping and ranking stay."""
    method = mapped_method(ctx.config.methods)
    if method is None or not count:
        return {}
    if hosts.count() > 1:
        logger.warning("report.maps: left out of a run of several processes; call `ctrak report`")
        return {}
    wanted = _wanted(ctx, method, count)
    stale = [one for one in wanted if key_of(one.path) != one.key]
    if stale:
        name = "maps"
        with stage(ctx.folder.root, name, ctx.mesh.size) as record, meter(name, len(stale)) as bar:
            for one, found in _computed(ctx, method, stale):
                write_maps(one.path, one.key, found)
                record.samples += len(found.index)
                bar.advance(1)
                deadline.check()
    return {(ctx.seed, *one.question.key): one.path for one in wanted}


def _wanted(ctx: Context, method: str, count: int) -> list[WantedMaps]:
    questions, spec = ctx.questions(), METHODS[method].query
    tops = read_tops(ctx.folder.top(method), TOP)
    damping = read_dampings(ctx.folder.dampings)[method]
    parts = {part.without: part for part in unnamed.answering(ctx, method)}
    numbers = noise_numbers(questions)
    assert spec is not None
    asked = ctx.query_key(spec, MAIN)
    told = {part: _features_key(ctx, method, part) for part in (MAIN, *parts.values())}
    found = []
    for row in mapped_rows(questions, count):
        question = questions[row]
        hits = tops.get(question.key, ())
        variant, r = parts.get(question.attribute, MAIN), damping.of(question.attribute)
        name = file_name(f"{question.query}-{question.attribute}-{method}")
        ranking = [hit.index for hit in hits]
        key = [method, row, numbers[row], r, ranking, told[variant], asked]
        one = WantedMaps(
            row=row,
            number=numbers[row],
            question=question,
            hits=hits,
            variant=variant,
            damping=r,
            path=ctx.folder.root / "maps" / f"{name}.npz",
            key=digest(key),
        )
        found.append(one)
    return [one for one in found if one.hits]


def _features_key(ctx: Context, method: str, variant: Variant) -> dict[str, Any]:
    place = featurized_in(ctx.config, method, variant, len(ctx.dataset.train_index))
    spec = table_of(ctx.config, place)[method].train
    assert spec is not None
    return ctx.feature_key(spec, place)


def _computed(
    ctx: Context, method: str, wanted: Sequence[WantedMaps]
) -> Iterator[tuple[WantedMaps, QuestionMaps]]:
    """The maps of some questions, by the features that answer each."""
    denoiser, phi = ctx.load(), score.load_query_features(ctx, MAIN, method)
    compiled: dict[GradientSpec | None, Programs] = {}
    for variant in dict.fromkeys(one.variant for one in wanted):
        asked = [one for one in wanted if one.variant == variant]
        features = in_memory(score.load_features(ctx, variant, method))
        how = Answering(method, TOP, METHODS[method].query, variant=variant)
        spec = table_of(ctx.config, variant)[method].train
        if spec not in compiled:
            reward = ctx.reward if how.by_reward else None
            compiled[spec] = programs_of(ctx, denoiser, how, reward)
        explainer = Explainer(ctx=ctx, how=how, features=features, programs=compiled[spec])
        for start in range(0, len(asked), TOGETHER):
            yield from _explained(explainer, phi, asked[start : start + TOGETHER])


def _explained(
    explainer: Explainer, phi: np.ndarray, asked: Sequence[WantedMaps]
) -> Iterator[tuple[WantedMaps, QuestionMaps]]:
    """The maps of questions, which are solved together with their training images."""
    ctx, features = explainer.ctx, explainer.features
    index = ctx.candidates(explainer.how.variant).train_index
    place = {int(i): row for row, i in enumerate(index)}
    ranked = [np.array([place[hit.index] for hit in one.hits]) for one in asked]
    every = np.unique(np.concatenate(ranked))
    values = sorted({one.damping for one in asked})
    questions = phi[[one.row for one in asked]]
    both = np.concatenate([questions, features_of(features, every)])
    vectors = solve(features, both, values).vectors()
    for nth, (one, rows) in enumerate(zip(asked, ranked, strict=True)):
        solved = vectors[values.index(one.damping)]
        own = solved[len(asked) + np.searchsorted(every, rows)]
        asking = by_question(ctx, one.question, one.number)
        parts = explainer.parts(asking, rows, solved[nth], own)
        found = QuestionMaps(
            index=index[rows],
            maps=np.asarray(parts.train.pixels.sum(1)),
            query_maps=np.asarray(parts.query.pixels.sum(1)),
        )
        yield one, found
