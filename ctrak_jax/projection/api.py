r"""Random projections :math:`\phi = R^\top g` with :math:`E\langle\phi_i,\phi_j\rangle =
\langle g_i, g_j\rangle` (method, section 5)."""

from typing import Literal, NamedTuple

from jaxtyping import Float

from ctrak_jax.projection import xla
from ctrak_jax.projection.reference import WORD
from ctrak_jax.typing import Array

Kind = Literal["rademacher", "gaussian"]


class Projection(NamedTuple):
    """Which matrix, and how it is made.

    Attributes:
        k: columns, a multiple of 32: the length of a feature.
        kind: distribution of the entries. seed: 0 <= seed < 2^32; fixes the matrix.
        tile: rows made at a time (memory and speed; the matrix does not depend on it).
    """

    k: int
    kind: Kind = "rademacher"
    seed: int = 0
    tile: int = 1024


def project(g: Float[Array, "sample param"], projection: Projection) -> Float[Array, "sample proj"]:
    r"""Project gradients: :math:`\phi = g R`, R of shape [d, k] never stored.

    The relative variance of an inner product of unit vectors is (1 + cos^2) / k for ``gaussian``
    and at most that for ``rademacher`` (Achlioptas 2003). Peak memory beyond input and output is
    one tile, tile x k.

    Args:
        g: per-sample gradients [sample, d]. projection: the matrix.

    Returns:
        float32 [sample, k].

    Raises:
        ValueError: ``k`` is not a positive multiple of 32, an unknown kind, or a bad tile or seed.
    """
    k, kind, seed, tile = projection
    if k < WORD or k % WORD:
        raise ValueError(
            f"Projection.k={k} must be a positive multiple of {WORD}; "
            f"try {max(WORD, round(k / WORD) * WORD)}."
        )
    if kind not in xla.BLOCKS:
        raise ValueError(f"Projection.kind={kind!r} is not known; use one of {list(xla.BLOCKS)}.")
    if tile < 1 or not 0 <= seed < 2**32:
        raise ValueError(f"Projection.tile={tile} must be >= 1 and seed={seed} in [0, 2^32).")
    return xla.project(g, kind=kind, k=k, seed=seed, tile=tile)
