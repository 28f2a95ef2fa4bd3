"""The rates of the machine itself: matrix products, copies, integer operations."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ctrak_jax.bench.accelerator.measuring import Measurement, timed
from ctrak_jax.bench.accelerator.sizes import AcceleratorSizes
from ctrak_jax.projection.xla import mix
from ctrak_jax.typing import Array

ROUNDS = 64
"""Times that every word is mixed in the measurement of integer operations."""
MIX = 8
"""Integer operations of one round: three shifts, three exclusive ors, two multiplications."""
PRODUCTS = ("bfloat16", "default", "high", "highest")
"""bfloat16 operands; or float32 ones, with this word."""


class Rates(NamedTuple):
    """Per second: FLOPs of the fastest product of matrices (of bfloat16 ones on an accelerator),
    bytes read and written, integer operations."""

    flops: float
    bytes: float
    integers: float


def product(word: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A product of two float32 matrices."""
    if word == "bfloat16":
        return lambda x, y: lax.dot(
            x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), preferred_element_type=jnp.float32
        )
    return partial(jnp.matmul, precision=word)


def matmul(sizes: AcceleratorSizes, word: str) -> dict[str, Any]:
    """Of square matrices."""
    n = sizes.side
    x, y = jax.random.normal(jax.random.key(0), (2, n, n))
    if word == "bfloat16":
        x, y = x.astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    return {"tflops_per_second": 2e-12 * n**3 / timed(jax.jit(product(word)), x, y, repeats=5)}


def copy(sizes: AcceleratorSizes) -> dict[str, Any]:
    """Bytes read and written by x + 1."""
    x = jnp.ones((sizes.side, sizes.side, 8), jnp.float32)
    return {"gb_per_second": 2e-9 * x.nbytes / timed(jax.jit(lambda x: x + 1.0), x, repeats=5)}


def integers(sizes: AcceleratorSizes) -> dict[str, Any]:
    """The hash of the projections, over and over in registers."""
    x = jnp.arange(sizes.side * sizes.side, dtype=jnp.uint32)

    def rounds(x: Array) -> Array:
        for _ in range(ROUNDS):
            x = mix(x)
        return x

    operations = float(MIX * ROUNDS * x.size)
    return {"gops_per_second": 1e-9 * operations / timed(jax.jit(rounds), x, repeats=5)}


def measurements(sizes: AcceleratorSizes) -> list[Measurement]:
    """All of them."""
    found = [Measurement("machine", "copy", sizes.costs.rate, partial(copy, sizes))]
    found += [
        Measurement("machine", f"matmul {word}", sizes.costs.rate, partial(matmul, sizes, word))
        for word in PRODUCTS
    ]
    return [*found, Measurement("machine", "integers", sizes.costs.rate, partial(integers, sizes))]
