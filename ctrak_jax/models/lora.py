"""Low-rank adapters (LoRA) on linear layers: y = x (W + s A B) + b, equation (B.5).

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
from typing import Any

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
from ctrak_jax.models.tuning import Tuned, tune
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey, Timestep

PATTERN = "*/lora_?"
"""Selects the adapters (``gradient.include``)."""


def add_adapters(params: Params, include: Sequence[str], rank: int, key: PRNGKey) -> Params:
    """The parameters with adapters on the kernels of linear layers [in, out] whose paths match one
    of the patterns ``include``; A is normal with variance 1 / in."""
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


def merge_adapters(params: Params, scale: float) -> Params:
    """The network's own parameters with W + s A B for every adapted kernel W."""
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    for path in [path for path in leaves if path.endswith("/lora_a")]:
        layer = path.removesuffix("/lora_a")
        update = scale * leaves.pop(path) @ leaves.pop(f"{layer}/lora_b")
        leaves[f"{layer}/kernel"] = leaves[f"{layer}/kernel"] + update
    return unflatten_dict(leaves, sep="/")


@dataclass(frozen=True)
class Adapted:
    """A network whose parameters hold adapters, which it passes over; also a
    :class:`ctrak_jax.models.network.DenoiserModule`."""

    network: DenoiserModule
    scale: float = 1.0

    def apply(self, variables: Mapping[str, Params], x: Image, t: Timestep, cond: Cond, /) -> Image:
        def adapt(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            y, layer = call(*args, **kwargs), context.module
            if not isinstance(layer, nn.Dense) or context.method_name != "__call__":
                return y
            if not layer.has_variable("params", "lora_a"):
                return y
            weights = (layer.get_variable("params", name) for name in ("lora_a", "lora_b"))
            a, b = (weight.astype(y.dtype) for weight in weights)
            return y + self.scale * (args[0].astype(y.dtype) @ a) @ b

        with nn.intercept_methods(adapt):
            return self.network.apply(variables, x, t, cond)


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
) -> Tuned:
    """Minimise the noise loss of an adapted network over its adapters (:func:`add_adapters`), as
    :func:`ctrak_jax.models.tuning.tune` does; all parameters come back. The conditions of the
    images x0 are a pytree [sample, ...]."""
    part = select(params, (PATTERN,))

    def predict(chosen: Params, others: Params, x: Image, t: Timestep, index: Array) -> Image:
        condition = jax.tree.map(lambda leaf: leaf[index], cond)
        return eps_fn(part.merge(chosen, others), x, t, condition)

    trained = (predict, part.params, part.others)
    tuned = tune(*trained, schedule, rule, x0, steps=steps, batch=batch, key=key)
    return tuned._replace(params=part.merge(tuned.params, part.others))
