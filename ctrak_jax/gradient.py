r"""Parameter gradients of one sample along its path (method, sections 2 and 4).

.. math::
    g_t = u_t^\top \frac{\partial \epsilon(x_t)}{\partial\theta},\qquad
    \bar g_t = g_t / \|g_t\|_2 \ (0 \text{ stays } 0),\qquad
    g = \textstyle\sum_t g_t \ \text{ or } \ \sum_t \bar g_t                               \tag{7}

The norm runs over all selected parameters. Timesteps go through in chunks of ``time_chunk``: memory
is [time_chunk, d] a sample where gradients are normalised. Without normalisation a chunk is one
backward pass, in which every layer contracts over timesteps at once, and [d] is all it holds.
"""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.reward import Loss, linearise
from ctrak_jax.trajectory import Path
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, Timestep


class Selection(NamedTuple):
    """A split of the parameters into those whose gradient is taken and the rest.

    Attributes:
        params: the selected leaves, path -> array. names: their paths, in flattening order.
        merge: selected leaves -> the full pytree (the other leaves are constants of it).
    """

    params: dict[str, Array]
    names: tuple[str, ...]
    merge: Callable[[dict[str, Array]], Params]

    @property
    def size(self) -> int:
        """d, the number of selected parameters."""
        return sum(leaf.size for leaf in self.params.values())


def parameter_paths(params: Params) -> list[str]:
    """The path of every leaf, such as ``blocks_0/attn/qkv/kernel``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def select(
    params: Params, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> Selection:
    """Select parameters by shell-style patterns on their paths, e.g. ``*attn*`` or ``blocks_0/*``.

    Raises:
        ValueError: a pattern matches nothing, or nothing is left.
    """
    paths = parameter_paths(params)
    for pattern in (*include, *exclude):
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise ValueError(
                f"parameter pattern {pattern!r} matches none of {len(paths)} parameters; "
                f"their paths look like {paths[0]!r} and {paths[-1]!r}."
            )

    def wanted(path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, p) for p in include) and not any(
            fnmatch.fnmatchcase(path, p) for p in exclude
        )

    leaves, structure = jax.tree.flatten(params)
    selected = {path: leaf for path, leaf in zip(paths, leaves, strict=True) if wanted(path)}
    if not selected:
        raise ValueError(
            f"include={list(include)} without exclude={list(exclude)} leaves no parameter."
        )

    def merge(chosen: dict[str, Array]) -> Params:
        merged = [chosen.get(path, leaf) for path, leaf in zip(paths, leaves, strict=True)]
        return jax.tree.unflatten(structure, merged)

    return Selection(selected, tuple(sorted(selected)), merge)


def step_gradient(
    loss: Loss, eps_fn: EpsFn, params: Params, x: Image, t: Timestep, cond: Cond
) -> Params:
    """g_t of equation (7): the parameter gradient of one loss at one step.

    One forward pass, one backward pass to x where the loss asks for it, one to the parameters.
    """
    return _pull_params(eps_fn, params, x, t, cond, loss(linearise(eps_fn, params, x, t, cond)))


def _pull_params(
    eps_fn: Callable[..., Array],
    params: Params,
    x: Array,
    t: Array | int,
    cond: Cond,
    cotangent: Array,
) -> Params:
    # The forward pass here and the one in ``linearise`` are the same expression: the compiler
    # keeps one (the compiled operation count is held by a test).
    eps, pull = jax.vjp(lambda p: eps_fn(p, x, t, cond), params)
    if eps.dtype == cotangent.dtype:
        return pull(cotangent)[0]
    # A network of lower precision gets the cotangent at a size that its format holds.
    largest = jnp.max(jnp.abs(cotangent))
    size = jnp.where(largest > 0, largest, 1.0)
    gradient = pull((cotangent / size).astype(eps.dtype))[0]
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) * size, gradient)


def global_norm(tree: Params) -> Float[Array, ""]:
    """The Euclidean norm over all leaves, accumulated in float32."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.float32(0.0)))


def unit_or_zero(tree: Params) -> Params:
    """The tree scaled to norm one; a zero tree stays zero."""
    norm = global_norm(tree)
    return jax.tree.map(lambda leaf: leaf * jnp.where(norm > 0, 1.0 / norm, 0.0), tree)


class PathGradients(NamedTuple):
    """The two sums of equation (7) over one path.

    Attributes:
        plain: sum of g_t. normalised: sum of g_t / ||g_t||. Pytrees like the parameters, float32.
    """

    plain: Params
    normalised: Params


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
    """g of equation (7): the gradient of ONE sample, summed over its path.

    ``jax.vmap`` over samples gives per-sample gradients [sample, ...]::

        jax.vmap(lambda x0, path, c: sample_gradient(dps(schedule, x0), eps_fn, params, path, c,
                                                     normalise=True))(x0, path, cond)

    Args:
        loss: the cotangent at one step, see :mod:`ctrak_jax.reward`.
        params: the pytree to differentiate (see :func:`select` for a part of a network).
        path: states x [time, ...] and timesteps t [time].
        normalise: divide each timestep's gradient by its norm before summing.
        time_chunk: timesteps handled side by side; must divide the path's length. ``None``: all.

    Returns:
        A pytree like ``params``, float32.

    Raises:
        ValueError: ``time_chunk`` does not divide the number of timesteps.
    """

    def normalised(part: Path) -> Params:
        steps = _step_gradients(loss, eps_fn, params, part, cond)
        return _sum_over_time(jax.vmap(unit_or_zero)(steps))

    def plain(part: Path) -> Params:
        def cotangent(x: Image, t: Timestep) -> Image:
            return loss(linearise(eps_fn, params, x, t, cond))

        u = jax.vmap(cotangent)(part.x, part.t)
        over_time = jax.vmap(eps_fn, (None, 0, 0, None))
        return _pull_params(over_time, params, part.x, part.t, cond, u)

    return _over_chunks(normalised if normalise else plain, path, time_chunk)


def sample_gradients(
    loss: Loss,
    eps_fn: EpsFn,
    params: Params,
    path: Path,
    cond: Cond,
    *,
    time_chunk: int | None = None,
) -> PathGradients:
    """Both sums of :func:`sample_gradient`, for the work of the normalised one.

    Arguments and errors as there.
    """

    def both(part: Path) -> PathGradients:
        steps = _step_gradients(loss, eps_fn, params, part, cond)
        return PathGradients(_sum_over_time(steps), _sum_over_time(jax.vmap(unit_or_zero)(steps)))

    return _over_chunks(both, path, time_chunk)


def _step_gradients(loss: Loss, eps_fn: EpsFn, params: Params, part: Path, cond: Cond) -> Params:
    """g_t of every step of a part of a path: [time, ...]."""
    return jax.vmap(lambda x, t: step_gradient(loss, eps_fn, params, x, t, cond))(part.x, part.t)


def _sum_over_time(tree: Params) -> Params:
    return jax.tree.map(lambda leaf: leaf.sum(0), tree)


def _over_chunks(fn: Callable[[Path], Any], path: Path, time_chunk: int | None) -> Any:
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
