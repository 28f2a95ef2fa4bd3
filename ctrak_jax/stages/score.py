"""Scores: dampings by the validation queries, then rankings and the Fisher on disk.

One damping is chosen for each method, or for each method and attribute. Where the solver needs all
features at once the first process reads them whole; otherwise every process goes through its own
share block by block, and the top lists are merged block by block and then over processes.
``fisher/<method>/`` holds gram, count and trace; where the Gram matrix does not fit into memory,
diagonal, count and trace.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ctrak_jax import devices, fisher, hosts, metrics, score
from ctrak_jax.errors import StoreError
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.methods import METHODS
from ctrak_jax.run.dampings import Damping, DampingPoint, read_dampings, write_dampings
from ctrak_jax.run.questions import Question, fingerprint, read_questions
from ctrak_jax.run.tops import Hit, write_tops
from ctrak_jax.stages import model, unlearning
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.featurize import folder, place
from ctrak_jax.stages.gradients import feature_key, selection_of, store_of
from ctrak_jax.stages.query import query_key
from ctrak_jax.stages.samples import relabelled_rows
from ctrak_jax.stages.variant import MAIN, Variant
from ctrak_jax.store import FeatureStore, write_scores

BLOCK_BYTES = 2**25
"""Features are read from disk about so many bytes at a time."""


IN_MEMORY = ("spectrum", "dual")
"""Solvers that need all features at once."""

AFTERWARDS = ("evaluate", "counterfactual")
"""The sections of what is done with scores."""


class Features(NamedTuple):
    """A method's training features, where they are kept, the weights of its samples [n] (or none),
    and the solver that they are held for."""

    rows: fisher.Rows
    place: str
    weights: np.ndarray | None
    solver: fisher.Solver

    @property
    def shared(self) -> bool:
        """Has every process a share of the rows, and a part in what is done with them?"""
        return isinstance(self.rows, devices.ShardedRows)


class Scored(NamedTuple):
    """What is written of a method: rankings [query, rank] by row of the training set, and all
    scores [query, sample] where they are kept."""

    ranking: score.Ranking
    scores: np.ndarray | None


def run(ctx: Context, variant: Variant = MAIN) -> None:
    """Write ``scores/``, ``top/`` and ``fisher/`` of the config's methods."""
    out, finished = folder(ctx, variant), done(ctx, variant)
    asked = read_questions(ctx.root / "queries" / "queries.csv")
    hosts.barrier("scoring")  # all have looked before the first one writes
    if finished:
        return
    with (
        stage(out, variant.title("score"), ctx.mesh.size) as record,
        meter(variant.title("score"), len(ctx.config.methods)) as bar,
    ):
        choices, solvers = {}, record.extra.setdefault("solvers", {})
        count = len(ctx.dataset.train_index)
        for method in ctx.config.methods:
            if METHODS[method].train is not None:
                features = load_features(ctx, variant, method)
                _save_fisher(ctx, out / "fisher" / method, features.rows)
                if features.solver in IN_MEMORY and not hosts.is_first():
                    continue
                features = held(features)
                queries = load_query_features(ctx, variant, method)
                solution = solve(features, queries, ctx.config.score.damping)
                solvers[method] = {
                    "solver": solution.solver,
                    "products": solution.products,
                    "residual": solution.residual,
                }
                scored, choices[method] = _by_features(
                    ctx, variant, method, asked, features, solution
                )
            elif hosts.is_first():
                scores = unlearning.scores(ctx, variant, asked)
                scored = Scored(score.top_k(scores, min(ctx.config.score.top, count)), scores)
            else:
                continue
            if hosts.is_first():
                _write(ctx, out, method, asked, scored)
                record.samples += count
            bar.advance(1)
    if hosts.is_first():
        write_dampings(out / "scores" / "damping.json", choices)
        ctx.finish(variant.title("score"), inputs(ctx, variant))
    hosts.barrier("scored")


def done(ctx: Context, variant: Variant) -> bool:
    """Are the scores of these settings and questions there?"""
    out, methods = folder(ctx, variant), ctx.config.methods
    outputs = [out / "scores" / "damping.json", *(out / "top" / f"{m}.csv" for m in methods)]
    outputs += [out / "fisher" / m for m in methods if METHODS[m].train is not None]
    if ctx.config.score.keep_all:
        outputs += [out / "scores" / f"{m}.zarr" for m in methods]
    return ctx.fresh(variant.title("score"), inputs(ctx, variant), *outputs)


def require(ctx: Context, variant: Variant) -> None:
    """Refuse to go on without the scores of these settings and questions.

    Raises:
        StoreError: they are missing, or of others.
    """
    if not done(ctx, variant):
        raise StoreError(
            f"{folder(ctx, variant)}: no scores of these settings and questions; run "
            "`ctrak score` first."
        )


