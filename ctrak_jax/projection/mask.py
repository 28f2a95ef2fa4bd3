"""The ``mask`` projection: k of the d coordinates, chosen by seed, O(k).

Equation (5.7). It is what the published code does, kept for comparison. It is no
Johnson-Lindenstrauss map: its error grows as the products g_i g'_i concentrate in few coordinates.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int64

from ctrak_jax.projection.reference import words
from ctrak_jax.typing import Array


def project(
    g: Float[Array, "sample param"],
    *,
    k: int,
    seed: int,
    first_row: int = 0,
    rows: int,
    given: Int64[np.ndarray, " proj"] | None = None,
) -> Float[Array, "sample proj"]:
    """g R, where R has ``rows`` rows in all; ``given`` coordinates are taken without a factor."""
    chosen = coordinates(seed, k, rows) if given is None else given
    first, last = np.searchsorted(chosen, [first_row, first_row + g.shape[1]])
    taken = g[:, chosen[first:last] - first_row].astype(jnp.float32)
    padded = jnp.pad(taken, ((0, 0), (first, k - last)))
    return padded * np.float32(np.sqrt(rows / k)) if given is None else padded


def coordinates(seed: int, k: int, rows: int) -> Int64[np.ndarray, " proj"]:
    """Equation (5.7): k distinct numbers below ``rows``, ascending."""
    if k > rows:
        raise ValueError(
            f"Projection.k={k} coordinates cannot be chosen from {rows} parameters; use k <= "
            f"{rows}, or another kind than 'mask'."
        )
    bits = np.uint32((1 << (rows - 1).bit_length()) - 1)
    found = np.empty(0, np.int64)
    first = 0
    while len(found) < k:
        drawn = words(seed, np.arange(first, first + 2 * k), np.zeros(1))[:, 0] & bits
        both = np.concatenate([found, drawn[drawn < rows]])
        _, at = np.unique(both, return_index=True)
        found = both[np.sort(at)]
        first += 2 * k
    return np.sort(found[:k])
