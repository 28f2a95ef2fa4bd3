"""One list of truths for every solver, on one device, on many and block by block; rankings."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from ctrak_jax import fisher
from ctrak_jax.devices import SAMPLES, SampleSum, ShardedRows, local_mesh
from ctrak_jax.errors import StoreError
from ctrak_jax.run.features import TrainingFeatures, solve
from ctrak_jax.score import error_weights, influence, top_k

MULTIPLES = (0.1, 1.0, 100.0)
SHAPES = {"fewer samples": (40, 96), "as many": (96, 96), "more samples": (300, 96)}


def problem(n, k, seed=0, rank=None):
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-1, 0.5, k)
    features = rng.standard_normal((n, k)) * scales
    if rank is not None:
        features = features[:, :rank] @ rng.standard_normal((rank, k))
    return features.astype(np.float32), rng.standard_normal((5, k)).astype(np.float32)


def truth(features, queries, multiple):
    """z in float64."""
    phi, q = features.astype(np.float64), queries.astype(np.float64)
    gram = phi.T @ phi
    lam = 0.1 * multiple * np.trace(gram) / gram.shape[0]
    return np.linalg.solve(gram + lam * np.eye(len(gram)), q.T).T


def true_scores(features, queries, multiples):
    phi = features.astype(np.float64).T
    return np.stack([truth(features, queries, multiple) @ phi for multiple in multiples])


def solved(solver, features, queries, multiples):
    solution = fisher.solve(fisher.Matrix(features), queries, multiples, solver=solver)
    assert solution.solver == solver
    return scores_of(solution, fisher.Matrix(features))


def scores_of(solution, rows):
    return np.concatenate([block.features for block in solution.scores(rows)], axis=2)


def agree(found, expected, bound):
    """Relative distance, damping by damping."""
    assert found.shape == expected.shape
    for one, other in zip(found, expected, strict=True):
        assert np.linalg.norm(one - other) <= bound * np.linalg.norm(other)


# Every solver, every truth.


@pytest.mark.parametrize("solver", fisher.SOLVERS)
class TestEverySolver:
    @pytest.mark.parametrize(("n", "k"), SHAPES.values(), ids=SHAPES)
    def test_agrees_with_float64(self, solver, n, k):
        features, queries = problem(n, k)
        expected = true_scores(features, queries, MULTIPLES)
        agree(solved(solver, features, queries, MULTIPLES), expected, BOUND[solver])

    def test_features_of_low_rank(self, solver):
        features, queries = problem(60, 96, rank=7)
        expected = true_scores(features, queries, MULTIPLES)
        agree(solved(solver, features, queries, MULTIPLES), expected, BOUND[solver])

    @pytest.mark.parametrize("scale", [1e-25, 1e-4, 1e4, 1e22])
    def test_scores_of_scaled_features_and_queries(self, solver, scale):
        """Features c phi and queries d q: G scales with c^2 and so does lambda, scores by d/c."""
        features, queries = problem(40, 96)
        plain = solved(solver, features, queries, MULTIPLES)
        scaled = solved(solver, features * np.float32(scale), queries * np.float32(7), MULTIPLES)
        agree(scaled * scale / 7, plain, BOUND[solver])

    @pytest.mark.parametrize("scale", [1e-28, 1e28])
    def test_queries_whose_squares_leave_float32(self, solver, scale):
        features, queries = problem(40, 96)
        plain = solved(solver, features, queries, MULTIPLES)
        scaled = solved(solver, features, queries * np.float32(scale), MULTIPLES)
        agree(scaled / np.float32(scale), plain, BOUND[solver])

    @pytest.mark.parametrize("n", [40, 300])
    def test_a_large_damping_is_the_inner_product_over_lambda(self, solver, n):
        features, queries = problem(n, 96)
        lam = 0.1 * 1e7 * (features.astype(np.float64) ** 2).sum() / 96
        expected = (queries @ features.T)[None] / lam
        agree(solved(solver, features, queries, [1e7]), expected, 1e-5)

    def test_a_zero_query_scores_zero(self, solver):
        features, queries = problem(40, 96)
        queries[1] = 0
        found = solved(solver, features, queries, MULTIPLES)
        assert np.all(found[:, 1] == 0)
        agree(found, true_scores(features, queries, MULTIPLES), BOUND[solver])

    def test_queries_and_dampings_do_not_meet(self, solver):
        features, queries = problem(40, 96)
        whole = solved(solver, features, queries, MULTIPLES)
        agree(
            solved(solver, features, queries[2:3], MULTIPLES[1:2]), whole[1:2, 2:3], BOUND[solver]
        )

    def test_zero_features_are_refused(self, solver):
        with pytest.raises(ArithmeticError, match="All features are zero"):
            solved(solver, np.zeros((4, 32), np.float32), np.ones((1, 32), np.float32), [1.0])


@pytest.mark.parametrize("solver", fisher.SOLVERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("multiples", "size"), [(MULTIPLES, 1.0), ((1.0,), 1.0), ((1.0,), 1e-20)])
def test_vectors_are_the_solution(solver, shape, multiples, size):
    """z itself, also of features and queries that are scaled for float32."""
    features, queries = (np.float32(size) * part for part in problem(*SHAPES[shape]))
    solution = fisher.solve(fisher.Matrix(features), queries, multiples, solver=solver)
    expected = np.stack([truth(features, queries, multiple) for multiple in multiples])
    agree(solution.vectors(), expected, 5e-3)


BOUND = {"spectrum": 1e-6, "cholesky": 1e-4, "dual": 1e-4, "cg": 2e-3}
"""float64 and float32 rounding, and the residual that conjugate gradients stop at."""


@pytest.mark.parametrize("solver", ["cholesky", "dual", "cg"])
def test_residuals_are_those_of_z(solver):
    features, queries = problem(60, 96)
    solution = fisher.solve(fisher.Matrix(features), queries, MULTIPLES, solver=solver)
    assert isinstance(solution, fisher.Vectors)
    phi = features.astype(np.float64)
    for multiple, z, residual in zip(MULTIPLES, solution.z, solution.residual, strict=True):
        lam = 0.1 * multiple * (phi**2).sum() / 96
        left = queries - np.asarray(z) @ phi.T @ phi - lam * np.asarray(z)
        size = (np.linalg.norm(left, axis=1) / np.linalg.norm(queries, axis=1)).max()
        assert size <= 1e-3
        assert residual == pytest.approx(size, abs=2e-6)


def test_a_wide_spectrum_and_small_damping_in_few_products():
    """Eigenvalues over six decades, 1e-3 of their mean as the smallest lambda."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((96, 96)))[0]
    features = (rng.standard_normal((400, 96)) * 10.0 ** np.linspace(0, -3, 96)) @ basis
    features, queries = features.astype(np.float32), problem(1, 96)[1]
    multiples = (1e-2, 1e-1, 10.0)
    solution = fisher.solve(fisher.Matrix(features), queries, multiples, solver="cg")
    assert max(solution.residual) <= 1e-3
    assert solution.products <= 300
    found = scores_of(solution, fisher.Matrix(features))
    agree(found, true_scores(features, queries, multiples), 5e-3)


