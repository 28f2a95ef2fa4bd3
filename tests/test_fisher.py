"""Solves against float64 NumPy, primal against dual, one factorisation against many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import fisher
from ctrak_jax.score import error_weights, influence, top_k


def problem(n, k, seed=0):
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-1, 0.5, k)
    return (
        (rng.standard_normal((n, k)) * scales).astype(np.float32),
        rng.standard_normal((5, k)).astype(np.float32),
    )


def truth(features, queries, multiple):
    phi, q = features.astype(np.float64), queries.astype(np.float64)
    gram = phi.T @ phi
    lam = 0.1 * multiple * np.trace(gram) / gram.shape[0]
    return np.linalg.solve(gram + lam * np.eye(len(gram)), q.T).T


SIZES = [(40, 96), (96, 96), (300, 96)]


@pytest.mark.parametrize(("n", "k"), SIZES)
@pytest.mark.parametrize("multiple", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("side", ["primal", "dual"])
def test_solve_agrees_with_float64(n, k, multiple, side):
    features, queries = problem(n, k)
    if side == "primal":
        factored = fisher.factor(fisher.update(fisher.init(k), jnp.asarray(features)), multiple)
    else:
        factored = fisher.factor_dual(jnp.asarray(features), multiple)
    z = fisher.solve(factored, jnp.asarray(queries))
    expected = truth(features, queries, multiple)
    assert np.linalg.norm(z - expected) <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_many_dampings_from_one_spectrum(n, k):
    features, queries = problem(n, k)
    multiples = [1e-2, 1.0, 1e4]
    scores = fisher.damped_scores(fisher.spectrum(features), features, queries, multiples)
    assert scores.shape == (3, 5, n)
    for found, multiple in zip(scores, multiples, strict=True):
        expected = truth(features, queries, multiple) @ features.T.astype(np.float64)
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def test_large_damping_is_the_inner_product():
    features, queries = problem(40, 96)
    scores = fisher.damped_scores(fisher.spectrum(features), features, queries, [1e9])[0]
    plain = queries @ features.T
    cosine = (scores * plain).sum() / np.linalg.norm(scores) / np.linalg.norm(plain)
    assert cosine == pytest.approx(1.0, abs=1e-6)


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
    z = fisher.solve(fisher.factor_dual(jnp.asarray(features)), jnp.asarray(queries))
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
