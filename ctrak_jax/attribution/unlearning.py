r"""Unlearning-based attribution (method.md, section 6): one preconditioned ascent on the query.

.. math::
    \theta' = \theta + \mathrm{lr} F_\mathrm{diag}^{-1} \nabla L(x_q) / N, \qquad
    s_i = L(x_i; \theta') - L(x_i; \theta)                                                \tag{6.3}

L is the denoising loss, mean over the attribution timesteps, with the same noise before and after;
:math:`F_\mathrm{diag}` is the mean over training samples of their squared gradients. A training
image whose loss rises most when the query is unlearned taught it most; of an image and its mirrored
copy, where there is one, the larger score counts. Source: Wang et al. 2024.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.attribution.gradients import denoising_errors
from ctrak_jax.attribution.network import Network, Weights
from ctrak_jax.attribution.recipe import Recipe
from ctrak_jax.gradient import sample_gradient
from ctrak_jax.reward import dsm
from ctrak_jax.trajectory import Path, forward_path
from ctrak_jax.typing import Array, EpsFn, Params

FLOOR = 1e-3
"""The diagonal is not taken below this share of its mean: parameters that no sample moves."""


class NoisedBatch(NamedTuple):
    """Clean samples, their conditions, and numbers that fix their noise: each [sample, ...]."""

    x0: Any
    cond: Any
    index: Any


def denoising_losses(
    recipe: Recipe, eps_fn: EpsFn, params: Params, batch: NoisedBatch
) -> Float[Array, " sample"]:
    """L of a batch of samples."""

    def one(item: NoisedBatch) -> Array:
        path, (x0, cond, _) = _forward(recipe, item), item
        return denoising_errors(eps_fn, params, recipe.schedule, path, x0, cond).mean()

    return jax.vmap(one)(batch)


def denoising_gradient(
    recipe: Recipe, network: Network, params: Weights, item: NoisedBatch
) -> Params:
    """grad L of one sample: the mean over timesteps of the dsm gradient on its forward path."""
    eps_fn, path = network.given(params.others).eps_fn, _forward(recipe, item)
    loss = dsm(recipe.schedule, item.x0)
    total = sample_gradient(loss, eps_fn, params.chosen, path, item.cond, normalise=False)
    return jax.tree.map(lambda g: g / len(recipe.grid.recorded), total)


def squared_gradients(
    recipe: Recipe, network: Network, params: Weights, batch: NoisedBatch
) -> Params:
    """The sum over a batch of (grad L)^2."""
    each = jax.vmap(lambda item: denoising_gradient(recipe, network, params, item))(batch)
    return jax.tree.map(lambda g: jnp.sum(g**2, axis=0), each)


def floored(total: Params, count: int, size: int) -> Params:
    """F_diag by the sum of the squared gradients of ``count`` samples of ``size`` parameters."""
    mean = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(total)) / size
    return jax.tree.map(lambda f: jnp.maximum(f, FLOOR * mean) / count, total)


def unlearned(params: Weights, gradient: Params, diagonal: Params, rate: float) -> Weights:
    """theta' of equation (6.3); ``rate`` is lr / N."""
    moved = jax.tree.map(lambda p, g, f: p + rate * g / f, params.chosen, gradient, diagonal)
    return params._replace(chosen=moved)


def _forward(recipe: Recipe, item: NoisedBatch) -> Path:
    key = jax.random.fold_in(jax.random.key(recipe.seed), item.index)
    return forward_path(recipe.schedule, item.x0, recipe.grid.recorded, key)
