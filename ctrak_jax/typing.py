"""Vocabulary of the mathematics: array axes and the two functions a user brings.

Axes: ``sample`` (training samples or queries side by side), ``time`` (attribution timesteps of one
trajectory), ``param`` (the d selected parameters), ``proj`` (the k coordinates of a feature) and
``query`` ((image, concept) questions). The shape of one image is left open (``...``).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

Array = jax.Array | np.ndarray
"""What the mathematics takes: JAX arrays, or NumPy ones that become so."""

Params = Any
"""A pytree of parameter arrays."""

Cond = Any
"""A pytree of arrays: whatever the network takes as the condition of ONE sample."""

Image = Float[Array, "..."]
"""One image or latent, of any shape."""

Scalar = Float[Array, ""]
"""One number."""

Timestep = Int[Array, ""] | int
"""A training timestep of the model: 0 is the least noise."""

PRNGKey = jax.Array
"""A key of ``jax.random``."""


@runtime_checkable
class EpsFn(Protocol):
    """The noise prediction of ONE sample at ONE timestep; batches are made by ``jax.vmap``."""

    def __call__(self, params: Params, x: Image, t: Timestep, cond: Cond, /) -> Image: ...


class LayerTrace(NamedTuple):
    """A prediction, and the inputs [..., in] and outputs [..., out] of the linear layers it came
    through, by their path in the parameters."""

    eps: Image
    inputs: dict[str, Array]
    outputs: dict[str, Array]


@runtime_checkable
class LayersFn(Protocol):
    """An :class:`EpsFn` that shows its linear layers ``y = x kernel (+ bias)``.

    ``taps[layer]`` is added to that layer's output, so that the derivative to it is the output's
    cotangent. The kernel is the parameter ``layer/kernel``, of which every use is seen.
    """

    def __call__(
        self, params: Params, taps: Mapping[str, Array], x: Image, t: Timestep, cond: Cond, /
    ) -> LayerTrace: ...


Reward = Callable[[Image], Scalar]
"""A differentiable reward of one image (or latent): larger means more of the concept."""

TargetReward = Callable[[Image, Any], Scalar]
"""A :data:`Reward` that is told which concept is meant, by arrays (its target)."""