def test_conjugate_gradients_say_how_far_they_came():
    features, queries = problem(300, 96)
    with pytest.warns(RuntimeWarning, match=r"cg: relative residuals \{10.0: .* after 4 products"):
        solution = fisher.solve(fisher.Matrix(features), queries, (10.0, 1e4), solver="cg", limit=4)
    assert solution.products == 4
    assert solution.residual[0] > 1e-3 > solution.residual[1]
    with pytest.raises(ArithmeticError, match=r"\{0.001: .* after 4 products are above 0.1"):
        fisher.solve(fisher.Matrix(features), queries, (1e-3, 1e4), solver="cg", limit=4)


@pytest.mark.parametrize("solver", ["dual", "cg"])
@pytest.mark.parametrize(("n", "rank"), [(40, None), (60, 7)], ids=["full rank", "low rank"])
def test_what_is_no_solution_is_an_error(solver, n, rank):
    """At r = 1e-12 float32 has no solution; the scores would be of any size."""
    features, queries = problem(n, 96, rank=rank)
    with jax.debug_nans(False), pytest.raises(ArithmeticError, match=r"1e-12.*use larger"):
        fisher.solve(fisher.Matrix(features), queries, (1e-12, 1.0), solver=solver, limit=300)


@pytest.mark.parametrize("multiples", [[1e-22], [1e-22, 1.0]], ids=["factor", "eigenvalues"])
def test_float64_has_its_end_too(multiples):
    features, queries = problem(200, 96, rank=7)
    with pytest.raises(ArithmeticError, match=r"spectrum: relative residuals \{1e-22: .* no solut"):
        fisher.solve(fisher.Matrix(features), queries, multiples, solver="spectrum")


