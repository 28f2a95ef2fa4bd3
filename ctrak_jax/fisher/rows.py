r"""Features as the solvers see them, and the three sums over samples that they need.

.. math::
    G = \sum_i \phi_i \phi_i^\top, \qquad
    \mathrm{diag}(G) = \sum_i \phi_i \odot \phi_i, \qquad
    v G = \sum_i (v \cdot \phi_i) \phi_i^\top                                             \tag{5.12}

They are evaluated where the features are: here, all at once on one device; in
:mod:`ctrak_jax.devices`, split over devices and block by block. Added zero rows change none.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.precision import EXACT
from ctrak_jax.typing import Array

RowFn = Callable[[Any, Array], Array]
"""fn(shared, features [sample, proj]): a sum over samples, or one row per sample. Defined once, at
the top of a module: compilations are kept by the function."""


class Block(NamedTuple):
    """Consecutive samples and their rows, valid until the next block is read."""

    rows: range
    features: Float[Array, "sample proj"]


@runtime_checkable
class Rows(Protocol):
    """Features Phi [n, k], wherever they are."""

    @property
    def n(self) -> int: ...

    @property
    def k(self) -> int: ...

    def blocks(self) -> Iterator[Block]:
        """All rows in order; among several processes, those of this one."""
        ...

    def whole(self) -> Float[Array, "sample proj"]:
        """All rows in one array."""
        ...

    def total(self, fn: RowFn, shared: Any) -> Array:
        """The sum over all samples of ``fn(shared, rows)``."""
        ...

    def each(self, fn: RowFn, shared: Any) -> Iterator[Block]:
        """``fn(shared, rows)``, one row per sample, block by block, on the host."""
        ...


class Matrix(NamedTuple):
    """Features in memory, handled as one block on one device."""

    features: Float[Array, "sample proj"]

    @property
    def n(self) -> int:
        return self.features.shape[0]

    @property
    def k(self) -> int:
        return self.features.shape[1]

    def blocks(self) -> Iterator[Block]:
        yield Block(range(self.n), self.features)

    def whole(self) -> Float[Array, "sample proj"]:
        return self.features

    def total(self, fn: RowFn, shared: Any) -> Array:
        return _compiled(fn)(shared, self.features)

    def each(self, fn: RowFn, shared: Any) -> Iterator[Block]:
        yield Block(range(self.n), np.asarray(_compiled(fn)(shared, self.features)))


_compiled = cache(jax.jit)


class Scaled(NamedTuple):
    """The features of other rows times a power of two, which rounds nothing."""

    of: Rows
    scale: float

    @property
    def n(self) -> int:
        return self.of.n

    @property
    def k(self) -> int:
        return self.of.k

    def blocks(self) -> Iterator[Block]:
        for block in self.of.blocks():
            yield Block(block.rows, block.features * np.float32(self.scale))

    def whole(self) -> Float[Array, "sample proj"]:
        return self.of.whole() * np.float32(self.scale)

    def total(self, fn: RowFn, shared: Any) -> Array:
        return self.of.total(_of_scaled(fn), (shared, jnp.float32(self.scale)))

    def each(self, fn: RowFn, shared: Any) -> Iterator[Block]:
        return self.of.each(_of_scaled(fn), (shared, jnp.float32(self.scale)))


@cache
def _of_scaled(fn: RowFn) -> RowFn:
    def scaled(shared: tuple[Any, Array], features: Array) -> Array:
        return fn(shared[0], features * shared[1])

    return scaled


def outer(_: None, features: Float[Array, "sample proj"]) -> Float[Array, "proj proj"]:
    """G of equation (5.12), in float32."""
    features = features.astype(jnp.float32)
    return jnp.matmul(features.T, features, precision=EXACT)


def squares(_: None, features: Float[Array, "sample proj"]) -> Float[Array, " proj"]:
    """diag(G) of equation (5.12)."""
    return jnp.sum(features.astype(jnp.float32) ** 2, axis=0)


def magnitudes(_: None, features: Float[Array, "sample proj"]) -> Float[Array, " proj"]:
    """Sums of absolute values, which neither underflow nor overflow where squares do."""
    return jnp.sum(jnp.abs(features.astype(jnp.float32)), axis=0)


def normal_product(
    v: Float[Array, "vector proj"], features: Float[Array, "sample proj"]
) -> Float[Array, "vector proj"]:
    """v G of equation (5.12) without G: 4 n k flops per vector."""
    return jnp.matmul(inner(v, features).T, features, precision=EXACT)


def inner(
    v: Float[Array, "vector proj"], features: Float[Array, "sample proj"]
) -> Float[Array, "sample vector"]:
    """v . phi_i of every sample and vector."""
    return jnp.matmul(features, v.T, precision=EXACT)
