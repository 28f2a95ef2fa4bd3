"""Scores of all candidates: equation (7.5)."""

import json
from pathlib import Path
from typing import Any, NamedTuple

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
from ctrak_jax.store.files import read_json, write_atomically


def write_scores(bench: Benchmark) -> None:
    """Scores of all candidates, and the measures."""
    folder, methods = bench.folder, bench.config.methods
    out, laion, exemplars = folder.root, bench.laion(), bench.exemplar_candidates()
    key, files = _key(bench, laion, exemplars), [_files(out, method) for method in methods]
    measures_key = {"scores": key, **settings_of(bench.config, "abc measures")}
    measured = folder.fresh("abc", measures_key, *(out / f"abc.{k}" for k in ("json", "csv", "md")))
    scored = folder.fresh("abc scores", key, *(file for pair in files for file in pair))
    hosts.barrier("scoring")  # all have looked before the first one writes
    if measured:
        return
    if not scored:
        title = "abc scores"
        with stage(out, title, bench.mesh.size) as record, meter(title, len(methods)) as bar:
            solvers = record.extra.setdefault("solvers", {})
            for method in methods:
                solvers[method] = _score(bench, laion, exemplars, method)
                bar.advance(1)
            record.samples = len(laion.rows) * len(methods)
            if hosts.is_first():
                write_atomically(out / "scores" / "solvers.json", json.dumps(solvers))
                folder.finish("abc scores", key)
        hosts.barrier("scored")
    if hosts.is_first():
        write(bench, {method: _read(bench, method) for method in methods})
        if not bench.config.score.keep_all:
            for pair in files:
                pair.laion.unlink()
        folder.finish("abc", measures_key)


class ScoreFiles(NamedTuple):
    """Scores of a method: of LAION [task, row], and of every task's exemplars end to end."""

    laion: Path
    exemplars: Path


def _files(out: Path, method: str) -> ScoreFiles:
    folder = out / "scores"
    return ScoreFiles(folder / f"{method}.npy", folder / f"{method}-exemplars.npy")


def _read(bench: Benchmark, method: str) -> CandidateScores:
    """A method's scores from disk, those of LAION mapped."""
    out = bench.folder.root
    files, counts = _files(out, method), [len(task.exemplars) for task in bench.abc.tasks]
    own = np.split(np.load(files.exemplars), np.cumsum(counts)[:-1])
    solver = read_json(out / "scores" / "solvers.json", "abc")[method]
    return CandidateScores(own, np.lib.format.open_memmap(files.laion, "r"), solver)


def _key(bench: Benchmark, laion: Candidates, exemplars: Candidates) -> dict[str, Any]:
    """What the scores depend on."""
    return {
        **model_file.key(bench.folder.model, bench.config.model.dtype),
        "laion": [laion.rows.tolist(), laion.inputs.key],
        "exemplars": exemplars.inputs.key,
        "tasks": [
            [content(task.image), prompt_key(q.prompt), prompt_key(q.minus), *map(str, task)]
            for task, q in zip(bench.abc.tasks, bench.asked, strict=True)
        ],
        **settings_of(bench.config, "abc scores"),
    }


def _score(bench: Benchmark, laion: Candidates, exemplars: Candidates, method: str) -> str:
    """Equation (7.5) for every task; the scores go to disk.

    Returns:
        The solver.
    """
    file, own_file = _files(bench.folder.root, method)
    if hosts.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(bench.asked), len(laion.rows))
        np.lib.format.open_memmap(file, "w+", np.float32, shape).flush()
    hosts.barrier("scores begun")
    solver = bench.config.score.solver
    own_rows = [slice(r.start, r.stop) for r in bench.exemplars.of]
    features = open_features(laion.store(method), bench.mesh, None if solver == "auto" else solver)
    if features.solver == "spectrum" and features.rows.n < features.rows.k:
        features = features._replace(solver="dual")  # the spectrum's scores no other rows
    if features.solver in IN_MEMORY and not hosts.is_first():
        return features.solver
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
    if hosts.is_first():
        mine = [rest * own_weights[rows] for rest, rows in zip(rests, own_rows, strict=True)]
        np.save(own_file, np.concatenate(mine).astype(np.float32))
    return solution.solver


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
