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

from ctrak_jax import config as cfg
from ctrak_jax import fisher
from ctrak_jax.attribution import (
    Network,
    Recipe,
    TrainBatch,
    TrainFeatures,
    Weights,
    differentiable,
    train_features,
)
from ctrak_jax.bench.timing import Call, Row, in_turns, nothing, of_program
from ctrak_jax.data import build
from ctrak_jax.devices import ShardedRows, local_mesh
from ctrak_jax.inputs.base import NegativeRule
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.inputs.pixels import Pixels
from ctrak_jax.methods import METHODS, GradientSpec, train_specs
from ctrak_jax.models.architecture import architecture_of
from ctrak_jax.projection import (
    KINDS,
    Projection,
    implementation_of,
    project,
    project_leaves,
    reference,
)
from ctrak_jax.run.features import TrainingFeatures, ranked, rows_per_block
from ctrak_jax.store import FeatureStore

SOLVE_ROWS = 1_500
"""Samples of the solve."""
TOP = 100
"""Length of the rankings."""
REFERENCE = 2
"""The reference projects gradients of length REFERENCE k: its matrix is written out."""


class Sizes(NamedTuple):
    """What is timed: samples or queries a call, length and number of features, timed calls."""

    batch: int
    k: int
    rows: int
    repeats: int


class Subject(NamedTuple):
    """A network with random weights and a batch to featurize."""

    recipe: Recipe
    network: Network
    params: Weights
    batch: TrainBatch


def subject(batch: int, k: int) -> Subject:
    """The `tiny` network of the default config; noise on its first weights opens its gates."""
    config = cfg.Config(projection=cfg.ProjectionConfig(k=k))
    data = build(config.data)
    architecture = architecture_of(
        config.model,
        config.schedule,
        folder=Path(),
        image_shape=data.image_shape,
        condition_size=data.conditions.size,
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.05 * rng.standard_normal(leaf.shape, np.float32),
        architecture.create(0),
    )
    eps_fn, layers_fn, params, exact_fn = architecture.denoiser(params, local_mesh(1))
    found = differentiable(eps_fn, params, layers_fn=layers_fn, exact_fn=exact_fn)
    t = config.trajectory
    inputs = Pixels(data, NegativeRule(t.negative, t.negatives))
    rows = np.arange(batch) % len(data.train_index)
    recipe = cfg.recipe_of(config, architecture.schedule)
    return Subject(recipe, *found, train_samples(inputs, data.train_index).batch(rows))


def featurize(sizes: Sizes) -> list[Row]:
    """Features of each distinct training gradient, projection included, tiny model."""
    recipe, network, params, samples = subject(sizes.batch, sizes.k)
    calls = [
        of_program(
            f"{spec.loss}, {spec.path}{', normalised' if spec.normalise else ''}",
            partial(_features, recipe, network, spec),
            (params, samples),
            sizes.batch,
        )
        for spec in train_specs(tuple(METHODS))
    ]
    return in_turns(calls, sizes.repeats)


def _features(
    recipe: Recipe, network: Network, spec: GradientSpec, params: Weights, batch: TrainBatch
) -> TrainFeatures:
    return train_features(recipe, network, params, [spec], batch)


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


def numpy_spectrum(
    features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]
) -> np.ndarray:
    """Scores [damping, query, sample] by an eigendecomposition of the smaller side: equation (5.14)
    in float32."""
    n, k = features.shape
    dual = n < k
    values, vectors = np.linalg.eigh(features @ features.T if dual else features.T @ features)
    right = (queries @ features.T if dual else queries) @ vectors
    left = vectors if dual else features @ vectors
    return np.stack([(right / (values + lam)) @ left.T for lam in _lams(features, multiples)])


def numpy_cholesky(
    features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]
) -> np.ndarray:
    """The same by a Cholesky factor of G + lambda I for each damping: equation (5.10)."""
    gram, solved = features.T @ features, []
    for lam in _lams(features, multiples):
        factor = scipy.linalg.cho_factor(gram + lam * np.eye(len(gram), dtype=np.float32))
        solved.append(scipy.linalg.cho_solve(factor, queries.T).T @ features.T)
    return np.stack(solved)


def numpy_dual(features: np.ndarray, queries: np.ndarray, multiples: Sequence[float]) -> np.ndarray:
    """The same by a factor of the n x n side: Phi z of equation (5.13) is
    (K + lambda I)^-1 Phi phi with K = Phi Phi^T."""
    kernel, seen, solved = features @ features.T, features @ queries.T, []
    for lam in _lams(features, multiples):
        factor = scipy.linalg.cho_factor(kernel + lam * np.eye(len(kernel), dtype=np.float32))
        solved.append(scipy.linalg.cho_solve(factor, seen).T)
    return np.stack(solved)


def _lams(features: np.ndarray, multiples: Sequence[float]) -> list[np.float32]:
    trace = np.sum(np.square(features), dtype=np.float64)
    return [np.float32(0.1 * r * trace / features.shape[1]) for r in multiples]


NUMPY_SOLVERS: dict[str, Callable[[np.ndarray, np.ndarray, Sequence[float]], np.ndarray]] = {
    "spectrum": numpy_spectrum,
    "cholesky": numpy_cholesky,
    "dual": numpy_dual,
}


def scoring(sizes: Sizes) -> list[Row]:
    """Rows per second of scoring for a batch of queries: from memory beside NumPy, and from disk
    beside plain reads of the same files, with the page cache emptied of them before each call and
    with it full."""
    batch, k, n, repeats = sizes
    rng = np.random.default_rng(0)
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
            found = ranked(
                TrainingFeatures(rows, str(store.place), None, "cg"), solution, depth, keep=False
            ).ranking
            return found.score[0]

        def forget() -> None:
            os.sync()
            for file in files:
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def raw() -> int:
            return sum(len(file.read_bytes()) for file in files)

        def beside(cache: str, before: Callable[[], None]) -> list[Row]:
            plain, name = f"raw read, cache {cache}", f"from disk, cache {cache}"
            read = Call(plain, raw, n, before=before)
            scored = Call(name, lambda: top(disk), n, gflops=gflops, before=before, peer=plain)
            return in_turns([read, scored], repeats)

        peer, matrix = "from memory, numpy", np.asarray(memory.features)
        in_memory = [
            Call("from memory", lambda: top(memory), n, gflops=gflops, peer=peer, truth=peer),
            Call(peer, lambda: numpy_top(z, matrix, depth), n, gflops=gflops),
            Call(f"{peer} matmul alone", lambda: z @ matrix.T, n, gflops=gflops),
        ]
        empty, full = beside("empty", forget), beside("full", nothing)
        return [*empty, *full, *in_turns(in_memory, repeats)]


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
