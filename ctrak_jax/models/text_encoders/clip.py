"""CLIP's text transformer for ONE text, with every output that text-to-image models take.

Stable Diffusion XL and 3 read the output of the last layer but one and the projected text,
FLUX.1 the pooled text. A token attends to those before it, padding too. Published parameters: the
names of ``CLIPTextModelWithProjection``.

Source: Radford et al. 2021.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import TRANSFORMERS
from ctrak_jax.models.mmdit.settings import positive
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.typing import Array, Params, PRNGKey

NEEDED = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("vocab_size", "max_position_embeddings"),
)
SUPPORTED = "a CLIP text encoder"
ONLY = {"model_type": "clip_text_model", "use_attention_mask": False}
"""Settings that change what the network computes, with the one value that is supported."""
WITH_PROJECTION = "CLIPTextModelWithProjection"
END = 49407
"""``eos_token_id`` where config.json has none."""
LARGEST = 2
"""The ``eos_token_id`` of older configs, which is not the end token's: its place is then that of
the largest token number."""


def quick_gelu(x: Array) -> Array:
    """x sigmoid(1.702 x)."""
    return x * nn.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": partial(nn.gelu, approximate=False)}


class CLIPTextOutput(NamedTuple):
    """What CLIP makes of a text.

    Attributes:
        last: [token, width], of the last layer, normalised.
        penultimate: [token, width], of the layer before it, not normalised.
        pooled: [width], the end token's row of ``last``.
        projected: [projection], ``pooled`` in the space that texts and pictures share; None where
            the model has no projection.
    """

    last: Array
    penultimate: Array
    pooled: Array
    projected: Array | None


class CLIPAttention(nn.Module):
    """Attention to all tokens; ``causal``: to those up to one's own."""

    heads: int
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        tokens, width = x.shape
        q, k, v = (
            nn.Dense(width, name=f"{name}_proj")(x).reshape(tokens, self.heads, -1)
            for name in "qkv"
        )
        mixed = jax.nn.dot_product_attention(q, k, v, is_causal=self.causal)
        return nn.Dense(width, name="out_proj")(mixed.reshape(tokens, width))


class CLIPFeedForward(nn.Module):
    """Two linear layers with a GELU between."""

    hidden: int
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        h = ACTIVATIONS[self.activation](nn.Dense(self.hidden, name="fc1")(x))
        return nn.Dense(x.shape[-1], name="fc2")(h)


def layer_norm(epsilon: float, name: str) -> nn.LayerNorm:
    """CLIP's norm of every token."""
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, name=name)


class CLIPLayer(nn.Module):
    """Attention and feed-forward, each after a norm."""

    heads: int
    hidden: int
    activation: str
    epsilon: float
    causal: bool

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> Array:
        h = layer_norm(self.epsilon, "layer_norm1")(x)
        x = x + CLIPAttention(self.heads, self.causal, name="self_attn")(h)
        h = layer_norm(self.epsilon, "layer_norm2")(x)
        return x + CLIPFeedForward(self.hidden, self.activation, name="mlp")(h)


class CLIPLayers(nn.Module):
    """All layers: the outputs of the last two."""

    depth: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    causal: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> tuple[Array, Array]:
        before = x
        for i in range(self.depth):
            how = (self.heads, self.hidden, self.activation, self.epsilon, self.causal)
            before, x = x, CLIPLayer(*how, name=str(i))(x)
        return before, x


class CLIPEncoder(nn.Module):
    """The layers under the name that published parameters have."""

    how: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Float[Array, "token width"]) -> tuple[Array, Array]:
        return CLIPLayers(**self.how, name="layers")(x)


class CLIPEmbeddings(nn.Module):
    """Tokens and their places as vectors."""

    vocabulary: int
    places: int
    width: int

    @nn.compact
    def __call__(self, tokens: Int[Array, " token"]) -> Float[Array, "token width"]:
        places = nn.Embed(self.places, self.width, name="position_embedding")
        words = nn.Embed(self.vocabulary, self.width, name="token_embedding")
        found = words(tokens).astype(jnp.float32)
        return found + places(jnp.arange(len(tokens))).astype(jnp.float32)


