"""What the library asks of a pretrained model's parts, each for ONE sample.

These protocols are the whole of it: parts that satisfy them can replace the networks behind
:mod:`ctrak_jax.models.stable_diffusion` without a change elsewhere.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from ctrak_jax.typing import Array, Cond, Image, Params, Timestep


class TextCondition(NamedTuple):
    """The condition of a network that reads a text twice, for ONE sample.

    Attributes:
        embeddings: [token, width], what it attends to.
        pooled: [width], the text as a whole.
    """

    embeddings: Array
    pooled: Array


class SizedTextCondition(NamedTuple):
    """The condition of Stable Diffusion XL, for ONE sample.

    Attributes:
        embeddings: [token, width], what it attends to.
        pooled: [width], the text as a whole.
        sizes: [number], in pixels: original height and width, top and left of the crop, height and
            width of the image.
    """

    embeddings: Array
    pooled: Array
    sizes: Array


def embeddings_of(condition: Cond) -> Array:
    """The embeddings of a text's tokens, alone or beside others: [..., token, width]."""
    return (
        condition.embeddings
        if isinstance(condition, TextCondition | SizedTextCondition)
        else condition
    )


@runtime_checkable
class DenoiserModule(Protocol):
    """A denoiser: x, timestep and condition of one sample -> what it predicts, shaped like x.

    Its linear layers are flax ``nn.Dense`` modules whose path is the path of their parameters
    (``<layer>/kernel`` [in, out], ``<layer>/bias``); gradients by layer and LoRA rely on it.
    """

    def apply(
        self, variables: Mapping[str, Params], x: Image, t: Timestep, cond: Cond, /
    ) -> Any: ...


@runtime_checkable
class RecastableModule(DenoiserModule, Protocol):
    """A denoiser that may compute in another format."""

    def in_float32(self) -> DenoiserModule:
        """The same network with everything computed in float32."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Text -> tokens -> the condition of a text-to-image network."""

    def tokens(self, text: str, /) -> Int[np.ndarray, " token"]:
        """Token numbers, padded or cut to the encoder's length."""
        ...

    def apply(
        self, params: Params, tokens: Int[Array, " token"], /
    ) -> Float[Array, "token width"]: ...


@runtime_checkable
class Autoencoder(Protocol):
    """Images [H, W, 3] with values in [-1, 1] <-> latents [h, w, c] of about unit variance."""

    def encode(self, params: Params, image: Image, /) -> Image: ...

    def decode(self, params: Params, latent: Image, /) -> Image: ...
