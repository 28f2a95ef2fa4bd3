r"""Influence scores and rankings (method.md, sections 1, 5 and 6).

.. math::
    I(i, q) = w_i \phi_i^\top (G + \lambda I)^{-1} \phi_q                                 \tag{5.11}

Positive = proponent: a gradient step on sample i lowers the query's loss. The weights w are one,
except for DAS.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from ctrak_jax.precision import EXACT
from ctrak_jax.typing import Array


def influence(
    features: Float[Array, "sample proj"],
    z: Float[Array, "query proj"],
    weights: Float[Array, " sample"] | None = None,
) -> Float[Array, "query sample"]:
    """Equation (5.11) for many queries at once.

    Args:
        features: Phi.
        z: solved queries, see :func:`ctrak_jax.fisher.solve`.
        weights: w, or one.
    """
    scores = jnp.matmul(z, features.T, precision=EXACT)
    return scores if weights is None else scores * weights[None]


def error_weights(
    errors: Float[Array, "sample time"], form: Literal["sum", "rms"]
) -> Float[Array, " sample"]:
    """DAS's weight of every training sample from its denoising errors: ``sum``, equation (6.1), in
    the Concept-TRAK release, or ``rms``, equation (6.2), by its authors (Lin et al. 2025)."""
    if form == "sum":
        return errors.sum(axis=1)
    root = jnp.sqrt(errors)
    return (root / jnp.linalg.norm(root, axis=0, keepdims=True)).mean(axis=1)


def standardised(scores: Float[Array, "query sample"]) -> Float[Array, "query sample"]:
    """Every query's scores less their mean over the samples, divided by their standard deviation:
    what scores of several models are averaged as. Equal scores become zero."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = scores.std(axis=1, keepdims=True)
    return centred / jnp.where(spread > 0, spread, 1.0)


class Ranking(NamedTuple):
    """The best samples of every query, best first; ties go to the lower index."""

    samples: Int[Array, "*damping query rank"]
    score: Float[Array, "*damping query rank"]


def top_k(scores: Float[Array, "*damping query sample"], k: int) -> Ranking:
    """The k largest scores of every query, for one damping value or several.

    Raises:
        ValueError: k is not between 1 and the number of samples.
    """
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"top_k: k={k} must be between 1 and the {scores.shape[-1]} samples.")
    score, index = jax.lax.top_k(scores, k)
    return Ranking(index, score)


@partial(jax.jit, static_argnums=2)
def merge_top(best: Ranking, new: Ranking, k: int) -> Ranking:
    """The k best (or all there are) of two rankings, of which ``new`` is of later samples."""
    samples = jnp.concatenate([best.samples, new.samples], axis=-1)
    scores = jnp.concatenate([best.score, new.score], axis=-1)
    ranking = top_k(scores, min(k, scores.shape[-1]))
    return Ranking(jnp.take_along_axis(samples, ranking.samples, axis=-1), ranking.score)
