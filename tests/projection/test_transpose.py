"""The transpose of a projection against the matrix written out, and against the projection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.projection import KINDS, Projection, project, project_leaves, reference
from ctrak_jax.projection.transpose import transpose, transpose_leaves

LEAVES = {"a/kernel": (12, 20), "a/bias": (20,), "b/kernel": (20, 9), "c": (3, 4, 5)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "first_row", "d"), [(64, 0, 50), (96, 130, 700), (4128, 4500, 300)])
def test_transpose_is_the_reference_matrix_times_a_vector(kind, k, first_row, d):
    z = np.random.default_rng(0).standard_normal(k).astype(np.float32)
    matrix = reference.matrix(kind, 3, np.arange(first_row, first_row + d), k, 6000)
    found = transpose(z, Projection(k, kind, 3), d=d, first_row=first_row, rows=6000)
    np.testing.assert_allclose(found, matrix @ z, rtol=1e-4, atol=2e-5 * np.abs(z).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", [7, 1024])
def test_tile_does_not_change_the_transpose(kind, tile):
    z = jnp.ones(64)
    found = [transpose(z, Projection(64, kind, 0, t), d=100, first_row=5) for t in (64, tile)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "factored"])
def test_inner_products_are_those_of_the_projection(kind):
    """Equation (9.1) on a pytree with matrices, vectors and more axes."""
    keys = iter(jax.random.split(jax.random.key(0), 10))
    g = {path: jax.random.normal(next(keys), shape) for path, shape in LEAVES.items()}
    projection = Projection(96, kind, seed=11)
    z = jax.random.normal(next(keys), (96,))
    phi = project_leaves(jax.tree.map(lambda leaf: leaf[None], g), projection)[0]
    v = transpose_leaves(z, g, projection)
    products = [jnp.vdot(g[path], v[path]) for path in LEAVES]
    size = jnp.linalg.norm(phi) * jnp.linalg.norm(z)
    np.testing.assert_allclose(sum(products), jnp.vdot(phi, z), atol=1e-5 * size)


def test_a_factored_projection_goes_by_layer():
    with pytest.raises(ValueError, match="use transpose_leaves"):
        transpose(jnp.ones(64), Projection(64, "factored"), d=10)


def test_transpose_takes_no_kernel():
    """It is the same matrix, whatever implementation made the features."""
    g = jax.random.normal(jax.random.key(1), (1, 70))
    z = jax.random.normal(jax.random.key(2), (64,))
    v = transpose(z, Projection(64, implementation="pallas_tpu"), d=70)
    phi = project(g, Projection(64, implementation="xla"))
    np.testing.assert_allclose(g[0] @ v, phi[0] @ z, rtol=1e-4)
