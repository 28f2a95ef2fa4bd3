"""What the training images of one artist, licence or source did together."""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, product
from typing import get_args

import numpy as np

from ctrak_jax import fisher, hosts
from ctrak_jax.attribution import groups
from ctrak_jax.data.dataset import Grouping
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger, meter
from ctrak_jax.methods import METHODS
from ctrak_jax.report.explanation.maps import mapped_method
from ctrak_jax.report.groups import GroupQuestion, GroupRow, GroupTable
from ctrak_jax.report.groups.section import ReportedGroups
from ctrak_jax.report.groups.table import ALL
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.features import in_memory, solve, weighed_scores
from ctrak_jax.run.questions import Question, Scenario, Scope
from ctrak_jax.run.tops import Hit
from ctrak_jax.run.variants import MAIN, Variant
from ctrak_jax.stages import score, unnamed
from ctrak_jax.stages.ask.attribute import AttributedAnswer
from ctrak_jax.stages.context import Context
from ctrak_jax.store import score_blocks

FIRST = 8
"""First images that are kept of every group."""
DEPTH = 100
"""k of the report's shares."""
CONCEPTS = 24
"""With more of them the report has no tables of its own for each."""
MEMORY = 2**30
"""Bytes that a solve may take, and the sums of all groups."""
CELLS = 2**21
"""Scores that are summed at a time."""


def chosen_rows(
    questions: Sequence[Question], ids: Collection[str], concept: str | None, scope: Scope
) -> list[int]:
    """The rows of the questions that are meant: of these images, or all of a scope that are not for
    validation.

    Raises:
        UsageError: there is none.
    """
    known = dict.fromkeys(q.query for q in questions)
    for query in ids:
        if query not in known:
            near = ", ".join(list(known)[:3])
            raise UsageError(f"--query {query!r} is no image of the run; it has {near}, ...")
    rows = [
        row
        for row, q in enumerate(questions)
        if (q.query in ids if ids else q.about == scope and q.split == "report")
        and concept in (None, q.attribute)
    ]
    if not rows:
        names = list(dict.fromkeys(q.attribute for q in questions))
        raise UsageError(
            f"no question of --concept {concept}, --scope {scope}; the run asks about {names}."
        )
    return rows


def influence_of_groups(
    ctx: Context,
    by: str,
    rows: Sequence[int],
    method: str,
    depth: int,
    *,
    each: bool = True,
) -> GroupTable:
    """The influence of every group of training images on questions of the run.

    Args:
        ctx: the run, whose scores are there, or the average of its models.
        by: a column of the data set.
        rows: of the questions.
        method: whose scores.
        depth: k of the shares.
        each: of several questions, on every one beside their mean.

    Raises:
        UsageError: no such column or method, a bad ``depth``, too many groups, or a question that
            the method does not answer.
    """
    if method not in ctx.compared():
        raise UsageError(f"--method {method!r} is none of the run's {list(ctx.compared())}.")
    count = len(ctx.dataset.train_index)
    if not 1 <= depth <= count:
        raise UsageError(f"--top {depth} must be between 1 and the {count} training images.")
    questions = ctx.questions()
    asked = [
        GroupQuestion(query=q.query, attribute=q.attribute, value=q.value)
        for q in (questions[row] for row in rows)
    ]
    blocks = _scores(ctx, method, questions, rows)
    return _table(ctx, by, method, depth, asked, blocks, each=each)


def influence_on_own(ctx: Context, by: str, about: str, answer: AttributedAnswer) -> GroupTable:
    """The influence of every group of training images on a question of one's own.

    Args:
        ctx: the run.
        by: a column of the data set.
        about: what the question is called.
        answer: to the question; its ``top`` is k of the shares.

    Raises:
        UsageError: no such column, or too many groups.
    """
    how = answer.how
    asked = [
        GroupQuestion(query=about, attribute=concept, value=value or "")
        for concept, value in answer.asking.concepts.items()
    ]
    return _table(ctx, by, how.method, how.top, asked, _own_scores(answer))