def test_a_factor_that_does_not_exist_is_an_error():
    features, queries = problem(20, 96, rank=1)
    with jax.debug_nans(False), pytest.raises(ArithmeticError, match=r"multiples \[1e-12\]"):
        fisher.solve(fisher.Matrix(features), queries, (1e-12, 1.0), solver="cholesky")


@pytest.mark.parametrize(
    ("n", "k", "memory", "solver"),
    [
        (1_000, 2_048, 8 * 2**30, "spectrum"),
        (100_000, 4_096, 16 * 2**30, "spectrum"),
        (100_000, 4_096, 2**30, "cholesky"),
        (100_000, 16_384, 8 * 2**30, "cholesky"),
        (8_000, 32_768, 8 * 2**30, "dual"),
        (100_000, 32_768, 8 * 2**30, "cg"),
        (1_000, 2_048, 2**20, "cg"),
    ],
)
def test_the_solver_follows_from_size_and_memory(n, k, memory, solver):
    assert fisher.choose(n, k, memory) == solver


def test_one_solve_takes_what_fits():
    features, queries = problem(300, 96)
    rows = fisher.Matrix(features)
    expected = true_scores(features, queries, MULTIPLES)
    for memory, solver in ((2**30, "spectrum"), (2**18, "cholesky"), (2**10, "cg")):
        solution = fisher.solve(rows, queries, MULTIPLES, memory=memory)
        assert solution.solver == solver
        agree(scores_of(solution, rows), expected, 1e-3)


# Features split over devices and read block by block


def sharded(features, devices, block, resident, axes=None):
    mesh = local_mesh(devices) if axes is None else axes

    def blocks(part):
        memory = np.empty((block, features.shape[1]), np.float32)
        for start in range(part.start, part.stop, block):
            span = range(start, min(start + block, part.stop))
            memory[: len(span)] = features[start : span.stop]  # as the store does: one memory
            yield fisher.Block(span, memory[: len(span)])
        memory[:] = 1e30

    n, k = features.shape
    return ShardedRows(mesh, n, k, blocks, block=block, resident=resident)


def two_axes():
    return Mesh(np.array(jax.devices()).reshape(2, 4), ("hosts", SAMPLES))


