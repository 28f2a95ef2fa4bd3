"""Low-rank adapters (LoRA) on linear layers: y = x (W + s A B) + b, equation (B.5).

A convolution's A is a convolution of its own with r outputs, and B a product with every pixel.

B starts at zero, so that an adapted network begins as the network it adapts. The adapters live in
the same pytree as the network's own parameters, beside the kernel that they adapt:
``<layer>/kernel``, ``<layer>/lora_a``, ``<layer>/lora_b``. So the pattern ``*/lora_?`` selects them
alone, for training and for attribution. A second adapter on a layer is ``lora_a_2``, ``lora_b_2``,
and so on; ``*lora*`` selects all of them. Inside the network s A B is never formed: a layer's
gradients are those of two thin products.

Source: Hu et al. 2022.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.linen.linear import canonicalize_padding
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import expanded, select
from ctrak_jax.models.network import DenoiserModule
from ctrak_jax.models.tuning import Tuned, tune
from ctrak_jax.precision import EXACT
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Array, Cond, EpsFn, Image, Params, PRNGKey, Timestep

PATTERN = "*/lora_?"
"""Selects the adapters (``gradient.include``)."""


def add_adapters(params: Params, include: Sequence[str], rank: int, key: PRNGKey) -> Params:
    """The parameters with adapters on the kernels of linear layers [in, out] whose paths match one
    of the patterns ``include``, as :func:`ctrak_jax.gradient.select` takes them; A is normal with
    variance 1 / in."""
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    patterns = expanded(include, leaves)
    adapted = [
        path
        for path, leaf in leaves.items()
        if path.endswith("/kernel")
        and leaf.ndim == 2
        and any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
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


class LayerAdapter(NamedTuple):
    """An adapter on a layer, without its matrices.

    Attributes:
        layer: the path of the layer.
        number: of the adapter among all that are used at once, from 1.
        shape: of A, [in, r] or [height, width, in, r].
        scale: s of equation (B.5).
    """

    layer: str
    number: int
    shape: tuple[int, ...]
    scale: float


def adapters_in(params: Params, scale: float) -> tuple[LayerAdapter, ...]:
    """The adapters of parameters that have at most one on a layer (:func:`add_adapters`)."""
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    return tuple(
        LayerAdapter(path.removesuffix("/lora_a"), 1, leaf.shape, scale)
        for path, leaf in leaves.items()
        if path.endswith("/lora_a")
    )


def adapter_names(number: int) -> tuple[str, str]:
    """The names of A and B of an adapter of this number, beside their kernel."""
    return ("lora_a", "lora_b") if number == 1 else (f"lora_a_{number}", f"lora_b_{number}")


def merge_adapters(
    params: Params, scale: float = 1.0, adapters: Sequence[LayerAdapter] | None = None
) -> Params:
    """The network's own parameters with W + s A B for every adapted kernel W.

    Args:
        params: with A and B beside the kernels.
        scale: s of all adapters, where there is one on a layer.
        adapters: or the adapters, each with its own s.
    """
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    for layer, number, _, own in adapters_in(params, scale) if adapters is None else adapters:
        a, b = (leaves.pop(f"{layer}/{name}") for name in adapter_names(number))
        # Exactly: an accelerator's own would round the merged weight.
        product = jnp.matmul(a, b, precision=EXACT)
        leaves[f"{layer}/kernel"] = leaves[f"{layer}/kernel"] + own * product
    return unflatten_dict(leaves, sep="/")


def with_adapters(
    params: Params, adapters: Sequence[LayerAdapter], matrices: Mapping[str, Array]
) -> Params:
    """The parameters with A and B, by path, beside the kernels of their layers; zeros where a
    matrix is not given."""
    if not adapters:
        return params
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    for layer, number, shape, _ in adapters:
        outputs = leaves[f"{layer}/kernel"].shape[-1]
        for name, size in zip(adapter_names(number), (shape, (shape[-1], outputs)), strict=True):
            path = f"{layer}/{name}"
            leaves[path] = matrices[path] if path in matrices else jnp.zeros(size)
    return unflatten_dict(leaves, sep="/")


def adapting(adapters: Sequence[LayerAdapter]) -> AbstractContextManager[None]:
    """Within it the layers of a flax module compute with their adapters."""
    by_layer: dict[str, list[LayerAdapter]] = {}
    for adapter in adapters:
        by_layer.setdefault(adapter.layer, []).append(adapter)

    def adapt(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y, layer = call(*args, **kwargs), context.module
        if context.method_name != "__call__" or not isinstance(layer, nn.Dense | nn.Conv):
            return y
        for adapter in by_layer.get("/".join(layer.path), ()):
            names = adapter_names(adapter.number)
            a, b = (layer.get_variable("params", name).astype(y.dtype) for name in names)
            y = y + adapter.scale * (_through(layer, args[0].astype(y.dtype), a) @ b)
        return y

    return nn.intercept_methods(adapt)


def _through(layer: nn.Module, x: Array, a: Array) -> Array:
    if isinstance(layer, nn.Dense):
        return x @ a
    assert isinstance(layer, nn.Conv)
    padding, x, a = canonicalize_padding(layer.padding, 2), jnp.asarray(x), jnp.asarray(a)
    strides = layer.strides or 1
    strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
    found = jax.lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-3:]),  # one sample has no batch axis
        a,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return found.reshape(*x.shape[:-3], *found.shape[1:])


@dataclass(frozen=True)
class Adapted:
    """A network whose parameters hold adapters, which it passes over; also a
    :class:`ctrak_jax.models.network.DenoiserModule`."""

    network: DenoiserModule
    scale: float = 1.0

    def apply(self, variables: Mapping[str, Params], x: Image, t: Timestep, cond: Cond, /) -> Image:
        with adapting(adapters_in(variables["params"], self.scale)):
            return self.network.apply(variables, x, t, cond)


def train_adapters(
    eps_fn: EpsFn,
    params: Params,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
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
    tuned = tune(*trained, schedule, optimizer, x0, steps=steps, batch=batch, key=key)
    return tuned._replace(params=part.merge(tuned.params, part.others))
