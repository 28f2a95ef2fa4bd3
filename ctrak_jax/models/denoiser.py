"""A network with its parameters: what every stage works with."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models.dit import DiT
from ctrak_jax.models.network import DenoiserModule, RecastableModule
from ctrak_jax.models.published import convert
from ctrak_jax.precision import GIVEN, MatmulPolicy, computing
from ctrak_jax.schedule import (
    Prediction,
    Schedule,
    as_eps_fn,
    network_time,
    predicted_noise,
)
from ctrak_jax.typing import Array, Cond, EpsFn, Image, LayersFn, LayerTrace, Params, Timestep


class Compute(NamedTuple):
    """How a network computes.

    Attributes:
        dtype: of products and activations; gradients and the norms' statistics are float32, and
            parameters are, but those of a pretrained network that its file has in 16 bits: with
            bfloat16 they stay as they are.
        remat: keep only the outputs named :data:`BLOCK` for the backward pass and compute again
            what lies between them: about a third more work, one block's memory instead of all.
        efficient_attention: over chunks of queries, whose weights are never whole (Rabe & Staats
            2021); a UNet's, and a pretrained transformer's, which on a GPU in bfloat16 takes
            cuDNN's (:mod:`ctrak_jax.models.attention`).
        precision: of the products of float32 arrays.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False
    efficient_attention: bool = False
    precision: MatmulPolicy = GIVEN

    @property
    def keeps_half(self) -> bool:
        """Whether parameters that a file has in 16 bits stay so."""
        return self.dtype == "bfloat16"


FLOAT32 = Compute()


class Denoiser(NamedTuple):
    """A noise prediction of one sample, the same with its linear layers shown, its parameters, and
    the prediction for the small difference of two: by a float32 network, with the products that
    ``precision`` has for differences."""

    eps_fn: EpsFn
    layers_fn: LayersFn
    params: Params
    exact_fn: EpsFn
    precision: MatmulPolicy = GIVEN


def eps_fn_of(network: DenoiserModule, schedule: Schedule, prediction: Prediction) -> EpsFn:
    """The noise prediction of a network."""
    return as_eps_fn(
        lambda params, x, t, cond: cast(jax.Array, network.apply({"params": params}, x, t, cond)),
        schedule,
        prediction,
    )


def layers_fn_of(network: DenoiserModule, schedule: Schedule, prediction: Prediction) -> LayersFn:
    """The noise prediction of a network that shows every ``nn.Dense`` used once in it."""

    def layers_fn(
        params: Params, taps: Mapping[str, Array], x: Image, t: Timestep, cond: Cond, /
    ) -> LayerTrace:
        uses: Counter[str] = Counter()
        inputs, outputs = {}, {}

        def watch(call, args, kwargs, context):
            y = call(*args, **kwargs)
            if not isinstance(context.module, nn.Dense) or context.method_name != "__call__":
                return y
            name = "/".join(context.module.path)
            uses[name] += 1
            inputs[name], outputs[name] = args[0], y
            return y + taps[name] if name in taps else y

        with nn.intercept_methods(watch):
            time = network_time(schedule, prediction, t)
            output = cast(jax.Array, network.apply({"params": params}, x, time, cond))
        once = [name for name, count in uses.items() if count == 1]
        return LayerTrace(
            predicted_noise(schedule, prediction, x, t, output),
            {name: inputs[name] for name in once},
            {name: outputs[name] for name in once},
        )

    return layers_fn


BLOCK = "block output"
"""The name that a network gives to its blocks' outputs (``jax.ad_checkpoint.checkpoint_name``)."""


def denoiser_of(
    network: RecastableModule,
    params: Params,
    schedule: Schedule,
    prediction: Prediction,
    compute: Compute = FLOAT32,
) -> Denoiser:
    """A network that computes in ``compute.dtype``, with its parameters."""
    precision = compute.precision
    eps_fn = computing(eps_fn_of(network, schedule, prediction), precision.gradients)
    layers_fn = computing(layers_fn_of(network, schedule, prediction), precision.gradients)
    if compute.remat:
        policy = jax.checkpoint_policies.save_only_these_names(BLOCK)
        eps_fn = jax.checkpoint(eps_fn, policy=policy)
        layers_fn = jax.checkpoint(layers_fn, policy=policy)
    exact_fn = eps_fn
    if compute.dtype != "float32" or precision.mixed:
        exact = network if compute.dtype == "float32" else network.in_float32()
        exact_fn = computing(eps_fn_of(exact, schedule, prediction), precision.differences)
    return Denoiser(eps_fn, layers_fn, params, exact_fn, precision)


def create(network: DiT, image_shape: tuple[int, int, int], cond_size: int, seed: int) -> Params:
    """Fresh parameters of a network."""
    height, width, _ = image_shape
    if height != width or height % network.patch:
        raise UsageError(
            f"images of {height} x {width} do not cut into patches of {network.patch}; "
            "use square images whose side is a multiple of model.patch."
        )
    if network.width % (4 * network.heads):
        raise UsageError(
            f"model.width={network.width} must be a multiple of 4 * heads = {4 * network.heads} "
            "(rotary embeddings split a head in four)."
        )
    x, t, c = jnp.zeros(image_shape), jnp.int32(0), jnp.zeros(cond_size)
    return jax.jit(network.init)(jax.random.key(seed), x, t, c)["params"]


def load_published(
    network: DiT, file: Path, image_shape: tuple[int, int, int], cond_size: int
) -> Params:
    """Parameters from a published checkpoint (safetensors), checked against ``network``."""
    try:
        params = convert(load_file(file))
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(f"{file}: not a published checkpoint ({reason}).") from None
    found = _shapes(params)
    wanted = _shapes(jax.eval_shape(lambda: create(network, image_shape, cond_size, 0)))
    for path in sorted(found.keys() | wanted.keys()):
        if found.get(path) != wanted.get(path):
            raise UsageError(
                f"{file}: parameter {path} has shape {found.get(path)}, the configured network "
                f"wants {wanted.get(path)}; set model.width, depth, heads and patch and the "
                "data's attributes to match."
            )
    return jax.tree.map(jnp.asarray, params)


def _shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    leaves: dict[str, Any] = flatten_dict(tree, sep="/")
    return {path: leaf.shape for path, leaf in leaves.items()}
