"""The factored projection: against matrices written out, by both ways in, and without bias."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.gradient import Layers, assemble, project_layers
from ctrak_jax.projection import Projection, project, project_leaves
from ctrak_jax.projection import reference as ref
from ctrak_jax.projection.factored import sides

SAMPLES, TIMES = 3, 4
SHAPES = {"a/kernel": (7, 5), "b/kernel": (40, 33), "c/kernel": (5, 90)}
OTHERS = {"a/bias": (5,), "b/scale": (33,), "table": (2, 3, 4)}


def layers(seed: int = 0) -> tuple[Layers, np.ndarray]:
    """Factors of several layers [sample, time, ...] and weights [sample, time]."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal((SAMPLES, TIMES, *shape)).astype(np.float32)

    a = {name: normal(6, n) for name, (n, _) in SHAPES.items()}
    d = {name: normal(6, n) for name, (_, n) in SHAPES.items()}
    others = {name: normal(*shape) for name, shape in OTHERS.items()}
    return Layers(a, d, others), rng.uniform(0.5, 2.0, (SAMPLES, TIMES)).astype(np.float32)


def signs(seed: int, first: int, rows: int, columns: int) -> np.ndarray:
    whole = -(-columns // 32) * 32
    entries = ref.matrix("rademacher", seed, np.arange(first, first + rows), whole, first + rows)
    return entries[:, :columns] * np.sqrt(whole / columns)


def expected(gradients: Any, k: int, seed: int) -> np.ndarray:
    """Equation (5.9) in float64 with every matrix written out."""
    a, b = sides(k)
    total, row = np.zeros((SAMPLES, k)), 0
    for name in sorted(gradients):
        g = np.asarray(gradients[name], np.float64)
        if g.ndim == 3:
            p = signs(seed, row, g.shape[1], a)
            q = signs(seed, row + g.shape[1], g.shape[2], b)
            total += np.einsum("ia,sio,ob->sab", p, g, q).reshape(SAMPLES, k)
            row += g.shape[1] + g.shape[2]
        else:
            flat = g.reshape(SAMPLES, -1)
            total += flat @ signs(seed, row, flat.shape[1], k)
            row += flat.shape[1]
    return total


@pytest.mark.parametrize("k", [32, 96, 256])
@pytest.mark.parametrize("seed", [0, 7])
def test_both_ways_in_are_the_matrices_written_out(k, seed):
    factors, weights = layers()
    projection = Projection(k, "factored", seed)
    gradients = jax.jit(jax.vmap(assemble))(factors, weights)
    truth = expected(gradients, k, seed)
    by_gradient = jax.jit(project_leaves, static_argnums=1)(gradients, projection)
    by_factor = jax.vmap(lambda f, w: project_layers(f, w, projection))
    by_factors = jax.jit(by_factor)(factors, weights)
    for found in (by_gradient, by_factors):
        assert found.dtype == jnp.float32
        error = np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)
        assert error.max() <= 1e-5


@pytest.mark.parametrize(("k", "a", "b"), [(32, 4, 8), (4096, 64, 64), (2048, 32, 64)])
def test_sides_are_as_square_as_k_allows(k, a, b):
    assert sides(k) == (a, b)


@pytest.mark.slow
def test_inner_products_are_unbiased():
    """The mean over matrices within three standard errors, the spread at most three times that of
    the dense projection of generic gradients."""
    factors, weights = layers()
    gradients = jax.vmap(assemble)(factors, weights)
    flat = np.concatenate([g.reshape(SAMPLES, -1) for _, g in sorted(gradients.items())], axis=1)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    scaled = {
        name: g / np.linalg.norm(flat, axis=1).reshape(-1, *[1] * (g.ndim - 1))
        for name, g in gradients.items()
    }
    k, found = 256, []
    for seed in range(200):
        phi = np.asarray(project_leaves(scaled, Projection(k, "factored", seed)), np.float64)
        found.append(phi @ phi.T)
    found = np.array(found)
    error = np.abs(found.mean(0) - unit @ unit.T)
    assert (error <= 3.5 * found.std(0) / np.sqrt(len(found))).all()
    assert found.std(0).max() <= 3 * np.sqrt(2 / k)


def test_flat_gradients_are_refused():
    with pytest.raises(ValueError, match="layer by layer; use project_leaves"):
        project(jnp.ones((2, 40)), Projection(32, "factored"))
