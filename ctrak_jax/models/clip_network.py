"""CLIP's two transformers, of ONE picture and of ONE text, and their maps into the space that
pictures and texts share.

Published parameters: the names of ``CLIPModel``.

Source: Radford et al. 2021.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Int

from ctrak_jax.errors import UsageError
from ctrak_jax.models.mmdit.settings import positive
from ctrak_jax.models.text_encoders.clip import (
    CLIPEncoder,
    CLIPTransformer,
    activation_in,
    layer_norm,
    transformer_settings,
)
from ctrak_jax.typing import Array

SIZES = {"num_hidden_layers": 12, "hidden_act": "quick_gelu"}
TEXT = SIZES | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
VISION = SIZES | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
}
"""What transformers leaves out of a config.json: the settings of ViT-B/32."""
SUPPORTED = "a CLIP model"


class PictureEmbeddings(nn.Module):
    """The class token and the patches of a picture as vectors, with their places."""

    width: int
    patch: int

    @nn.compact
    def __call__(self, image: Float[Array, "size size 3"]) -> Float[Array, "token width"]:
        sides = (self.patch, self.patch)
        conv = nn.Conv(self.width, sides, sides, "VALID", use_bias=False, name="patch_embedding")
        patches = conv(image).reshape(-1, self.width)
        first = self.param("class_embedding", nn.initializers.normal(0.02), (self.width,))
        tokens = jnp.concatenate([first[None], patches])
        places = nn.Embed(len(tokens), self.width, name="position_embedding")
        return tokens + places(jnp.arange(len(tokens)))


class PictureTransformer(nn.Module):
    """The class token's row of the last layer, normalised."""

    width: int
    patch: int
    encoder_settings: Mapping[str, Any]

    @nn.compact
    def __call__(self, image: Float[Array, "size size 3"]) -> Float[Array, " width"]:
        epsilon = self.encoder_settings["epsilon"]
        tokens = PictureEmbeddings(self.width, self.patch, name="embeddings")(image)
        tokens = layer_norm(epsilon, "pre_layrnorm")(tokens)
        _, last = CLIPEncoder(self.encoder_settings, name="encoder")(tokens)
        return layer_norm(epsilon, "post_layernorm")(last[0])


class CLIPModule(nn.Module):
    """Both transformers.

    Attributes:
        text: settings of the text's.
        vision: settings of the picture's.
        size: of pictures, in pixels.
        projection: of the space that they share.
    """

    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    size: int
    projection: int

    def setup(self) -> None:
        self.text_model = CLIPTransformer(**self.text)
        self.vision_model = PictureTransformer(**self.vision)
        self.text_projection = nn.Dense(self.projection, use_bias=False)
        self.visual_projection = nn.Dense(self.projection, use_bias=False)
        self.logit_scale = self.param("logit_scale", nn.initializers.zeros, ())

    def of_text(self, tokens: Int[Array, " token"]) -> Float[Array, " projection"]:
        """The projected text."""
        _, _, pooled = self.text_model(tokens)
        return self.text_projection(pooled)

    def of_picture(self, image: Float[Array, "size size 3"]) -> Float[Array, " projection"]:
        """The projected picture."""
        return self.visual_projection(self.vision_model(image))

    def __call__(
        self, tokens: Int[Array, " token"], image: Float[Array, "size size 3"]
    ) -> tuple[Array, Array]:
        return self.of_text(tokens), self.of_picture(image)


def clip_of(config: Mapping[str, Any], file: Path) -> CLIPModule:
    """The network that a ``config.json`` describes; errors name ``file``."""
    text, vision = (
        defaults | (config.get(name) or {})
        for name, defaults in (("text_config", TEXT), ("vision_config", VISION))
    )
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    found = positive(file, vision, (*names, "image_size", "patch_size"), SUPPORTED)
    width, heads = found["hidden_size"], found["num_attention_heads"]
    size, patch = found["image_size"], found["patch_size"]
    if width % heads or size % patch:
        raise UsageError(
            f"{file}: vision_config has hidden_size {width} and {heads} heads, image_size {size} "
            f"and patch_size {patch}, expected multiples; use {SUPPORTED}."
        )
    settings = {
        "depth": found["num_hidden_layers"],
        "heads": heads,
        "hidden": found["intermediate_size"],
        "activation": activation_in(vision, file),
        "epsilon": float(vision.get("layer_norm_eps", 1e-5)),
        "causal": False,
    }
    projection = positive(file, {"projection_dim": 512, **config}, ("projection_dim",), SUPPORTED)
    return CLIPModule(
        text=transformer_settings(text, file),
        vision={"width": width, "patch": patch, "encoder_settings": settings},
        size=size,
        projection=projection["projection_dim"],
    )
