"""A denoiser whose layers may have adapters: a flax network of ONE latent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.models.lora.layers import LayerAdapter, adapting, with_adapters
from ctrak_jax.typing import Array, Params, PRNGKey

Same = TypeVar("Same", bound="AdaptedNetwork")


@dataclass(frozen=True)
class AdaptedNetwork:
    """A network with the adapters' matrices beside the kernels in its parameters.

    Attributes:
        module: the network.
        latent_shape: of a square image of the size it was trained for, channels last.
        adapters: on its layers.
    """

    module: nn.Module
    latent_shape: tuple[int, int, int]
    adapters: tuple[LayerAdapter, ...] = field(default=(), kw_only=True)

    def predict(
        self, variables: Mapping[str, Params], x: Float[Array, "h w c"], *inputs: Any
    ) -> Float[Array, "h w c"]:
        """What the network gives of a latent and further inputs, its layers with their adapters."""
        with adapting(self.adapters):
            found = self.module.apply(variables, x, *inputs)
        assert isinstance(found, jax.Array)
        return found

    def fresh(self, key: PRNGKey, *inputs: Any) -> Params:
        """Parameters for inputs of these shapes, those of the adapters zero."""
        return with_adapters(self.module.init(key, *inputs)["params"], self.adapters, {})

    def in_float32(self: Same) -> Same:
        """The same network, whose module has a ``dtype``, with everything computed in float32."""
        return replace(self, module=self.module.clone(dtype=jnp.float32))
