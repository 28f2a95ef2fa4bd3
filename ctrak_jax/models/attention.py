"""Attention of ONE sample: a plain form, JAX's own, and forms whose weights are never whole.

:func:`plain` is what the others are tested against. :func:`attend` takes
``jax.nn.dot_product_attention``; where memory is to be saved, cuDNN's flash attention serves
bfloat16 and float16 on a GPU, and elsewhere the queries go through in chunks (Rabe & Staats 2021).
cuDNN's has no forward-mode derivative, the chunks have.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.log import logger
from ctrak_jax.precision import EXACT
from ctrak_jax.typing import Array

CHUNK = 512
"""Queries at a time."""

Heads = Float[Array, "token head dim"]


def plain(q: Heads, k: Float[Array, "key head dim"], v: Float[Array, "key head dim"]) -> Heads:
    """softmax(q k^T / sqrt(dim)) v of every head."""
    scores = jnp.einsum("qhd,khd->hqk", q, k, precision=EXACT) / math.sqrt(q.shape[-1])
    return jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v, precision=EXACT)


def attend(
    q: Heads, k: Float[Array, "key head dim"], v: Float[Array, "key head dim"], *, efficient: bool
) -> Heads:
    """:func:`plain` with its softmax in float32 at least; ``efficient`` keeps no weights of all
    queries at once."""
    if not efficient:
        return jax.nn.dot_product_attention(q, k, v)
    if jax.default_backend() == "gpu" and q.dtype in (jnp.bfloat16, jnp.float16):
        try:
            return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        except (NotImplementedError, RuntimeError, ValueError) as error:
            _log_refusal(str(error).partition("\n")[0])
    return in_chunks(q, k, v)


@cache
def _log_refusal(reason: str) -> None:
    logger.warning("cuDNN's attention is not taken, queries go in chunks: %s", reason)


def in_chunks(
    q: Heads,
    k: Float[Array, "key head dim"],
    v: Float[Array, "key head dim"],
    *,
    size: int = CHUNK,
) -> Heads:
    """Attention of ``size`` queries at a time, whose weights the backward pass computes again."""
    tokens, *rest = q.shape
    if tokens <= size:
        return jax.nn.dot_product_attention(q, k, v)
    count = -(-tokens // size)
    chunks = jnp.pad(q, ((0, count * size - tokens), (0, 0), (0, 0))).reshape(count, size, *rest)

    @jax.checkpoint
    def one(chunk: Array) -> Array:
        return jax.nn.dot_product_attention(chunk, k, v)

    return jax.lax.map(one, chunks).reshape(count * size, *rest)[:tokens]
