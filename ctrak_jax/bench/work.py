"""What is timed: featurize, projection, solve and scoring, NumPy beside the last two."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ctrak_jax import attribution, fisher
from ctrak_jax import config as cfg
from ctrak_jax.bench.timing import Call, Row, in_turns, of_program
from ctrak_jax.config.recipes import projection_of, recipe_of
from ctrak_jax.data import build
from ctrak_jax.devices import ShardedRows, local_mesh
from ctrak_jax.inputs.base import NegativeRule
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.inputs.pixels import Pixels
from ctrak_jax.methods import METHODS, GradientSpec, concept_trak, train_specs
from ctrak_jax.models.architecture import architecture_of, model_files_of
from ctrak_jax.precision import policy_of
from ctrak_jax.projection import (
    KINDS,
    Projection,
    implementation_of,
    project,
    project_leaves,
    reference,
)
from ctrak_jax.run.features import TrainingFeatures, ranked, rows_per_block
from ctrak_jax.run.network import split
from ctrak_jax.store import FeatureStore

SOLVE_ROWS = 1_500
"""Samples of the solve."""
TOP = 100
"""Length of the rankings."""
REFERENCE = 2
"""The reference projects gradients of length REFERENCE k: its matrix is written out."""

FEATURIZED = METHODS | {"concept-trak, published": concept_trak("inversion", "own")}
"""Methods whose training gradients are timed."""


class Sizes(NamedTuple):
    """What is timed: samples or queries a call, length and number of features, timed calls."""

    batch: int
    k: int
    rows: int
    repeats: int


class Subject(NamedTuple):
    """A network with random weights and a batch to featurize."""

    recipe: attribution.Recipe
    network: attribution.Network
    params: attribution.Weights
    batch: attribution.TrainBatch


def subject(batch: int, k: int) -> Subject:
    """The `tiny` network of the default config; noise on its first weights opens its gates."""
    config = cfg.Config(projection=cfg.ProjectionConfig(k=k))
    data, t = build(config.data), config.trajectory
    shape, size = data.image_shape, data.conditions.size
    files = model_files_of(config.model, Path())
    architecture = architecture_of(
        config.model,
        config.schedule,
        files=files,
        image_shape=shape,
        condition_size=size,
        precision=policy_of(config.run.precision),
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32),
        architecture.create(0),
    )
    denoiser = architecture.denoiser(params, local_mesh(1))
    found = split(denoiser, ("*",), (), projection_of(config))
    samples = train_samples(Pixels(data, NegativeRule(t.negative, t.negatives)), data.train_index)
    rows = np.arange(batch) % len(data.train_index)
    return Subject(recipe_of(config, architecture.schedule), *found, samples.batch(rows))


def features_of(of: Subject, spec: GradientSpec) -> Callable[..., attribution.TrainFeatures]:
    """Featurizes the batch by one gradient: ``step(params, batch)``."""
    null = np.zeros_like(np.asarray(of.batch.cond)[0])
    featurized = partial(attribution.train_features, of.recipe, of.network, null=null)
    return lambda params, batch: featurized(params, [spec], batch)


def featurize(sizes: Sizes) -> list[Row]:
    """Features of each distinct training gradient, projection included, tiny model."""
    found, calls = subject(sizes.batch, sizes.k), []
    for spec in train_specs(tuple(FEATURIZED), FEATURIZED):
        null_condition = ", null condition" if spec.condition == "null" else ""
        normalised = ", normalised" if spec.normalise else ""
        name = f"{spec.loss}, {spec.path}{normalised}{null_condition}"
        run = features_of(found, spec)
        calls.append(of_program(name, run, (found.params, found.batch), sizes.batch))
    return in_turns(calls, sizes.repeats)


def projection(sizes: Sizes) -> list[Row]:
    """Each kind and each implementation that runs here, at the `tiny` network's d = 334,784; and
    each kind beside the NumPy reference that writes the matrix out, at d = 2 k."""
    batch, k, _, repeats = sizes
    rng = np.random.default_rng(0)
    shapes = [leaf.shape for leaf in subject(1, k).params.chosen.values()]
    leaves = [rng.standard_normal((batch, *shape)).astype(np.float32) for shape in shapes]
    g = np.concatenate([leaf.reshape(batch, -1) for leaf in leaves], axis=1)
    calls = []
    for kind in KINDS:
        of = Projection(k, kind, implementation="xla")
        auto = of._replace(implementation="auto")
        for one in (of,) if implementation_of(auto) == "xla" else (auto, of):
            name = f"{kind}, {implementation_of(one)}"
            calls.append(of_program(name, partial(project, projection=one), (g,), batch))
    run = partial(project_leaves, projection=Projection(k, "factored"))
    calls.append(of_program("factored, of gradients by leaf", run, (leaves,), batch))

    short, d = g[:, : REFERENCE * k], REFERENCE * k
    for kind in KINDS:
        run = partial(project, projection=Projection(k, kind, implementation="xla"))
        plain = f"{kind}, reference, d = {d}"
        calls.append(Call(plain, partial(reference.project, kind, 0, short, k), batch))
        name = f"{kind}, xla, d = {d}"
        calls.append(of_program(name, run, (short,), batch, peer=plain, truth=plain))
    return in_turns(calls, repeats)


def solve(sizes: Sizes) -> list[Row]:
    """Every solver on 1,500 samples, and NumPy (LAPACK, float32) beside the direct ones: all
    damping values, a batch of queries, and their scores."""
    batch, k, _, repeats = sizes
    rng = np.random.default_rng(0)
    features = rng.standard_normal((SOLVE_ROWS, k)).astype(np.float32)
    queries = rng.standard_normal((batch, k)).astype(np.float32)
    rows, multiples = fisher.Matrix(features), cfg.Config().score.damping

    def all_scores(solver: fisher.Solver) -> np.ndarray:
        solution = fisher.solve(rows, queries, multiples, solver=solver)
        return np.concatenate([block.features for block in solution.scores(rows)], axis=-1)

    calls = []
    for solver in fisher.SOLVERS:
        truth = None if solver == "spectrum" else "spectrum"
        peer = f"{solver}, numpy" if solver in NUMPY_SOLVERS else None
        calls.append(Call(solver, partial(all_scores, solver), batch, peer=peer, truth=truth))
        if peer:
            run = partial(NUMPY_SOLVERS[solver], features, queries, multiples)
            calls.append(Call(peer, run, batch, truth="spectrum"))
    return in_turns(calls, repeats)


def _spectrum(features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]) -> np.ndarray:
    """Scores [damping, query, sample] by an eigendecomposition of the smaller side: equation (5.14)
    in float32."""
    n, k = features.shape
    dual = n < k
    values, vectors = np.linalg.eigh(features @ features.T if dual else features.T @ features)
    right = (queries @ features.T if dual else queries) @ vectors
    left = vectors if dual else features @ vectors
    return np.stack([(right / (values + lam)) @ left.T for lam in _lams(features, multiples)])


def _factored(
    features: np.ndarray, queries: np.ndarray, multiples: Sequence[float], *, dual: bool
) -> np.ndarray:
    """The same by a Cholesky factor for each damping: of G + lambda I, equation (5.10); or of
    K = Phi Phi^T, where Phi z of equation (5.13) is (K + lambda I)^-1 Phi phi."""
    gram = features @ features.T if dual else features.T @ features
    right = queries @ features.T if dual else queries
    scores = []
    for lam in _lams(features, multiples):
        factor = scipy.linalg.cho_factor(gram + lam * np.eye(len(gram), dtype=np.float32))
        solved = scipy.linalg.cho_solve(factor, right.T).T
        scores.append(solved if dual else solved @ features.T)
    return np.stack(scores)


def _lams(features: np.ndarray, multiples: Sequence[float]) -> list[np.float32]:
    trace = np.sum(np.square(features), dtype=np.float64)
    return [np.float32(0.1 * r * trace / features.shape[1]) for r in multiples]


NUMPY_SOLVERS = {
    "spectrum": _spectrum,
    "cholesky": partial(_factored, dual=False),
    "dual": partial(_factored, dual=True),
}


def scoring(sizes: Sizes) -> list[Row]:
    """Rows per second of scoring for a batch of queries: from memory beside NumPy, and from disk
    beside plain reads of the same files, with the page cache emptied of them before each call and
    with it full."""
    batch, k, n, repeats = sizes
    peer, rng = "from memory, numpy", np.random.default_rng(0)
    z = rng.standard_normal((batch, k)).astype(np.float32)
    gflops, depth, mesh = 2e-9 * n * k * batch, min(TOP, n), local_mesh(1)
    with tempfile.TemporaryDirectory(dir=".", prefix="ctrak-bench-") as folder:
        store = _random_store(Path(folder) / "store", n, k, rng)
        files = [f for f in sorted(Path(store.place).glob("features/c/**/*")) if f.is_file()]
        size = rows_per_block(k, len(store.chunks[0]))

        def blocks(part: range) -> Iterator[fisher.Block]:
            return (fisher.Block(*block) for block in store.blocks("features", size, part))

        disk = ShardedRows(mesh, n, k, blocks, block=size, resident=False)
        memory = fisher.Matrix(disk.whole())
        solution = fisher.Vectors("cg", jnp.asarray(z)[None], 0, ())

        def top(rows: fisher.Rows) -> Any:
            features = TrainingFeatures(rows, str(store.place), None, "cg")
            return ranked(features, solution, depth, keep=False).ranking.score[0]

        def forget() -> None:
            os.sync()
            for file in files:
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def raw() -> int:
            return sum(len(file.read_bytes()) for file in files)

        found = []
        for cache, before in {"empty": forget, "full": lambda: None}.items():
            plain, name = f"raw read, cache {cache}", f"from disk, cache {cache}"
            read = Call(plain, raw, n, before=before)
            scored = Call(name, lambda: top(disk), n, gflops=gflops, before=before, peer=plain)
            found += in_turns([read, scored], repeats)
        matrix = np.asarray(memory.features)
        in_memory = [
            Call("from memory", lambda: top(memory), n, gflops=gflops, peer=peer, truth=peer),
            Call(peer, lambda: numpy_top(z, matrix, depth), n, gflops=gflops),
            Call(f"{peer} matmul alone", lambda: z @ matrix.T, n, gflops=gflops),
        ]
        return [*found, *in_turns(in_memory, repeats)]


def numpy_top(z: np.ndarray, features: np.ndarray, depth: int) -> np.ndarray:
    """The ``depth`` largest scores of every query, best first: [query, rank]."""
    scores = z @ features.T
    best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
    return -np.sort(-np.take_along_axis(scores, best, axis=1), axis=1)


def _random_store(path: Path, n: int, k: int, rng: np.random.Generator) -> FeatureStore:
    """A complete store of the default chunk size; its chunks differ by a factor."""
    chunk = cfg.Config().store.chunk
    store = FeatureStore.create(
        path, {"bench": [n, k]}, index=np.arange(n), widths={"features": k}, chunk=chunk
    )
    values = rng.standard_normal((chunk, k)).astype(np.float32)
    for rows in store.missing:
        store.write(rows, {"features": values[: len(rows)] * (1 + rows.start / n)})
    store.flush()
    return store