def inputs(ctx: Context, variant: Variant) -> dict[str, Any]:
    """What the scores depend on."""
    config = ctx.config
    return {
        "queries": fingerprint(ctx.root / "queries"),
        **model.key(ctx),
        "dataset": ctx.dataset.fingerprint,
        "variant": variant,
        "config": config.model_dump(
            mode="json",
            exclude={"name", "out", "run", "mesh", "train", "controls", "store", *AFTERWARDS},
        ),
        "k": config.evaluate.k[0],
    }


def load_features(ctx: Context, variant: Variant, method: str) -> Features:
    """A method's features, this process's share of them; the relabelled rows of a control stand in
    for the main ones."""
    made_by, spec = model.key(ctx), METHODS[method].train
    assert spec is not None

    def opened(part: Variant) -> FeatureStore:
        return FeatureStore.open(
            place(ctx, part, store_of(method)),
            feature_key(ctx, selection_of(ctx, model.template(ctx), part), part, spec, made_by),
        )

    stores = [opened(MAIN if variant.relabel else variant)]
    changed = np.empty(0, np.int64)
    if variant.relabel:
        stores.append(opened(variant))
        changed = relabelled_rows(ctx, variant.relabel)
    form = METHODS[method].error_weight
    weights = None
    if form:
        errors = stores[0].read("errors")
        if variant.relabel:
            errors[changed] = stores[1].read("errors")
        weights = np.asarray(score.error_weights(errors, form))
    n, k = stores[0].rows, ctx.config.projection.k
    memory = devices.memory(ctx.mesh)
    wanted = ctx.config.score.solver
    solver = fisher.choose(n, k, memory) if wanted == "auto" else wanted
    chunk = len(stores[0].chunks[0])
    size, part = rows_a_block(k, chunk), hosts.part(n, chunk)
    rows = devices.ShardedRows(
        ctx.mesh,
        n,
        k,
        lambda part: replaced(stores, changed, size, part),
        block=size,
        resident=solver == "cg" and 4 * len(part) * k <= memory * ctx.mesh.size // 2,
        part=part,
    )
    return Features(rows, str(stores[0].place), weights, solver)


def held(features: Features) -> Features:
    """The features as their solver needs them: all in memory where it works on them at once."""
    if features.solver in IN_MEMORY:
        return features._replace(rows=fisher.Matrix(features.rows.whole()))
    return features


