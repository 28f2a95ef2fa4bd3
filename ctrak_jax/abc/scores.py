"""Scores of all candidates: equation (19) of :mod:`ctrak_jax.abc`."""

from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import fisher, hosts, score
from ctrak_jax.abc.inputs import content, words_key
from ctrak_jax.abc.prepared import Bench, Part
from ctrak_jax.abc.questions import query_key, query_place
from ctrak_jax.abc.results import Candidates, write
from ctrak_jax.log import meter, stage
from ctrak_jax.methods import METHODS
from ctrak_jax.stages import featurize, model
from ctrak_jax.stages.gradients import Selected, feature_key, selected, store_of
from ctrak_jax.stages.score import IN_MEMORY, held, load_features, solve
from ctrak_jax.stages.variant import MAIN
from ctrak_jax.store import FeatureStore


def write_scores(bench: Bench, exemplars: Part) -> None:
    """Scores of all candidates, and the measures."""
    ctx, methods = bench.laion, bench.config.methods
    out = ctx.root
    inputs = _score_inputs(bench, exemplars)
    outputs = [out / f"abc.{kind}" for kind in ("json", "csv", "md")]
    finished = ctx.fresh("abc", inputs, *outputs)
    hosts.barrier("scoring")  # all have looked before the first one writes
    if finished:
        return
    with (
        stage(out, "abc scores", ctx.mesh.size) as record,
        meter("abc scores", len(methods)) as bar,
    ):
        chosen = selected(ctx, model.load(ctx), MAIN)
        found: dict[str, Candidates] = {}
        for method in methods:
            scored = _scored(bench, exemplars, chosen, method)
            if scored is not None:
                found[method] = scored
            bar.advance(1)
        record.samples = len(ctx.dataset.train_index) * len(methods)
        record.extra = {"solvers": {name: c.solver for name, c in found.items()}}
        if hosts.is_first():
            write(out, bench.config, bench.abc.tasks, bench.asked, found, damping=bench.damping)
            if not bench.config.score.keep_all:
                for method in methods:
                    _scores_file(out, method).unlink()
            ctx.finish("abc", inputs)
    hosts.barrier("scored")


def _score_inputs(bench: Bench, exemplars: Part) -> dict[str, Any]:
    config = bench.config
    return {
        **model.key(bench.laion),
        "laion": [bench.laion.dataset.fingerprint, bench.laion.inputs.key],
        "exemplars": exemplars.inputs.key,
        "tasks": [
            [content(task.image), words_key(q.prompt), words_key(q.minus), *map(str, task)]
            for task, q in zip(bench.abc.tasks, bench.asked, strict=True)
        ],
        "config": config.model_dump(
            mode="json",
            exclude={"name", "out", "run", "mesh", "train", "controls", "store", "counterfactual"},
        ),
    }


def _scores_file(out: Path, method: str) -> Path:
    return out / "scores" / f"{method}.npy"


def _scored(bench: Bench, exemplars: Part, chosen: Selected, method: str) -> Candidates | None:
    """Equation (19) for every task; LAION's scores go to disk. None in a process that has no part
    in it, or that does not measure."""
    ctx = bench.laion
    n, k = len(ctx.dataset.train_index), ctx.config.projection.k
    file = _scores_file(ctx.root, method)
    if hosts.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(bench.asked), n)
        np.lib.format.open_memmap(file, "w+", np.float32, shape).flush()
    hosts.barrier("scores begun")
    features = load_features(ctx, MAIN, method)
    if features.solver == "spectrum" and n < k:  # its dual form scores no other rows
        features = features._replace(solver="dual")
    if features.solver in IN_MEMORY and not hosts.is_first():
        return None
    features = held(features)
    own = _store(exemplars, chosen, method).read()
    queries = FeatureStore.open(query_place(bench, method), query_key(bench, chosen, method)).read()
    solution = solve(features, np.concatenate([queries, own]), [bench.damping])
    among = np.concatenate(
        [np.asarray(block.features)[0] for block in solution.scores(fisher.Matrix(own))], axis=1
    )
    tasks = len(bench.asked)
    rests = [
        _shares(among[number, rows], among[tasks:][rows][:, rows])
        for number, rows in enumerate(map(_slice, bench.exemplars.of))
    ]
    weights, own_weights = _weights(bench, exemplars, chosen, method)
    laion = np.lib.format.open_memmap(file, "r+")
    for block in solution.scores(features.rows):
        part, scores = _slice(block.rows), np.asarray(block.features)[0]
        for number, rows in enumerate(map(_slice, bench.exemplars.of)):
            influence = scores[number] - rests[number] @ scores[tasks:][rows]
            laion[number, part] = influence * weights[part]
    laion.flush()  # type: ignore[attr-defined]
    if features.shared:
        hosts.barrier("scores written")
    if not hosts.is_first():
        return None
    mine = [
        (rest * own_weights[rows]).astype(np.float32)
        for rest, rows in zip(rests, map(_slice, bench.exemplars.of), strict=True)
    ]
    return Candidates(mine, np.lib.format.open_memmap(file, "r"), solution.solver)


def _shares(query: np.ndarray, among: np.ndarray) -> np.ndarray:
    """S(q, X) (I + S(X, X))^-1, which is also what equation (19) makes of S(q, X)."""
    damped = np.eye(len(query)) + np.asarray(among, np.float64)
    return np.linalg.solve(damped.T, np.asarray(query, np.float64))


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop)


def _store(part: Part, chosen: Selected, method: str) -> FeatureStore:
    """Where a method's training features are."""
    spec = METHODS[method].train
    assert spec is not None
    key = feature_key(part, chosen.selection, MAIN, spec, model.key(part))
    return FeatureStore.open(featurize.place(part, MAIN, store_of(method)), key)


def _weights(
    bench: Bench, exemplars: Part, chosen: Selected, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of LAION rows and of exemplars by their denoising errors; norms over both."""
    n, form = len(bench.laion.dataset.train_index), METHODS[method].error_weight
    if form is None:
        return np.ones(n, np.float32), np.ones(len(bench.exemplars.files), np.float32)
    errors = [_store(part, chosen, method).read("errors") for part in (bench.laion, exemplars)]
    found = np.asarray(score.error_weights(np.concatenate(errors), form))
    return found[:n], found[n:]