def _own_scores(answer: AttributedAnswer) -> Iterator[fisher.Block]:
    """Scores [concept, sample] behind an answer."""
    if answer.solved is None:
        assert answer.compared is not None
        yield fisher.Block(range(answer.compared.shape[1]), answer.compared)
        return
    for block in weighed_scores(answer.solved.features, answer.solved.solution):
        yield fisher.Block(block.rows, np.asarray(block.features)[0])


def _table(
    ctx: Context,
    by: str,
    method: str,
    depth: int,
    asked: Sequence[GroupQuestion],
    blocks: Iterator[fisher.Block],
    *,
    each: bool = True,
) -> GroupTable:
    """The groups of a column, by scores [question, sample] in blocks."""
    grouping, index = ctx.dataset.grouped(by), ctx.dataset.train_index
    with meter("scores", len(index)) as bar:
        found = summed(blocks, len(asked), grouping, depth, bar.advance, each=each)
    rows = group_rows(found, grouping, [question.key for question in asked], index)
    return GroupTable(by=by, method=method, k=depth, samples=len(index), questions=asked, rows=rows)


def summed(
    blocks: Iterator[fisher.Block],
    queries: int,
    grouping: Grouping,
    depth: int,
    advance: object = None,
    *,
    each: bool = True,
) -> groups.GroupInfluence:
    """The influence of every group from scores [query, sample] in blocks; of several questions
    first on their mean, and then on ``each``, or on the mean alone.

    Raises:
        UsageError: too many groups, or a question that has no scores.
    """
    mean = queries > 1
    kept = queries + mean if each or not mean else 1
    size = {"depth": depth, "first": FIRST}
    needed = groups.state_bytes(kept, len(grouping.names), **size)
    if needed > MEMORY:
        raise UsageError(
            f"--by has {len(grouping.names):,} values, which take {needed / 2**30:.1f} GiB for "
            f"{queries} questions; name fewer by --query and --concept, or another column."
        )
    sums = groups.start(kept, len(grouping.names), **size)
    step = max(1, CELLS // (queries + mean))
    for block in blocks:
        for first in range(0, len(block.rows), step):
            scores = np.asarray(block.features[:, first : first + step], np.float64)
            offset = block.rows.start + first
            if not np.isfinite(scores).all():
                raise UsageError(
                    "the method does not answer every question; name others by --query."
                )
            if mean:
                scores = np.concatenate([scores.mean(0, keepdims=True), scores])[:kept]
            inside = grouping.numbers[offset : offset + scores.shape[1]]
            sums = groups.update(sums, scores, inside, offset)
        if callable(advance):
            advance(len(block.rows))
    return groups.finish(sums, grouping.numbers)


def _scores(
    ctx: Context, method: str, questions: Sequence[Question], rows: Sequence[int]
) -> Iterator[fisher.Block]:
    """Scores [query, sample] of some questions: as they were kept, or from the features."""
    if ctx.config.score.keep_all:
        for span, scores in score_blocks(ctx.folder.scores(method), rows):
            yield fisher.Block(span, scores)
        return
    if METHODS[method].kind != "gradients":
        raise UsageError(
            f"--method {method!r} has no features, and the run keeps no scores; run `ctrak score` "
            "with score.keep_all: true."
        )
    answering = {part.without: part for part in unnamed.answering(ctx, method)}
    variants = [answering.get(questions[row].attribute, MAIN) for row in rows]
    parts = list(dict.fromkeys(variants))
    # Where every part's questions stand among all that are asked.
    places = [[n for n, found in enumerate(variants) if found == part] for part in parts]
    streams = [
        _from_features(ctx, method, part, questions, [rows[n] for n in place])
        for part, place in zip(parts, places, strict=True)
    ]
    for together in zip(*streams, strict=True):
        scores = np.empty((len(rows), len(together[0].rows)), np.float32)
        for place, block in zip(places, together, strict=True):
            scores[place] = block.features
        yield fisher.Block(together[0].rows, scores)


def _from_features(
    ctx: Context, method: str, variant: Variant, questions: Sequence[Question], rows: Sequence[int]
) -> Iterator[fisher.Block]:
    """Scores of the questions that a variant answers, each at its damping."""
    damping = read_dampings(ctx.folder.dampings)[method]
    wanted = [damping.of(questions[row].attribute) for row in rows]
    values = sorted(set(wanted))
    features = in_memory(score.load_features(ctx, variant, method, MEMORY))
    solution = solve(features, score.load_query_features(ctx, MAIN, method)[rows], values)
    at, every = [values.index(r) for r in wanted], np.arange(len(rows))
    answered = ctx.answered(method, [questions[row] for row in rows])
    for block in weighed_scores(features, solution):
        scores = np.asarray(block.features)[at, every]
        yield fisher.Block(block.rows, np.where(answered[:, None], scores, np.nan))


def group_rows(
    found: groups.GroupInfluence,
    grouping: Grouping,
    keys: Sequence[tuple[str, str]],
    index: np.ndarray,
) -> list[GroupRow]:
    """Question by question, the largest total first; of several those of the mean before them, or
    alone where ``found`` has no others."""
    named = [*([(ALL, ALL)] if len(keys) > 1 else []), *keys][: len(found.total)]
    return [
        _row(found, place, group, name, grouping.names[group], index)
        for place, name in enumerate(named)
        for group in np.argsort(-found.total[place], kind="stable").tolist()
    ]


def _row(
    found: groups.GroupInfluence,
    place: int,
    group: int,
    name: tuple[str, str],
    value: str,
    index: np.ndarray,
) -> GroupRow:
    count, mean = int(found.size[group]), float(found.mean[place, group])
    total, reach = float(found.total[place, group]), float(found.reach[place, group])
    single, samples = count == 1, found.first.samples[place, group]
    kept = samples >= 0
    hits = zip(index[samples[kept]], found.first.score[place, group][kept], strict=True)
    return GroupRow(
        query=name[0],
        attribute=name[1],
        group=value,
        images=count,
        total=total,
        total_ci95=None if single else (total - count * reach, total + count * reach),
        mean=mean,
        mean_ci95=None if single else (mean - reach, mean + reach),
        share=float(found.share[place, group]),
        base_rate=float(found.base_rate[group]),
        first=[Hit(int(i), float(value)) for i, value in hits],
    )


def reported(ctx: Context, *, averaged: bool) -> list[ReportedGroups]:
    """Influence by every column of ``report.groups`` on the report questions of each scenario: on
    their mean, and on the mean of those about each concept; of local questions where there are
    any.

    Args:
        ctx: the run, whose scores are there, or the average of its models.
        averaged: is it the latter?
    """
    seed = None if averaged else ctx.seed
    columns, method = ctx.config.report.groups, mapped_method(ctx.config.methods)
    if not columns or method is None:
        return []
    if hosts.count() > 1 and not ctx.config.score.keep_all:
        logger.warning("report.groups: no scores are kept; call `ctrak report` in one process")
        return []
    questions = ctx.questions()
    scope: Scope = "local" if any(q.about == "local" for q in questions) else "global"
    depth = min(DEPTH, len(ctx.dataset.train_index))
    found: list[ReportedGroups] = []
    for column, scenario in product(columns, get_args(Scenario)):
        rows: dict[str, list[int]] = {}
        for row, q in enumerate(questions):
            if (q.about, q.split, q.scenario) == (scope, "report", scenario):
                rows.setdefault(f"{q.attribute}: {q.value}", []).append(row)
        if not rows:
            continue
        asked = {"": sorted(chain.from_iterable(rows.values()))}
        if 1 < len(rows) <= CONCEPTS:
            asked |= dict(sorted(rows.items()))
        tables = {
            name: influence_of_groups(ctx, column, chosen, method, depth, each=False)
            for name, chosen in asked.items()
        }
        one = ReportedGroups(
            scope=scope,
            scenario=scenario,
            overall=tables.pop(""),
            concepts=tables,
            seed=seed,
        )
        found.append(one)
    return found