def rows_a_block(k: int, chunk: int) -> int:
    """Whole chunks of about ``BLOCK_BYTES``."""
    return max(BLOCK_BYTES // (4 * k * chunk), 1) * chunk


def replaced(
    stores: Sequence[FeatureStore], changed: np.ndarray, size: int, part: range
) -> Iterator[fisher.Block]:
    """The features of ``part`` in the first store, in blocks of about ``size`` rows; its
    ``changed`` rows (they ascend) are taken from the second one, read beside it."""
    first, last = np.searchsorted(changed, [part.start, part.stop])
    others = iter(())
    if len(stores) > 1:
        others = stores[1].blocks("features", size, range(first, last))
    new = np.empty((0, 0), np.float32)
    for rows, features in stores[0].blocks("features", size, part):
        inside = changed[(changed >= rows.start) & (changed < rows.stop)]
        while len(inside):
            if not len(new):
                _, new = next(others)
            count = min(len(inside), len(new))
            features[inside[:count] - rows.start] = new[:count]
            inside, new = inside[count:], new[count:]
        yield fisher.Block(rows, features)


def solve(features: Features, queries: np.ndarray, multiples: Sequence[float]) -> fisher.Solution:
    """Solved queries [query, k] by the solver that the features are held for.

    Raises:
        StoreError: all features are zero, or a damping is too small for the solver.
    """
    try:
        return fisher.solve(features.rows, queries, multiples, solver=features.solver)
    except ArithmeticError as error:
        raise StoreError(f"{features.place}: {error}") from None


class Ranked(NamedTuple):
    """Rankings [damping, query, rank] over all processes, and all scores [damping, query, sample]
    of this one's samples if kept."""

    ranking: score.Ranking
    scores: np.ndarray | None


def ranked(features: Features, solution: fisher.Solution, depth: int, keep: bool) -> Ranked:
    """The ``depth`` best samples, merged block by block and over processes."""
    nothing = np.zeros((*solution.shape, 0), np.float32)
    empty = score.Ranking(nothing.astype(np.int32), nothing)
    best, kept = empty, [nothing]
    for block in solution.scores(features.rows):
        scores = np.asarray(block.features)
        if features.weights is not None:
            scores = scores * features.weights[block.rows.start : block.rows.stop]
        new = score.top_k(scores, min(depth, len(block.rows)))
        new = new._replace(samples=new.samples + block.rows.start)
        best = score.merge_top(best, new, depth)
        if keep:
            kept.append(scores)
    scores = np.concatenate(kept, axis=2) if keep else None
    if features.shared:
        found = score.Ranking(*(hosts.joined_up(np.asarray(part), 2) for part in best))
        best = score.merge_top(empty, found, depth)
    return Ranked(best, scores)


def load_query_features(ctx: Context, variant: Variant, method: str) -> np.ndarray:
    """A method's query features [query, k]; the wrong-label control asks the main ones."""
    part = MAIN if variant.relabel else variant
    spec = METHODS[method].query
    assert spec is not None
    selection = selection_of(ctx, model.template(ctx), part)
    key = feature_key(ctx, selection, part, spec, model.key(ctx)) | query_key(ctx)
    return FeatureStore.open(folder(ctx, part) / "queries" / method, key).read()


def _by_features(
    ctx: Context,
    variant: Variant,
    method: str,
    asked: list[Question],
    features: Features,
    solution: fisher.Solution,
) -> tuple[Scored, Damping]:
    """Scores at the chosen damping, and the choice with its curve."""
    multiples = ctx.config.score.damping
    depth = min(ctx.config.score.top, features.rows.n)
    ranking, scores = ranked(features, solution, depth, ctx.config.score.keep_all)

    every = np.arange(len(asked))

    def at(damping: Sequence[float]) -> Scored:
        """What is found at one damping a question."""
        places = np.array([multiples.index(r) for r in damping])
        chosen = score.Ranking(*(np.asarray(part)[places, every] for part in ranking))
        kept = None if scores is None else scores[places, every]
        if kept is not None and features.shared:
            kept = hosts.joined_up(kept, 1)
        return Scored(chosen, kept)

    if variant.relabel:
        # The control changes labels only: the damping stays the main experiment's.
        main = read_dampings(ctx.root / "scores" / "damping.json")[method]
        return at([main.of(q.attribute) for q in asked]), main
    precision = np.array(
        [
            [_precision(ctx, row, q) for row, q in zip(samples, asked, strict=True)]
            for samples in np.asarray(ranking.samples)
        ]
    )
    validation = np.array([q.split == "validation" for q in asked])
    chosen, by_attribute = max(multiples), {}
    if validation.any():
        chosen = multiples[choose_damping(precision[:, validation])]
    else:
        logger.warning("no validation question: %s takes the largest damping", method)
    if ctx.config.score.damping_for == "attribute":
        attributes = np.array([q.attribute for q in asked])
        by_attribute = {
            name: multiples[choose_damping(precision[:, validation & (attributes == name)])]
            for name in dict.fromkeys(attributes[validation].tolist())
        }
    curve = tuple(
        DampingPoint(
            r=r,
            split=split,
            scope=scope,
            scenario=scenario,
            precision=float(precision[i, rows].mean()),
        )
        for i, r in enumerate(multiples)
        for (split, scope, scenario), rows in _groups(asked).items()
    )
    damping = Damping(chosen=chosen, by_attribute=by_attribute, curve=curve)
    return at([damping.of(q.attribute) for q in asked]), damping


def choose_damping(precision: np.ndarray) -> int:
    """The damping with the best mean precision over VALIDATION queries [damping, query]; of equals
    the smallest, which stays closest to the influence of section 1."""
    means = precision.mean(axis=1)
    return int(np.flatnonzero(means >= means.max() - 1e-9)[0])


def _groups(asked: list[Question]) -> dict[tuple[str, str, str], list[int]]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    for i, q in enumerate(asked):
        groups.setdefault((q.split, q.scope, q.scenario), []).append(i)
    return groups


def _precision(ctx: Context, samples: np.ndarray, question: Question) -> float:
    relevant = ctx.dataset.carries(question.attribute, question.value)
    return metrics.precision_at_k(samples, relevant, ctx.config.evaluate.k[0])


def _save_fisher(ctx: Context, path: Path, rows: fisher.Rows) -> None:
    tree: dict[str, Any] = {"count": jnp.int32(rows.n)}
    if fisher.gram_fits(rows.k, devices.memory(ctx.mesh)):
        tree["gram"] = rows.total(fisher.outer, None)
        tree["trace"] = jnp.trace(tree["gram"])
    else:
        tree["diagonal"] = rows.total(fisher.squares, None)
        tree["trace"] = tree["diagonal"].sum()
    if hosts.is_first():
        with hosts.checkpointer() as checkpointer:
            checkpointer.save(path.resolve(), hosts.savable(tree), force=True)


def _write(ctx: Context, out: Path, method: str, asked: list[Question], scored: Scored) -> None:
    """top/<method>.csv, and all scores where they are kept."""
    ranking, scores = scored
    if scores is not None and ctx.config.score.keep_all:
        write_scores(out / "scores" / f"{method}.zarr", scores)
    dataset_index = ctx.dataset.train_index[np.asarray(ranking.samples)]
    write_tops(
        out / "top" / f"{method}.csv",
        {
            q.key: [Hit(*hit) for hit in zip(index.tolist(), values.tolist(), strict=True)]
            for q, index, values in zip(
                asked, dataset_index, np.asarray(ranking.score), strict=True
            )
            if not np.isnan(values).any()  # the method does not answer it (unlearning, global)
        },
    )
