r"""Parameter gradients of one sample along its path (method.md, sections 2 and 4).

.. math::
    g_t = u_t^\top \frac{\partial\epsilon(x_t)}{\partial\theta}, \qquad
    \bar g_t = g_t / \Vert g_t \Vert_2 \text{ (0 stays 0)}, \qquad
    g = \sum_t g_t \text{ or } \sum_t \bar g_t                                            \tag{4.4}

The norm runs over all selected parameters. Of a chunk of timesteps, memory holds [time_chunk, d]
per sample where gradients are normalised, else [d]: then a chunk is one backward pass.

This is the reference, for any ``eps_fn``; :mod:`ctrak_jax.gradient.layers` gives the same sums
without [time, d] for a network that shows its linear layers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.reward import Loss, linearise
from ctrak_jax.trajectory import Path
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, Timestep


def step_gradient(
    loss: Loss, eps_fn: EpsFn, params: Params, x: Image, t: Timestep, cond: Cond
) -> Params:
    """g_t of equation (4.4): one forward pass, one backward pass to x where the loss asks for it,
    one to the parameters."""
    return _pull_params(eps_fn, params, x, t, cond, loss(linearise(eps_fn, params, x, t, cond)))


def _pull_params(
    eps_fn: Callable, params: Params, x: Array, t: Array | int, cond: Cond, cotangent: Array
) -> Params:
    # The forward pass here and the one in ``linearise`` are the same expression: the compiler
    # keeps one (the compiled operation count is held by a test).
    eps, pull = jax.vjp(lambda p: eps_fn(p, x, t, cond), params)
    return pull_back(pull, eps, cotangent)[0]


def pull_back(pull: Callable[[Array], Any], eps: Array, cotangent: Array) -> Any:
    """``pull(cotangent)``; a network of lower precision gets the cotangent at a size that its
    format holds, and the gradient back in float32."""
    if eps.dtype == cotangent.dtype:
        return pull(cotangent)
    largest = jnp.max(jnp.abs(cotangent))
    size = jnp.where(largest > 0, largest, 1.0)
    gradient = pull((cotangent / size).astype(eps.dtype))
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) * size, gradient)


def global_norm(tree: Params) -> Float[Array, ""]:
    """The Euclidean norm over all leaves, accumulated in float32."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.float32(0.0)))


def unit_or_zero(tree: Params) -> Params:
    """The tree scaled to norm one; a zero tree stays zero."""
    norm = global_norm(tree)
    return jax.tree.map(lambda leaf: leaf * jnp.where(norm > 0, 1.0 / norm, 0.0), tree)


def sample_gradient(
    loss: Loss,
    eps_fn: EpsFn,
    params: Params,
    path: Path,
    cond: Cond,
    *,
    normalise: bool,
    time_chunk: int | None = None,
) -> Params:
    """g of equation (4.4): the gradient of ONE sample, summed over its path, in float32.

    ``jax.vmap`` over samples gives per-sample gradients [sample, ...]::

        jax.vmap(lambda x0, path, c: sample_gradient(dps(schedule, x0), eps_fn, params, path, c,
                                                     normalise=True))(x0, path, cond)

    Args:
        loss: the cotangent at one step, see :mod:`ctrak_jax.reward`.
        params: the pytree to differentiate (see :func:`select` for a part of a network).
        path: states x [time, ...] and timesteps t [time].
        normalise: divide each timestep's gradient by its norm before summing.
        time_chunk: timesteps handled side by side; must divide the path's length. ``None``: all.

    Raises:
        ValueError: ``time_chunk`` does not divide the path's length.
    """

    def normalised(part: Path) -> Params:
        step = partial(step_gradient, loss, eps_fn, params)
        steps = jax.vmap(lambda x, t: unit_or_zero(step(x, t, cond)))(part.x, part.t)
        return jax.tree.map(lambda leaf: leaf.sum(0), steps)

    def plain(part: Path) -> Params:
        step = partial(linearise, eps_fn, params)
        u = jax.vmap(lambda x, t: loss(step(x, t, cond)))(part.x, part.t)
        over_time = jax.vmap(eps_fn, (None, 0, 0, None))
        return _pull_params(over_time, params, part.x, part.t, cond, u)

    return over_chunks(normalised if normalise else plain, path, time_chunk)


def over_chunks(fn: Callable[[Path], Any], path: Path, time_chunk: int | None) -> Any:
    """Sum ``fn`` over parts of ``time_chunk`` steps, one after the other, in float32."""
    steps = path.t.shape[0]
    chunk = steps if time_chunk is None else time_chunk
    if chunk < 1 or steps % chunk:
        raise ValueError(
            f"time_chunk={chunk} must divide the {steps} timesteps of the path; "
            f"use one of {[n for n in range(1, steps + 1) if steps % n == 0]}."
        )

    def in_float32(part: Path) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), fn(part))

    if chunk == steps:
        return in_float32(path)

    def add(total: Any, part: Path) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, in_float32(part)), None

    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, chunk, *leaf.shape[1:]), path)
    first = jax.tree.map(lambda leaf: leaf[0], parts)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(in_float32, first))
    return jax.lax.scan(add, zero, parts)[0]


def flatten_samples(gradients: Params) -> Float[Array, "sample param"]:
    """Per-sample gradients [sample, ...] of every leaf, as one matrix in flattening order."""
    leaves = jax.tree.leaves(gradients)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
