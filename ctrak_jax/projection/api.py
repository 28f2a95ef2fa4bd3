r"""Random projections that keep inner products on average (method.md, section 5).

.. math::
    \phi = R^\top g, \qquad E \langle R^\top g, R^\top h \rangle = \langle g, h \rangle   \tag{5.1}
"""

import importlib
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.projection import factored, kernels, mask, sjlt, srht, xla
from ctrak_jax.projection.reference import WORD
from ctrak_jax.typing import Array, Params

Kind = Literal["rademacher", "gaussian", "sjlt", "srht", "mask", "factored"]
Implementation = Literal["auto", "xla", "pallas_tpu", "pallas_gpu"]

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "factored")
"""What :func:`project` makes; ``factored`` goes by layer."""
KERNEL_OF = {"tpu": "pallas_tpu", "gpu": "pallas_gpu"}
"""Backend -> its kernel; what that does not serve, and every other backend, takes ``xla``."""
TILE = 1024
"""Rows of R per step, unless they are named; ``TILES`` has others."""
TILES = {("gpu", "srht"): 2**20, ("gpu", "rademacher"): 8192}
"""Backend and kind -> rows of R per step. Samples per second on an H200 at d = 43,956,480,
k = 32,768, batch 8 and 64: ``srht`` 1,037 and 1,327, with 1,024 rows 332 and 967; ``rademacher``
in plain JAX 3.3 and 24.8, with 2,048 rows 2.9 and 21."""
SMALL = 2**20
"""Neighbouring leaves of a gradient are projected together up to this many parameters."""


class Projection(NamedTuple):
    """Which matrix, and how it is made.

    Attributes:
        k: columns, a multiple of 32: the length of a feature.
        kind: distribution of the entries.
        seed: 0 <= seed < 2^32; fixes the matrix.
        tile: rows of R per step, for memory and speed alone (``sjlt`` takes k / 4, ``mask`` and
            kernels none); by default 1,024, or what ``TILES`` has for the backend.
        implementation: ``auto`` takes the backend's kernel where that serves the kind.
        coordinates: what ``mask`` takes, k ascending numbers, without a factor; by default it
            chooses by seed.
    """

    k: int
    kind: Kind = "rademacher"
    seed: int = 0
    tile: int | None = None
    implementation: Implementation = "auto"
    coordinates: Any = None


def project(
    g: Float[Array, "sample param"],
    projection: Projection,
    *,
    first_row: int = 0,
    rows: int | None = None,
) -> Float[Array, "sample proj"]:
    r"""Project gradients: :math:`\phi = g R`, R of shape [d, k] never stored.

    The relative variance of an inner product of unit vectors is (1 + cos^2) / k for ``gaussian``
    and at most that for ``rademacher`` (Achlioptas 2003), ``sjlt`` (Kane & Nelson 2014) and
    ``srht`` (Tropp 2011), equation (5.8); ``mask`` has no such bound. A sample costs O(d k) for the
    first two, O(4 d), O(d log k) and O(k) for the others. Peak memory beyond input and output is
    one step's: tile x k numbers for the first two, or nothing with a kernel; tile or k numbers a
    sample for ``srht``, k for ``sjlt``.

    Args:
        g: per-sample gradients [sample, d].
        projection: the matrix.
        first_row: the row of R that the first column of ``g`` meets.
        rows: rows of R in all (default: first_row + d): ``mask`` draws its coordinates from them.

    Raises:
        NotImplementedError: the implementation that was named cannot serve this.
    """
    k, kind, seed = projection.k, projection.kind, projection.seed
    backend = jax.default_backend()
    tile = rows_per_step(projection, backend)
    last = first_row + g.shape[1]
    if k < WORD or k % WORD:
        raise ValueError(
            f"Projection.k={k} must be a positive multiple of {WORD}; "
            f"try {max(WORD, round(k / WORD) * WORD)}."
        )
    if kind == "factored":
        raise ValueError(
            "Projection.kind='factored' projects layer by layer; use project_leaves on the "
            "gradients as a pytree, or gradient.project_layers."
        )
    if kind not in KINDS:
        raise ValueError(f"Projection.kind={kind!r} is not known; use one of {list(KINDS)}.")
    if tile < 1 or not 0 <= seed < 2**32:
        raise ValueError(f"Projection.tile={tile} must be >= 1 and seed={seed} in [0, 2^32).")
    if first_row < 0 or (rows is not None and rows < last):
        raise ValueError(
            f"rows {first_row} to {last} of R are met, but it has rows={rows}; give first_row >= 0 "
            f"and the parameters of all leaves together as rows."
        )
    implementation = implementation_of(projection, dtype=g.dtype)
    if implementation != "xla":
        # Imported where it is used: Pallas alone takes 0.4 s.
        kernel = importlib.import_module(f"ctrak_jax.projection.{implementation}")
        return kernel.project(g, kind=kind, k=k, seed=seed, tile=tile, first_row=first_row)
    match kind:
        case "sjlt":
            return sjlt.project(g, k=k, seed=seed, first_row=first_row)
        case "srht":
            return srht.project(g, k=k, seed=seed, tile=tile, first_row=first_row)
        case "mask":
            given = projection.coordinates
            return mask.project(
                g, k=k, seed=seed, first_row=first_row, rows=rows or last, given=given
            )
        case "rademacher" | "gaussian":
            half = backend == "gpu"
            return xla.project(
                g, kind=kind, k=k, seed=seed, tile=tile, first_row=first_row, half=half
            )


