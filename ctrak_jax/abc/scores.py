"""Scores of all candidates: equation (7.5)."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax import fisher, hosts, score
from ctrak_jax.abc.inputs import content, prompt_key
from ctrak_jax.abc.prepared import Benchmark, Candidates
from ctrak_jax.abc.questions import query_key
from ctrak_jax.abc.references import reference_scores
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
    folder, methods = bench.results, bench.config.methods
    references = bench.config.compared_references
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
        found = {method: _read(bench, method) for method in methods}
        write(bench, found | {name: reference_scores(bench, name) for name in references})
        if not bench.config.score.keep_all:
            for pair in files:
                pair.laion.unlink()
        folder.finish("abc", measures_key)


class ScoreFiles(NamedTuple):
    """Scores of a method: of LAION [damping, task, row], and of every task's exemplars and decoys
    end to end [damping, exemplar]."""

    laion: Path
    exemplars: Path


def _files(out: Path, method: str) -> ScoreFiles:
    folder = out / "scores"
    return ScoreFiles(folder / f"{method}.npy", folder / f"{method}-exemplars.npy")


def _read(bench: Benchmark, method: str) -> CandidateScores:
    """A method's scores from disk, those of LAION mapped."""
    out = bench.results.root
    files, counts = _files(out, method), [len(rows) for rows in bench.exemplars.of]
    own = np.split(np.load(files.exemplars), np.cumsum(counts)[:-1], axis=1)
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
        "dampings": list(bench.dampings),
        **settings_of(bench.config, "abc scores"),
    }


def _score(bench: Benchmark, laion: Candidates, exemplars: Candidates, method: str) -> str:
    """Equation (7.5) for every task and damping; the scores go to disk.

    Returns:
        The solver.
    """
    file, own_file = _files(bench.results.root, method)
    if hosts.is_first():
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (len(bench.dampings), len(bench.asked), len(laion.rows))
        np.lib.format.open_memmap(file, "w+", np.float32, shape).flush()
    hosts.barrier("scores begun")
    config = bench.config
    solver = config.score.solver
    own_rows = [np.array(rows) for rows in bench.exemplars.of]
    features = open_features(laion.store(method), bench.mesh, None if solver == "auto" else solver)
    if features.solver in IN_MEMORY and not hosts.is_first():
        return features.solver
    features, own = in_memory(features), exemplars.store(method).read()
    asked = FeatureStore.open(bench.folder.query_features(method), query_key(bench, method)).read()
    solution, tasks = solve(features, np.concatenate([asked, own]), bench.dampings), len(asked)
    among = np.concatenate([b.features for b in _scored(solution, fisher.Matrix(own))], axis=2)
    alone = config.score.kernel == "laion"
    own_scores = [_own(found, own_rows, alone=alone) for found in among]
    weights, own_weights = _weights(laion, exemplars, method)
    scores = np.lib.format.open_memmap(file, "r+")
    for block in _scored(solution, features.rows):
        part = slice(block.rows.start, block.rows.stop)
        for place, found in enumerate(np.asarray(block.features)):
            for number, rows in enumerate(own_rows):
                influence = found[number]
                if not alone:
                    influence = influence - own_scores[place][number] @ found[tasks:][rows]
                scores[place, number, part] = influence * weights[part]
    scores.flush()
    if features.shared:
        hosts.barrier("scores written")
    if hosts.is_first():
        weighed = [
            [mine * own_weights[rows] for mine, rows in zip(found, own_rows, strict=True)]
            for found in own_scores
        ]
        np.save(own_file, np.stack([np.concatenate(f) for f in weighed]).astype(np.float32))
    return solution.solver


def _scored(solution: fisher.Solution, rows: fisher.Rows) -> Iterator[fisher.Block]:
    """Scores [damping, query, row] of any rows, block by block; those of the spectrum, which keeps
    those of its own rows alone, by z of equation (5.10) in float64."""
    if isinstance(solution, fisher.Vectors):
        yield from solution.scores(rows)
        return
    z = solution.vectors()
    for block in rows.blocks():
        yield fisher.Block(block.rows, z @ np.asarray(block.features, np.float64).T)


def _own(among: np.ndarray, own_rows: Sequence[np.ndarray], *, alone: bool) -> list[np.ndarray]:
    """Every task's scores of its own exemplars, by equation (7.5), or ``alone`` by LAION's Fisher.

    Args:
        among: S of the tasks, then of all exemplars, with all exemplars.
        own_rows: each task's exemplars and decoys.
        alone: without them in the Fisher.
    """
    exemplars = among[len(own_rows) :]
    found = [(among[n, rows], exemplars[rows][:, rows]) for n, rows in enumerate(own_rows)]
    return [query if alone else _shares(query, own) for query, own in found]


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
