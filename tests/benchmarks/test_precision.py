"""The emulated products: the same program where nothing is rounded, and the errors of each level
where something is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import precision
from ctrak_jax.precision import MEANINGS


def gradients(level):
    """A loss with a loop, a branch, a derivative written by hand and a product at a level."""

    def loss(w, x):
        def step(h, t):
            with jax.default_matmul_precision(level):
                h = jax.nn.silu(h @ w)
            return jax.lax.cond(t > 1, jnp.sin, jnp.cos, h), None

        return jnp.sum(jax.lax.scan(jax.checkpoint(step), x, jnp.arange(3))[0] ** 2)

    return jax.vmap(jax.grad(loss), in_axes=(None, 0))


def arguments():
    w, x = jax.random.normal(jax.random.key(0), (2, 32, 32))
    return w / 6, x[:, None]


@pytest.mark.parametrize("level", ["default", "high", "highest"])
def test_on_a_cpu_it_is_the_same_program(level):
    fn, args = gradients(level), arguments()
    ours = precision.emulated(fn, "cpu")(*args)
    np.testing.assert_allclose(ours, jax.jit(fn)(*args), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "level", "digits"),
    [
        ("tpu", "default", 2**-8),
        ("gpu", "default", 2**-11),
        ("gpu", "high", 2**-11),
        ("tpu", "high", 2**-16),
        ("tpu", "highest", 2**-24),
        ("gpu", "highest", 2**-24),
    ],
)
def test_operands_are_rounded_as_the_level_says(backend, level, digits):
    """Unit roundoff of each form: errors of random products are of its order, and no smaller."""
    with jax.enable_x64(False):
        x, y = np.asarray(jax.random.normal(jax.random.key(1), (2, 256, 256)))
    exact = x.astype(np.float64) @ y
    found = precision.emulated(lambda x, y: jnp.matmul(x, y, precision=level), backend)(x, y)
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert digits / 8 < error < 8 * digits


def test_every_level_that_is_not_float32_is_known():
    """A word that none of these is would be taken for float32."""
    words = {word for levels in MEANINGS.values() for word in levels.values()}
    exact = {"float32", "6 bfloat16 passes", "3 bfloat16 passes"}
    assert words == exact | {*precision.MANTISSA}
