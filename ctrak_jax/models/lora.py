r"""Low-rank adapters (LoRA) on the linear layers of a network.

.. math::
    y = x (W + s A B) + b, \qquad A \in \mathbb{R}^{in \times r}, \quad
    B \in \mathbb{R}^{r \times out}                                                       \tag{B.5}

B starts at zero, so that an adapted network begins as the network it adapts. The adapters live in
the same pytree as the network's own parameters, beside the kernel that they adapt:
``<layer>/kernel``, ``<layer>/lora_a``, ``<layer>/lora_b``. So the pattern ``*/lora_?`` selects them
alone, for training and for attribution. Inside the network s A B is never formed: a layer's
gradients are those of two thin products.

Source: Hu et al. 2022.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import select
from ctrak_jax.models.network import DenoiserModule
from ctrak_jax.models.tuning import tune
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey, Timestep

PATTERN = "*/lora_?"
"""Selects the adapters (``gradient.include``)."""


def add_adapters(params: Params, include: Sequence[str], rank: int, key: PRNGKey) -> Params:
    """The parameters with adapters on the chosen kernels.

    Args:
        params: of the network: a nested dict.
        include: patterns on paths; the matching kernels of linear layers [in, out] are adapted.
        rank: r.
        key: of A, normal with variance 1 / in.

    Raises:
        UsageError: no kernel of a linear layer matches, or the rank is not below a kernel's sides.
    """
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    adapted = [
        path
        for path, leaf in leaves.items()
        if path.endswith("/kernel")
        and leaf.ndim == 2
        and any(fnmatch.fnmatchcase(path, pattern) for pattern in include)
    ]
    if not adapted:
        raise UsageError(
            f"adapters on {list(include)}: no kernel of a linear layer matches; use a pattern such "
            "as *attn2*."
        )
    for number, path in enumerate(sorted(adapted)):
        inputs, outputs = leaves[path].shape
        if not 1 <= rank < min(inputs, outputs):
            raise UsageError(
                f"rank={rank} of an adapter must be at least 1 and below the sides of {path} "
                f"[{inputs}, {outputs}]; try 4."
            )
        layer = path.removesuffix("/kernel")
        a = jax.random.normal(jax.random.fold_in(key, number), (inputs, rank))
        leaves[f"{layer}/lora_a"] = a / np.sqrt(inputs)
        leaves[f"{layer}/lora_b"] = jnp.zeros((rank, outputs))
    return unflatten_dict(leaves, sep="/")


class Split(NamedTuple):
    """A network's own parameters and the adapters, by path."""

    own: dict[str, Any]
    adapters: dict[str, Any]


def _split(params: Params) -> Split:
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    adapters = {path: leaf for path, leaf in leaves.items() if fnmatch.fnmatchcase(path, PATTERN)}
    return Split({path: leaf for path, leaf in leaves.items() if path not in adapters}, adapters)


def merge_adapters(params: Params, scale: float) -> Params:
    """The network's own parameters with W + s A B for every adapted kernel W."""
    own, adapters = _split(params)
    for path in adapters:
        if path.endswith("/lora_a"):
            layer = path.removesuffix("/lora_a")
            update = scale * adapters[path] @ adapters[f"{layer}/lora_b"]
            own[f"{layer}/kernel"] = own[f"{layer}/kernel"] + update
    return unflatten_dict(own, sep="/")


@dataclass(frozen=True)
class Adapted:
    """A network whose parameters hold adapters; a :class:`ctrak_jax.models.network.DenoiserModule`.

    Attributes:
        network: what is adapted.
        scale: s.
    """

    network: DenoiserModule
    scale: float = 1.0

    def apply(self, variables: Mapping[str, Params], x: Image, t: Timestep, cond: Cond, /) -> Image:
        own, adapters = _split(variables["params"])

        def adapt(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            y = call(*args, **kwargs)
            if not isinstance(context.module, nn.Dense) or context.method_name != "__call__":
                return y
            layer = "/".join(context.module.path)
            if f"{layer}/lora_a" not in adapters:
                return y
            a, b = (adapters[f"{layer}/{name}"].astype(y.dtype) for name in ("lora_a", "lora_b"))
            return y + self.scale * (args[0].astype(y.dtype) @ a) @ b

        with nn.intercept_methods(adapt):
            return self.network.apply({"params": unflatten_dict(own, sep="/")}, x, t, cond)


class Fitted(NamedTuple):
    """Parameters with trained adapters, and the loss of every step."""

    params: Params
    losses: Float[Array, " step"]


def train_adapters(
    eps_fn: EpsFn,
    params: Params,
    schedule: Schedule,
    rule: optax.GradientTransformation,
    x0: Float[Array, "sample ..."],
    cond: Cond,
    *,
    steps: int,
    batch: int,
    key: PRNGKey,
) -> Fitted:
    """Minimise the noise loss over the adapters; every other parameter stays as it is.

    Args:
        eps_fn: of the adapted network.
        params: with adapters (:func:`add_adapters`).
        rule: the optimiser, whose state covers the adapters alone.
        x0: training images or latents.
        cond: their conditions, a pytree [sample, ...].
        steps: optimiser steps.
        batch: samples per step, drawn with replacement. Every random number of step s comes from
            ``fold_in(key, s)``.

    Raises:
        ValueError: the parameters hold no adapters.
    """
    part = select(params, (PATTERN,))

    def predict(chosen: Params, others: Params, x: Image, t: Timestep, index: Array) -> Image:
        condition = jax.tree.map(lambda leaf: leaf[index], cond)
        return eps_fn(part.merge(chosen, others), x, t, condition)

    tuned = tune(
        *(predict, part.params, part.others, schedule, rule, x0), steps=steps, batch=batch, key=key
    )
    return Fitted(part.merge(tuned.chosen, part.others), tuned.losses)
