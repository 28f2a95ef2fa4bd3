"""Scores of all candidates: equation (7.5)."""

from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import fisher, hosts, score
from ctrak_jax.abc.inputs import content, prompt_key
from ctrak_jax.abc.prepared import Benchmark, Candidates
from ctrak_jax.abc.questions import query_key
from ctrak_jax.abc.results import CandidateScores, write
from ctrak_jax.log import meter, stage
from ctrak_jax.methods import METHODS
from ctrak_jax.run import model_file
from ctrak_jax.run.features import IN_MEMORY, in_memory, open_features, solve
from ctrak_jax.run.keys import settings_of
from ctrak_jax.store import FeatureStore


def write_scores(bench: Benchmark) -> None:
    """Scores of all candidates, and the measures."""
    folder, methods = bench.folder, bench.config.methods
    out, laion, exemplars = folder.root, bench.laion(), bench.exemplar_candidates()
    key = _key(bench, laion, exemplars)
    finished = folder.fresh("abc", key, *(out / f"abc.{kind}" for kind in ("json", "csv", "md")))
    hosts.barrier("scoring")  # all have looked before the first one writes
    if finished:
        return
    title = "abc scores"
    with stage(out, title, bench.mesh.size) as record, meter(title, len(methods)) as bar:
        found: dict[str, CandidateScores] = {}
        for method in methods:
            scored = _scored(bench, laion, exemplars, method)
            if scored is not None:
                found[method] = scored
            bar.advance(1)
        record.samples = len(laion.rows) * len(methods)
        record.extra = {"solvers": {name: c.solver for name, c in found.items()}}
        if hosts.is_first():
            write(bench, found)
            if not bench.config.score.keep_all:
                for method in methods:
                    _scores_file(out, method).unlink()
            folder.finish("abc", key)
    hosts.barrier("scored")


def _key(bench: Benchmark, laion: Candidates, exemplars: Candidates) -> dict[str, Any]:
    """What the measures depend on."""
    return {
        **model_file.key(bench.folder.model, bench.config.model.dtype),
        "laion": [laion.rows.tolist(), laion.inputs.key],
        "exemplars": exemplars.inputs.key,
        "tasks": [
            [content(task.image), prompt_key(q.prompt), prompt_key(q.minus), *map(str, task)]
            for task, q in zip(bench.abc.tasks, bench.asked, strict=True)
        ],
        **settings_of(bench.config, "abc"),
    }


def _scores_file(out: Path, method: str) -> Path:
    return out / "scores" / f"{method}.npy"


def _scored(
    bench: Benchmark, laion: Candidates, exemplars: Candidates, method: str
) -> CandidateScores | None:
    """Equation (7.5) for every task; LAION's scores go to disk. None in a process that has no part
    in it, or that does not measure."""
    file = _scores_file(bench.folder.root, method)
    if hosts.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(bench.asked), len(laion.rows))
        np.lib.format.open_memmap(file, "w+", np.float32, shape).flush()
    hosts.barrier("scores begun")
    solver, own_rows = (
        bench.config.score.solver,
        [slice(r.start, r.stop) for r in bench.exemplars.of],
    )
    features = open_features(laion.store(method), bench.mesh, None if solver == "auto" else solver)
    if features.solver == "spectrum" and features.rows.n < features.rows.k:
        features = features._replace(solver="dual")  # the spectrum's scores no other rows
    if features.solver in IN_MEMORY and not hosts.is_first():
        return None
    features, own = in_memory(features), exemplars.store(method).read()
    asked = FeatureStore.open(bench.folder.query_features(method), query_key(bench, method)).read()
    solution, tasks = solve(features, np.concatenate([asked, own]), [bench.damping]), len(asked)
    among = np.concatenate(
        [np.asarray(block.features)[0] for block in solution.scores(fisher.Matrix(own))], axis=1
    )
    rests = [
        _shares(among[n, rows], among[tasks:][rows][:, rows]) for n, rows in enumerate(own_rows)
    ]
    weights, own_weights = _weights(laion, exemplars, method)
    scores = np.lib.format.open_memmap(file, "r+")
    for block in solution.scores(features.rows):
        part, found = slice(block.rows.start, block.rows.stop), np.asarray(block.features)[0]
        for number, rows in enumerate(own_rows):
            influence = found[number] - rests[number] @ found[tasks:][rows]
            scores[number, part] = influence * weights[part]
    scores.flush()
    if features.shared:
        hosts.barrier("scores written")
    if not hosts.is_first():
        return None
    mine = [
        (rest * own_weights[rows]).astype(np.float32)
        for rest, rows in zip(rests, own_rows, strict=True)
    ]
    return CandidateScores(mine, np.lib.format.open_memmap(file, "r"), solution.solver)


def _shares(query: np.ndarray, among: np.ndarray) -> np.ndarray:
    """S(q, X) (I + S(X, X))^-1, which is also what equation (7.5) makes of S(q, X)."""
    damped = np.eye(len(query)) + np.asarray(among, np.float64)
    return np.linalg.solve(damped.T, np.asarray(query, np.float64))


def _weights(
    laion: Candidates, exemplars: Candidates, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of LAION rows and of exemplars by their denoising errors; norms over both."""
    n, form = len(laion.rows), METHODS[method].error_weight
    if form is None:
        return np.ones(n, np.float32), np.ones(len(exemplars.rows), np.float32)
    errors = [part.store(method).read("errors") for part in (laion, exemplars)]
    found = np.asarray(score.error_weights(np.concatenate(errors), form))
    return found[:n], found[n:]
