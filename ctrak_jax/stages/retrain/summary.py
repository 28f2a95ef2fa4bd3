"""From the outputs of retrained models and the scores of every method to ``lds.json``."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax.attribution import lds
from ctrak_jax.methods import METHODS
from ctrak_jax.report.labels import MAIN as OURS
from ctrak_jax.run.questions import Question
from ctrak_jax.run.retraining import (
    NAMED,
    UNNAMED,
    LdsDifference,
    LdsRow,
    LdsSummary,
    LdsTable,
    SubsetOutputs,
)
from ctrak_jax.run.variants import MAIN, Variant, unnamed
from ctrak_jax.stages.context import Context
from ctrak_jax.store import read_scores

OUTPUTS = ("loss", "concept", "presence")
CARRIERS, CHANCE = "carriers", "random"
"""References: how many candidates of a subset carry the concept, and scores drawn at random."""
AGAIN, BOUND = "trained-again", "best-possible"
"""References where subsets were trained on several times: one training's outputs by another's, and
what scores that predict the expected output would reach."""
CHANCE_BY = 6
"""The random stream of scores at random."""


def compared(ctx: Context) -> list[Variant]:
    """Whose scores are compared: the main experiment, and the unnamed candidates where they are all
    of them, since the sum over some would predict less."""
    found, count = unnamed(ctx.config), len(ctx.dataset.train_index)
    return [MAIN, *found] if all(one.ranks_all(count) for one in found) else [MAIN]


class ScoreSource(NamedTuple):
    """The scores of a method for all questions of a run [question, sample], the candidates
    featurized under a condition."""

    method: str
    condition: str
    scores: np.ndarray


def is_predicted(method: str, output: str) -> bool:
    """Are a method's questions about an output? ``concept`` is the slider's loss, equation (10.2),
    which another reward does not ask about."""
    spec = METHODS[method].query if method in METHODS else None
    return output != "concept" or spec is None or not spec.by_reward


def score_sources(ctx: Context) -> Iterator[ScoreSource]:
    """All that the run compares, its candidates named and unnamed, and the number of carriers."""
    carriers = [ctx.dataset.carries(q.attribute, q.value) for q in ctx.questions()]
    for method in ctx.compared():
        yield ScoreSource(method, NAMED, read_scores(ctx.folder.scores(method)))
    _, *without = compared(ctx)
    for method in ctx.compared() if without else ():
        scores = np.full(np.shape(carriers), np.nan, np.float32)
        for variant in without:
            found = read_scores(ctx.folder.part(variant.folder).scores(method))
            scores[ctx.question_rows(variant)] = found
        yield ScoreSource(method, UNNAMED, scores)
    yield ScoreSource(CARRIERS, NAMED, np.array(carriers, np.float32))
    if CHANCE not in ctx.compared():
        rng = np.random.default_rng((ctx.seed, CHANCE_BY))
        yield ScoreSource(CHANCE, NAMED, rng.standard_normal(np.shape(carriers), np.float32))


class _SeedQuestion(NamedTuple):
    """A question of one training seed."""

    seed: int
    question: Question

    @property
    def place(self) -> lds.Place:
        return lds.Place(self.seed, self.question.query)


class _Pooled(NamedTuple):
    """All training seeds together.

    Attributes:
        trained: output -> [training, question, subset]; NaN where it is not measured.
        predicted: (method, condition) -> [question, subset]; NaN where the method has no answer.
        measured: output -> the same, the mean over trainings.
        groups: (scope, scenario) -> its questions.
    """

    asked: list[_SeedQuestion]
    trained: dict[str, np.ndarray]
    predicted: dict[tuple[str, str], np.ndarray]

    @property
    def subsets(self) -> int:
        """How many."""
        return next(iter(self.predicted.values())).shape[1]

    @property
    def measured(self) -> dict[str, np.ndarray]:
        return {output: values.mean(0) for output, values in self.trained.items()}

    @property
    def groups(self) -> dict[tuple[str, str], np.ndarray]:
        found: dict[tuple[str, str], list[int]] = {}
        for row, (_, q) in enumerate(self.asked):
            found.setdefault((q.scope, q.scenario), []).append(row)
        return {group: np.array(rows) for group, rows in found.items()}


class _Mean(NamedTuple):
    """The mean over one scope and scenario, and over how many images."""

    about: dict[str, Any]
    found: lds.DatamodelingScore
    queries: int


def collect(
    folder: Path,
    contexts: Sequence[Context],
    members: Sequence[np.ndarray],
    found: Sequence[Sequence[Sequence[SubsetOutputs]]],
) -> LdsTable:
    """The LDS of every method on every output, and pictures of some questions in ``folder``.

    Args:
        folder: for the pictures.
        contexts: the training seeds.
        members: by seed, which candidates each subset has: bool [subset, sample].
        found: by seed and training, the outputs of each subset.
    """
    config, pooled = contexts[0].config, _pooled(contexts, members, found)
    summary: list[LdsSummary] = []
    differences: list[LdsDifference] = []
    rows: list[LdsRow] = []
    replicates = config.evaluate.bootstrap
    for output, measured in pooled.measured.items():
        ours: dict[str, lds.Correlations] = {}
        # Ours come first: the others are compared with them.
        for method, condition in sorted(pooled.predicted, key=lambda name: name[0] != OURS):
            if not is_predicted(method, output):
                continue
            reached = lds.correlations(pooled.predicted[method, condition], measured, replicates)
            about = {"condition": condition, "output": output}
            rows += _rows(pooled, reached, {"method": method, **about})
            summary += _summaries(pooled, reached, replicates, {"method": method, **about})
            if method == OURS:
                ours[condition] = reached
            elif condition in ours:
                apart = ours[condition].minus(reached)
                for where, mean, count in _means(pooled, apart, replicates):
                    difference = LdsDifference(
                        method=OURS,
                        rival=method,
                        **about,
                        **where,
                        difference=mean.mean,
                        ci95_queries=mean.over_questions[1:],
                        ci95_subsets=mean.over_subsets[1:],
                        queries=count,
                    )
                    differences.append(difference)
        if len(trained := pooled.trained[output]) > 1:
            again = lds.reliability(trained, replicates)
            about = {"method": AGAIN, "condition": NAMED, "output": output}
            rows += _rows(pooled, again, about)
            reliable = list(_summaries(pooled, again, replicates, about))
            summary += [*reliable, *(_bound(row, len(trained)) for row in reliable)]
    _draw(folder, pooled)
    return LdsTable(
        summary=tuple(summary),
        differences=tuple(differences),
        rows=tuple(rows),
        subsets=tuple(one.subset for one in found[0][0]),
        settings=config.model_dump(mode="json"),
        trainings=len(found[0]),
    )


def _pooled(
    contexts: Sequence[Context],
    members: Sequence[np.ndarray],
    found: Sequence[Sequence[Sequence[SubsetOutputs]]],
) -> _Pooled:
    asked: list[_SeedQuestion] = []
    trained: dict[str, list[np.ndarray]] = {output: [] for output in OUTPUTS}
    predicted: dict[tuple[str, str], list[np.ndarray]] = {}
    for ctx, chosen, trainings in zip(contexts, members, found, strict=True):
        row_of = {q.key: row for row, q in enumerate(ctx.questions())}
        rows = [row_of[one.query, one.attribute] for one in trainings[0][0].outputs]
        asked += [_SeedQuestion(ctx.seed, ctx.questions()[row]) for row in rows]
        for output, values in trained.items():
            values.append(np.stack([_table(models, output) for models in trainings]))
        for method, condition, scores in score_sources(ctx):
            sums = lds.predicted(scores[rows], chosen)
            predicted.setdefault((method, condition), []).append(sums)
    joined = {name: np.concatenate(seeds, axis=1) for name, seeds in trained.items()}
    return _Pooled(
        asked,
        {name: values for name, values in joined.items() if not np.isnan(values).all()},
        {name: np.concatenate(seeds) for name, seeds in predicted.items()},
    )


def _table(models: Sequence[SubsetOutputs], output: str) -> np.ndarray:
    """One output of models: [question, subset]."""
    table = [[getattr(one, output) for one in model.outputs] for model in models]
    return np.array(table, float).T


def _means(pooled: _Pooled, reached: lds.Correlations, replicates: int) -> Iterator[_Mean]:
    """By scope and scenario, where any question has an LDS."""
    for (scope, scenario), rows in pooled.groups.items():
        group, places = reached.of(rows), [pooled.asked[row].place for row in rows]
        mean = lds.summarise(group, places, replicates)
        if mean is not None:
            there = ~np.isnan(group.value)
            images = {place for place, kept in zip(places, there, strict=True) if kept}
            yield _Mean({"scope": scope, "scenario": scenario}, mean, len(images))


def _summaries(
    pooled: _Pooled, reached: lds.Correlations, replicates: int, about: dict[str, str]
) -> Iterator[LdsSummary]:
    for where, mean, count in _means(pooled, reached, replicates):
        yield LdsSummary(
            **about,
            **where,
            lds=mean.mean,
            ci95_queries=mean.over_questions[1:],
            ci95_subsets=mean.over_subsets[1:],
            subsets=pooled.subsets,
            queries=count,
        )


def _bound(row: LdsSummary, trainings: int) -> LdsSummary:
    """Equation (10.7) of a reliability and of the ends of its intervals."""

    def at(low: float, high: float) -> tuple[float, float]:
        return lds.best_possible(low, trainings), lds.best_possible(high, trainings)

    return replace(
        row,
        method=BOUND,
        lds=lds.best_possible(row.lds, trainings),
        ci95_queries=at(*row.ci95_queries),
        ci95_subsets=at(*row.ci95_subsets),
    )


def _rows(pooled: _Pooled, reached: lds.Correlations, about: dict[str, str]) -> Iterator[LdsRow]:
    for (seed, question), value in zip(pooled.asked, reached.value.tolist(), strict=True):
        if not np.isnan(value):
            yield LdsRow(seed=seed, **about, **question.columns, lds=value)


def _draw(folder: Path, pooled: _Pooled) -> None:
    """Predicted against measured, for the first question of every scope and scenario."""
    from ctrak_jax.report.figures import write_scatter  # loads matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    for row in (rows[0] for rows in pooled.groups.values()):
        _, q = pooled.asked[row]
        name = f"scatter-{q.query}-{q.attribute}.png"
        title = f"{q.query}: {q.attribute} = {q.value} ({q.scenario}, {q.scope})"
        write_scatter(
            folder / name,
            title,
            {name: values[row] for name, values in pooled.predicted.items()},
            {output: values[row] for output, values in pooled.measured.items()},
        )
