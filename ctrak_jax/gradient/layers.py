r"""The sums of equation (4.4) by layer, without the gradient of any single step.

A linear layer y = x W that maps rows (tokens) :math:`A_t` [row, in] at step t and gets the
cotangent :math:`D_t` [row, out] has the gradient :math:`A_t^\top D_t`. Its norm needs no gradient,
and the weighted sum over steps is one contraction over steps and rows at once:

.. math::
    \Vert A_t^\top D_t \Vert^2 = \langle A_t A_t^\top, D_t D_t^\top \rangle, \qquad
    \sum_t w_t A_t^\top D_t                                                               \tag{4.5}

with :math:`w_t = 1 / \Vert g_t \Vert` or 1. A path costs the passes through the network and one
product per layer, and holds [time, row, in + out] per layer where the plain form holds [time, d].
Parameters that are no kernel of a linear layer (biases, norms) keep their gradients step by step.
Source of the norm: Goodfellow 2015 for one row per sample; Rochette et al. 2019 for several.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.gradient.plain import over_chunks, pull_back
from ctrak_jax.precision import EXACT
from ctrak_jax.projection import Projection, factored
from ctrak_jax.projection.api import project_leaf
from ctrak_jax.reward import Loss, Step
from ctrak_jax.trajectory import Path
from ctrak_jax.typing import Array, Cond, Image, LayersFn, Timestep


class Layers(NamedTuple):
    """Gradients of ONE sample at every step of its path, by parameter: A and D of the kernels of
    linear layers, and the gradients themselves of all ``others``."""

    inputs: Mapping[str, Float[Array, "time row in"]]
    output_cotangents: Mapping[str, Float[Array, "time row out"]]
    others: Mapping[str, Float[Array, "time ..."]]


Finish = Callable[[Layers, Float[Array, " time"]], Any]
"""What becomes of the gradients of a path, given a weight per step: linear in the weights."""


def path_layers(
    loss: Loss, layers_fn: LayersFn, params: dict[str, Array], path: Path, cond: Cond
) -> Layers:
    """The gradients of one loss at every step of a path."""

    def step(x: Image, t: Timestep) -> Layers:
        x = x.astype(jnp.float32)
        seen = jax.eval_shape(layers_fn, params, {}, x, t, cond)
        taps = {
            name: jnp.zeros(output.shape, output.dtype)
            for name, output in seen.outputs.items()
            if f"{name}/kernel" in params
        }
        # Of parameters in 16 bits the gradients are float32.
        others = {
            path: p.astype(jnp.promote_types(p.dtype, jnp.float32))
            for path, p in params.items()
            if path.removesuffix("/kernel") not in taps
        }

        def tapped(x: Image, taps: dict[str, Array], others: dict[str, Array]):
            found = layers_fn(params | others, taps, x, t, cond)
            return found.eps, found.inputs

        def eps_under(other: Cond) -> Image:
            return layers_fn(params, {}, x, t, other).eps.astype(jnp.float32)

        # One forward pass serves the backward passes to the state and to the layers.
        eps, pull, inputs = jax.vjp(tapped, x, taps, others, has_aux=True)
        state = Step(x, t, eps.astype(jnp.float32), lambda u: pull_back(pull, eps, u)[0], eps_under)
        _, cotangents, rest = pull_back(pull, eps, loss(state))
        return Layers(
            {f"{name}/kernel": _rows(inputs[name]) for name in taps},
            {f"{name}/kernel": _rows(pulled) for name, pulled in cotangents.items()},
            rest,
        )

    return jax.vmap(step)(path.x, path.t)


def _rows(tokens: Array) -> Float[Array, "row width"]:
    return tokens.reshape(-1, tokens.shape[-1]).astype(jnp.float32)


def step_norms(layers: Layers) -> Float[Array, " time"]:
    """||g_t|| over all parameters: by equation (4.5), or A^T D of a layer where that is cheaper."""
    squares = [jnp.square(g).reshape(g.shape[0], -1).sum(1) for g in layers.others.values()]
    for kernel, a in layers.inputs.items():
        d = layers.output_cotangents[kernel]
        rows, width = a.shape[1], a.shape[2] + d.shape[2]
        if rows * width <= a.shape[2] * d.shape[2]:
            left = jnp.einsum("tiw,tjw->tij", a, a, precision=EXACT)
            right = jnp.einsum("tiw,tjw->tij", d, d, precision=EXACT)
            squares.append(jnp.maximum((left * right).sum((1, 2)), 0.0))
        else:
            step = jnp.einsum("tri,tro->tio", a, d, precision=EXACT)
            squares.append(jnp.square(step).sum((1, 2)))
    return jnp.sqrt(sum(squares[1:], start=squares[0]))


def assemble(layers: Layers, weights: Float[Array, " time"]) -> dict[str, Array]:
    """sum_t w_t g_t of every parameter, by path."""
    found: dict[str, Array] = {
        path: jnp.tensordot(weights, g, 1, precision=EXACT) for path, g in layers.others.items()
    }
    for kernel, a in layers.inputs.items():
        d = layers.output_cotangents[kernel] * weights[:, None, None]
        found[kernel] = a.reshape(-1, a.shape[2]).T @ d.reshape(-1, d.shape[2])
    return found


def project_layers(
    layers: Layers, weights: Float[Array, " time"], projection: Projection
) -> Float[Array, " proj"]:
    """The ``factored`` projection of sum_t w_t g_t without any layer's gradient: equation (5.9)."""
    k, seed = projection.k, projection.seed
    total, row = jnp.zeros(k), 0
    for path in sorted({*layers.inputs, *layers.others}):
        if path in layers.inputs:
            a, d = layers.inputs[path], layers.output_cotangents[path] * weights[:, None, None]
            shape = (a.shape[2], d.shape[2])
            a, d = a.reshape(-1, shape[0]), d.reshape(-1, shape[1])
            total += factored.project_outer(a, d, k=k, seed=seed, first_row=row)
        else:
            g = jnp.tensordot(weights, layers.others[path], 1, precision=EXACT)
            shape = g.shape
            total += project_leaf(g[None], projection, first_row=row)[0]
        row += factored.rows_of(shape)
    return total


def path_gradients(
    loss: Loss,
    layers_fn: LayersFn,
    params: dict[str, Array],
    path: Path,
    cond: Cond,
    *,
    normalise: Sequence[bool],
    time_chunk: int | None = None,
    finish: Finish = assemble,
) -> list[Any]:
    """g of equation (4.4) of ONE sample: what :func:`ctrak_jax.gradient.sample_gradient` gives.

    Args:
        loss: the cotangent at one step.
        params: the parameters to differentiate, by path (see :func:`ctrak_jax.gradient.select`).
        path: states x [time, ...] and timesteps t [time].
        normalise: one result for each entry; they share the passes through the network.
        time_chunk: timesteps side by side; must divide the path's length. ``None``: all.
        finish: makes a result of the weighted steps, by default the gradients by path. Results are
            summed over the chunks.

    Raises:
        ValueError: ``time_chunk`` does not divide the path's length.
    """

    def sums(part: Path) -> list[Any]:
        layers = path_layers(loss, layers_fn, params, part, cond)
        weights = {False: jnp.ones(part.t.shape[0])}
        if True in normalise:
            norm = step_norms(layers)
            weights[True] = jnp.where(norm > 0, 1.0 / jnp.where(norm > 0, norm, 1.0), 0.0)
        return [finish(layers, weights[wanted]) for wanted in normalise]

    return over_chunks(sums, path, time_chunk)