class CLIPTransformer(nn.Module):
    """Embeddings, layers, the last norm; ``end`` is the number of the end token."""

    vocabulary: int
    places: int
    width: int
    depth: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    end: int

    @nn.compact
    def __call__(self, tokens: Int[Array, " token"]) -> tuple[Array, Array, Array]:
        sizes = (self.vocabulary, self.places, self.width)
        x = CLIPEmbeddings(*sizes, name="embeddings")(tokens)
        how = {
            name: getattr(self, name)
            for name in ("depth", "heads", "hidden", "activation", "epsilon")
        }
        penultimate, last = CLIPEncoder(how, name="encoder")(x)
        last = layer_norm(self.epsilon, "final_layer_norm")(last)
        # The first of several, since texts are padded with it.
        place = jnp.argmax(tokens if self.end == LARGEST else tokens == self.end)
        return penultimate, last, last[place]


class CLIPTextModule(nn.Module):
    """The transformer and, where ``projection`` is given, the map of the pooled text."""

    transformer: Mapping[str, Any]
    projection: int | None

    @nn.compact
    def __call__(self, tokens: Int[Array, " token"]) -> CLIPTextOutput:
        transformer = CLIPTransformer(**self.transformer, name="text_model")
        penultimate, last, pooled = transformer(tokens)
        projected = None
        if self.projection is not None:
            layer = nn.Dense(self.projection, use_bias=False, name="text_projection")
            projected = layer(pooled)
        return CLIPTextOutput(last, penultimate, pooled, projected)


@dataclass(frozen=True)
class CLIPTextEncoder:
    """CLIP's text transformer of token numbers, at most ``length``.

    Attributes:
        module: the network.
        length: of the longest text, in tokens.
        width: of its embeddings.
    """

    module: CLIPTextModule
    length: int
    width: int

    def apply(self, params: Params, tokens: Int[Array, " token"], /) -> CLIPTextOutput:
        """Everything that a text-to-image model may take of a text."""
        found = self.module.apply({"params": params}, jnp.asarray(tokens, jnp.int32))
        assert isinstance(found, CLIPTextOutput)
        return found

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self.module.init(key, jnp.zeros(1, jnp.int32))["params"]


def activation_in(config: Mapping[str, Any], file: Path) -> str:
    """The name of a transformer's activation; errors name ``file``."""
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise UsageError(f"{file}: hidden_act is {activation!r}, expected {known}.")
    return activation


def transformer_settings(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The attributes of :class:`CLIPTransformer` by a text encoder's settings; errors name
    ``file``."""
    found = positive(file, config, NEEDED, SUPPORTED)
    activation = activation_in(config, file)
    width, heads = found["hidden_size"], found["num_attention_heads"]
    if width % heads:
        raise UsageError(
            f"{file}: hidden_size is {width}, expected a multiple of its {heads} heads; use "
            f"{SUPPORTED}."
        )
    end = config.get("eos_token_id", END)
    if type(end) is not int:
        raise UsageError(
            f"{file}: eos_token_id is {end!r}, expected the number of one token; use {SUPPORTED}."
        )
    return {
        "vocabulary": found["vocab_size"],
        "places": found["max_position_embeddings"],
        "width": width,
        "depth": found["num_hidden_layers"],
        "heads": heads,
        "hidden": found["intermediate_size"],
        "activation": activation,
        "epsilon": float(config.get("layer_norm_eps", 1e-5)),
        "end": end,
    }


def clip_text_of(config: Mapping[str, Any], file: Path) -> CLIPTextEncoder:
    """The network that a ``text_encoder/config.json`` describes; errors name ``file``."""
    refuse_others(file, config, ONLY, SUPPORTED)
    transformer, projection = transformer_settings(config, file), None
    if WITH_PROJECTION in (config.get("architectures") or ()):
        projection = positive(file, config, ("projection_dim",), SUPPORTED)["projection_dim"]
    module = CLIPTextModule(transformer, projection)
    return CLIPTextEncoder(module, transformer["places"], transformer["width"])


def clip_text_from(part: Part) -> Component[CLIPTextEncoder]:
    """The encoder with its parameters; it computes in float32, whatever they are stored in."""
    return weights.load(part.weights(), clip_text_of(part.config, part.file), keep=True)


def load_clip_text(folder: Path) -> Component[CLIPTextEncoder]:
    """The encoder in ``folder`` (config.json and weights)."""
    return clip_text_from(part_in(folder, TRANSFORMERS))