@pytest.mark.parametrize(
    ("devices", "resident"),
    [
        (1, False),
        (8, True),
        ("2x4", False),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(8, False, marks=pytest.mark.slow),
        pytest.param("2x4", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("solver", fisher.SOLVERS)
def test_devices_and_blocks_do_not_change_the_scores(solver, devices, resident):
    features, queries = problem(300, 96)
    axes = two_axes() if devices == "2x4" else None
    rows = sharded(features, 1 if axes else devices, 70, resident, axes)
    found = scores_of(fisher.solve(rows, queries, MULTIPLES, solver=solver), rows)
    one = solved(solver, features, queries, MULTIPLES)
    agree(found, one, BOUND[solver])


@pytest.mark.parametrize("fn", [fisher.outer, fisher.squares, fisher.normal_product])
@pytest.mark.parametrize("devices", [8, "2x4"])
@pytest.mark.parametrize("k", [96, 90], ids=["even shares", "uneven shares"])
def test_sums_over_eight_devices_are_those_of_one(fn, devices, k):
    features, queries = problem(300, k)
    axes = two_axes() if devices == "2x4" else None
    shared = queries if fn is fisher.normal_product else None
    found = np.asarray(sharded(features, 8, 70, False, axes).total(fn, shared))
    one = np.asarray(fisher.Matrix(features).total(fn, shared))
    assert np.linalg.norm(found - one) <= 1e-5 * np.linalg.norm(one)


@pytest.mark.parametrize("fn", [fisher.outer, fisher.normal_product])
def test_devices_meet_once_at_the_end(fn):
    """No collective in a step; one all-reduce in the flush, and across hosts of a share alone."""
    features, queries = problem(64, 96)
    shared = queries if fn is fisher.normal_product else None
    for mesh in (local_mesh(8), two_axes()):
        summed = SampleSum(fn, mesh)
        total = summed.zeros(shared, features)
        step = summed.add.lower(total, shared, features).compile().as_text() or ""
        flush = summed.flush.lower(total).compile().as_text() or ""
        assert not re.search("all-reduce|all-gather|reduce-scatter|all-to-all|permute", step)
        reduced = re.findall(r"= f32\[(\d+),(\d+)\]\S* all-reduce(?:-start)?\(", flush)
        assert len(reduced) == 1
        assert int(reduced[0][1]) == (96 if mesh.devices.ndim == 1 else 96 // 4)


@pytest.mark.parametrize(
    ("features", "multiple", "message"),
    [
        (np.zeros((20, 96), np.float32), 1.0, "All features are zero.* use another method"),
        (problem(20, 96, rank=1)[0], 1e-12, r"multiples \[1e-12\]; use larger ones"),
    ],
    ids=["zero", "no factor"],
)
def test_what_a_run_cannot_solve_names_its_features(features, multiple, message):
    found = TrainingFeatures(fisher.Matrix(features), "features/trak", None, "cholesky")
    with jax.debug_nans(False), pytest.raises(StoreError, match=f"features/trak: .*{message}"):
        solve(found, np.ones((1, 96), np.float32), [multiple])


def test_streaming_merging_and_one_go_are_the_same():
    features, _ = problem(300, 96)
    whole = fisher.update(fisher.init(96), jnp.asarray(features))
    stream = fisher.init(96)
    for start in range(0, 300, 70):
        stream = fisher.update(stream, jnp.asarray(features[start : start + 70]))
    halves = fisher.merge(
        [fisher.update(fisher.init(96), jnp.asarray(part)) for part in np.split(features, 2)]
    )
    exact = features.astype(np.float64).T @ features.astype(np.float64)
    for gram in (whole, stream, halves):
        assert int(gram.samples) == 300
        assert np.linalg.norm(gram.matrix - exact) <= 1e-5 * np.linalg.norm(exact)
        assert float(gram.trace) == pytest.approx(np.trace(exact), rel=1e-5)


def test_influence_of_many_queries_is_the_form_written_out():
    features, queries = problem(40, 96)
    z = fisher.dual(features, queries, [1.0])[0]
    weights = jnp.asarray(np.random.default_rng(2).uniform(0.5, 2, 40), jnp.float32)
    ours = influence(jnp.asarray(features), z, weights)
    expected = (truth(features, queries, 1.0) @ features.T) * np.asarray(weights)[None]
    assert np.linalg.norm(ours - expected) <= 1e-3 * np.linalg.norm(expected)


def test_top_k_breaks_ties_by_index():
    scores = jnp.array([[1.0, 3.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    ranking = top_k(scores, 4)
    assert ranking.samples.tolist() == [[1, 2, 4, 3], [0, 1, 2, 3]]
    assert ranking.score[0].tolist() == [3.0, 3.0, 3.0, 2.0]


@pytest.mark.parametrize("k", [0, 6])
def test_top_k_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k} must be between 1 and the 5 samples"):
        top_k(jnp.zeros((1, 5)), k)


def test_error_weights_of_both_published_forms():
    errors = jnp.array([[1.0, 4.0], [9.0, 16.0]])
    np.testing.assert_allclose(error_weights(errors, "sum"), [5.0, 25.0])
    columns = [[1 / np.sqrt(10), 3 / np.sqrt(10)], [2 / np.sqrt(20), 4 / np.sqrt(20)]]
    np.testing.assert_allclose(error_weights(errors, "rms"), np.mean(columns, axis=0), rtol=1e-6)


def test_damping_is_a_tenth_of_the_mean_eigenvalue_times_r():
    assert fisher.damping(20.0, 10, 3.0) == pytest.approx(0.1 * 3.0 * 2.0)


def test_update_is_jittable_and_vmappable():
    features, _ = problem(8, 32)
    gram = jax.jit(fisher.update)(fisher.init(32), jnp.asarray(features))
    each = jax.vmap(lambda f: fisher.update(fisher.init(32), f[None]).matrix)(jnp.asarray(features))
    np.testing.assert_allclose(gram.matrix, each.sum(0), rtol=1e-5, atol=1e-5)
