"""Rankings that cost nothing, which an attribution method has to beat (method.md, section 7).

* ``labels``: does the candidate's condition name the value asked about? One or zero; ties are
  broken at random. Precision 1.00 wherever conditions name the value and pictures agree with them.
* ``random``: chance.
* Similarities of the query and a candidate: minus the distance of two pictures or two latents, or
  the cosine of two embeddings, of texts or of pictures; of two classes whether they are one.

Random numbers are those of a question and a candidate's dataset index: neither the order of the
candidates nor their number per batch changes them.
"""

import zlib
from functools import partial

import jax
import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.typing import Array, PRNGKey

SPACING = 2.0**-5
"""Numbers that break ties lie below this: far below a match, and apart in float32 for up to 2^17
candidates."""
GROUP_BYTES = 2**27
"""Vectors of so many bytes are compared at a time."""


def random_places(
    seed: int, question: str, index: Int[np.ndarray, " sample"]
) -> Float[np.ndarray, " sample"]:
    """Evenly spaced numbers in (0, 1), float32, in a random order that is fixed by the seed, the
    question and the dataset indices."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(question.encode()))
    high, low = np.asarray(_bits(key, index.astype(np.uint32))).T
    places = np.empty(len(index), np.float32)
    places[np.lexsort((low, high))] = (np.arange(len(index)) + 0.5) / len(index)
    return places


@jax.jit
@partial(jax.vmap, in_axes=(None, 0))
def _bits(key: PRNGKey, i: Array) -> Array:
    return jax.random.bits(jax.random.fold_in(key, i), (2,))


def label_matches(
    named: Float[np.ndarray, "sample condition"],
    asked: Float[np.ndarray, " condition"],
    places: Float[np.ndarray, " sample"],
) -> Float[np.ndarray, " sample"]:
    """One where a candidate's condition names the value asked about, else zero; and a number below
    ``SPACING``, which breaks ties.

    Args:
        named: the values that conditions name, as concatenated one-hots.
        asked: the one-hot of the value asked about, zero elsewhere.
        places: random numbers in (0, 1).
    """
    return (named @ asked + SPACING * places).astype(np.float32)


def untied(
    scores: Float[np.ndarray, " sample"], places: Float[np.ndarray, " sample"]
) -> Float[np.ndarray, " sample"]:
    """The same scores, float32, no two of them equal: each of those that were gets the next smaller
    number, those of the largest places first. No order between unequal ones changes."""
    order = np.lexsort((-places, -scores))
    bits = scores[order].astype(np.float32).view(np.int32).astype(np.int64)
    # The numbers of float32 in a row: those below zero have their bits the other way round.
    steps, ascending = np.arange(len(bits)), np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    spread = np.minimum.accumulate(ascending + steps) - steps
    back = np.where(spread < 0, -spread - 2**31, spread).astype(np.int32)
    found = np.empty(len(scores), np.float32)
    found[order] = back.view(np.float32)
    return found


def negative_distances(
    queries: Float[np.ndarray, "query dim"], candidates: Float[np.ndarray, "sample dim"]
) -> Float[np.ndarray, "query sample"]:
    """Minus the L2 distance of every pair, by way of inner products in float64."""
    theirs = candidates.astype(np.float64)
    squares = np.square(theirs).sum(axis=1)
    found = np.empty((len(queries), len(candidates)), np.float32)
    for rows in groups(*queries.shape):
        mine = queries[rows].astype(np.float64)
        total = np.square(mine).sum(axis=1)[:, None] + squares - 2 * mine @ theirs.T
        found[rows] = -np.sqrt(np.maximum(total, 0.0))
    return found


def cosines(
    queries: Float[np.ndarray, "query dim"], candidates: Float[np.ndarray, "sample dim"]
) -> Float[np.ndarray, "query sample"]:
    """The cosine of every pair; 0 with a vector of zeros."""

    def unit(vectors: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return vectors / np.where(norms == 0, 1.0, norms)

    return (unit(queries) @ unit(candidates).T).astype(np.float32)


def equalities(
    queries: Int[np.ndarray, "query 1"], candidates: Int[np.ndarray, "sample 1"]
) -> Float[np.ndarray, "query sample"]:
    """One for every pair of one class, else zero."""
    return (queries == candidates.T).astype(np.float32)


def groups(count: int, dim: int) -> list[slice]:
    """Rows of ``dim`` float64 numbers in groups of about ``GROUP_BYTES``."""
    size = max(1, GROUP_BYTES // (8 * max(dim, 1)))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