def rows_per_step(projection: Projection, backend: str) -> int:
    """The tile that was asked for, or the backend's."""
    default = TILES.get((backend, projection.kind), TILE)
    return default if projection.tile is None else projection.tile


def implementation_of(
    projection: Projection,
    backend: str | None = None,
    dtype: Any = jnp.float32,
    capability: str | None = None,
) -> str:
    """The implementation that runs.

    Args:
        projection: what is asked for.
        backend: where (default: on this one).
        dtype: of the gradients.
        capability: compute capability of a GPU (default: of this one).
    """
    name, backend = projection.implementation, backend or jax.default_backend()
    if name != "auto":
        if name not in (known := ["xla", *KERNEL_OF.values()]):
            raise ValueError(
                f"Projection.implementation={name!r} is not known; use auto or one of {known}."
            )
        return name
    kernel = KERNEL_OF.get(backend)
    served = kernels.serves(projection.kind, dtype)
    if kernel == "pallas_gpu":
        capability = capability or kernels.compute_capability()
        served = served and kernels.pays_on_gpu(projection.k, capability)
    return kernel if kernel and served else "xla"


def project_leaf(
    g: Float[Array, "sample ..."], projection: Projection, *, first_row: int
) -> Float[Array, "sample proj"]:
    """One leaf's part of the ``factored`` projection: a matrix from both sides, anything else by
    ``rademacher`` signs."""
    if g.ndim == 3:
        return factored.project_matrix(g, k=projection.k, seed=projection.seed, first_row=first_row)
    dense = projection._replace(kind="rademacher")
    return project(g.reshape(g.shape[0], -1), dense, first_row=first_row)


def project_leaves(gradients: Params, projection: Projection) -> Float[Array, "sample proj"]:
    """Project a pytree of per-sample gradients [sample, ...]: what :func:`project` gives for the
    leaves end to end in flattening order, without the matrix [sample, d]."""
    if projection.kind == "factored":
        total, row = jnp.float32(0.0), 0
        for leaf in jax.tree.leaves(gradients):
            total = total + project_leaf(leaf, projection, first_row=row)
            row += factored.rows_of(leaf.shape[1:])
        return total
    leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)]
    rows = sum(leaf.shape[1] for leaf in leaves)
    total: Any = 0.0
    first = row = 0
    while first < len(leaves):
        last, width = first + 1, leaves[first].shape[1]
        while last < len(leaves) and width + leaves[last].shape[1] <= SMALL:
            width += leaves[last].shape[1]
            last += 1
        part = jnp.concatenate(leaves[first:last], axis=1)
        total = total + project(part, projection, first_row=row, rows=rows)
        first, row = last, row + width
    return total
