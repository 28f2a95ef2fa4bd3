"""From the method table to the gradients of one sample, and to features of several."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax import reward
from ctrak_jax.gradient import Layers, assemble, path_gradients, project_layers
from ctrak_jax.methods import GradientSpec
from ctrak_jax.precision import Level, computing
from ctrak_jax.projection import Projection, project_leaves
from ctrak_jax.reward import Contrast, Loss
from ctrak_jax.schedule import Schedule, implied_prediction
from ctrak_jax.trajectory import Path
from ctrak_jax.typing import Array, Cond, EpsFn, Image, LayersFn, Params, Reward


def loss_of(
    loss: str,
    schedule: Schedule,
    x0: Image,
    minus: Cond,
    scale: float,
    contrast: Contrast | None = None,
    rated: Reward | None = None,
) -> Loss:
    """A loss of the method table for one sample; ``minus``, ``scale`` and ``contrast`` are the
    slider's alone (:func:`ctrak_jax.reward.slider`), ``rated`` is the reward of ``reward``.

    Raises:
        ValueError: ``reward`` without one.
    """
    if loss == "reward":
        if rated is None:
            raise ValueError("a gradient of the loss reward needs a reward: pass reward.")
        return reward.reward_x0(rated, schedule)
    losses = {
        "dsm": lambda: reward.dsm(schedule, x0),
        "l2": reward.l2,
        "l1": reward.l1,
        "mean": reward.mean,
        "dps": lambda: reward.dps(schedule, x0),
        "slider": lambda: reward.slider(minus, scale, contrast),
    }
    return losses[loss]()


class Term(NamedTuple):
    """What a gradient of one sample is taken of: a loss at the states of a path, predicted under a
    condition."""

    loss: Loss
    path: Path
    cond: Cond


def gradients_of(
    layers_fn: LayersFn,
    params: dict[str, Array],
    terms: Mapping[GradientSpec, Term],
    projection: Projection,
    time_chunk: int | None,
    precision: Level | None,
) -> dict[GradientSpec, Any]:
    """Gradients of one sample, or their projections where these need no gradient.

    Two specs that differ in normalisation alone share their passes; ``factored`` projects on the
    way. ``precision`` is that of the sums over a path's steps.
    """

    def features(layers: Layers, weights: Array) -> Array:
        return project_layers(layers, weights, projection)

    finish = features if projection.kind == "factored" else computing(assemble, precision)
    found: dict[GradientSpec, Any] = {}
    for spec, term in terms.items():
        if spec in found:
            continue
        wanted = [n for n in (False, True) if spec._replace(normalise=n) in terms]
        sums = path_gradients(
            term.loss,
            layers_fn,
            params,
            term.path,
            term.cond,
            normalise=wanted,
            time_chunk=time_chunk,
            finish=finish,
        )
        found |= {spec._replace(normalise=n): s for n, s in zip(wanted, sums, strict=True)}
    return found


def project_together(gradients: Sequence[Any], projection: Projection) -> Float[Array, "row proj"]:
    """Project several pytrees [sample, ...] at once, end to end: every tile of R is made once.

    What is projected already passes through.
    """
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *gradients)
    return joined if projection.kind == "factored" else project_leaves(joined, projection)


def denoising_errors(
    eps_fn: EpsFn, params: Params, schedule: Schedule, path: Path, x0: Image, cond: Cond
) -> Float[Array, " time"]:
    """mean (n - eps)^2 of one sample at every step of a path."""

    def error(x: Image, t: Array) -> Array:
        wanted = implied_prediction(schedule, x, t, x0)
        return jnp.mean((wanted - eps_fn(params, x, t, cond)) ** 2)

    return jax.vmap(error)(path.x, path.t)
