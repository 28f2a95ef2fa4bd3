"""A model's network split into what is differentiated and the rest, placed on the devices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from ctrak_jax import devices
from ctrak_jax.attribution import Differentiable, Network, Weights, differentiable, zeros_like
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models import Denoiser
from ctrak_jax.models.architecture import Architecture
from ctrak_jax.projection import Projection

ADAPTER = "/lora_"
"""In the paths of adapters."""


class PlacedNetwork(NamedTuple):
    """What compiled programs are made of.

    Attributes:
        network: the functions.
        params: the parameters, their first argument.
        specs: how the parameters are placed on the devices, by path.
    """

    network: Network
    params: Weights
    specs: Weights


def split(
    denoiser: Denoiser, include: Sequence[str], exclude: Sequence[str], projection: Projection
) -> Differentiable:
    """Apply patterns to a model's parameters. Adapters are selected by patterns that name them:
    those that have "lora" in them.

    Raises:
        UsageError: a pattern matches nothing, or nothing or too little is left.
    """
    eps_fn, layers_fn, params, exact_fn, precision = denoiser
    adapted = any(ADAPTER in path for path in parameter_paths(params))
    if adapted and not any("lora" in pattern for pattern in include):
        exclude = (*exclude, f"*{ADAPTER}*")
    try:
        found = differentiable(
            eps_fn,
            params,
            include=include,
            exclude=exclude,
            layers_fn=layers_fn,
            exact_fn=exact_fn,
            precision=precision,
        )
    except ValueError as error:
        raise UsageError(f"gradient.include or gradient.exclude: {error}") from None
    size = found.params.size
    if projection.kind == "mask" and projection.k > size:
        raise UsageError(
            f"projection.k={projection.k} coordinates cannot be chosen from {size} selected "
            f"parameters; use a smaller k, or another projection.kind than mask."
        )
    return found


def placed(found: Differentiable, architecture: Architecture, mesh: Mesh) -> PlacedNetwork:
    """Say how the parameters are placed.

    They may be in parts on the devices (:func:`ctrak_jax.devices.gathering`), but for those whose
    gradients are taken directly.
    """
    network, params = found
    x, c = jnp.zeros(architecture.sample), zeros_like(architecture.condition)

    def trace(params: Weights) -> Any:
        merged = network.merge(params.chosen, params.others)
        return network.layers_fn(merged, {}, x, jnp.int32(0), c)

    kernels = {f"{layer}/kernel" for layer in jax.eval_shape(trace, params).outputs}

    def spec(path: str, leaf: Any) -> PartitionSpec:
        direct = path in params.chosen and path not in kernels
        return devices.WHOLE if direct else devices.parameter_spec(leaf.shape, mesh)

    specs = [{path: spec(path, leaf) for path, leaf in part.items()} for part in params]
    return PlacedNetwork(network, params, Weights(*specs))
