"""The Flax classes of diffusers and transformers: a second implementation of Stable Diffusion's
parts, for one sample, on the same parameters."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax.numpy as jnp
import pytest

pytest.importorskip("diffusers", reason="needs the extra diffusers")

from diffusers.models.unets.unet_2d_condition_flax import FlaxUNet2DConditionModel
from diffusers.models.vae_flax import FlaxAutoencoderKL
from diffusers.utils import logging
from transformers import CLIPTextConfig
from transformers.models.clip.modeling_flax_clip import FlaxCLIPTextModule

logging.set_verbosity_error()  # Every call says that the classes will go.


def _build(cls: Any, config: Mapping[str, Any]) -> Any:
    known = {field.name for field in fields(cls)} - {"parent", "name", "dtype"}
    chosen = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key in known
    }
    return cls(**chosen)


class PeerUNet:
    """Noise prediction."""

    def __init__(self, config: Mapping[str, Any]):
        self.module = _build(FlaxUNet2DConditionModel, config)
        self.init = self.module.init_weights

    def apply(self, variables, x, t, cond):
        batch = jnp.transpose(x, (2, 0, 1))[None]
        output = self.module.apply(variables, batch, jnp.asarray(t)[None], cond[None])
        return jnp.transpose(output.sample[0], (1, 2, 0))


class PeerAutoencoder:
    """Mean, logarithm of the variance, image."""

    def __init__(self, config: Mapping[str, Any]):
        self.module = _build(FlaxAutoencoderKL, config)
        self.init = self.module.init_weights

    def posterior(self, params, image):
        batch, encode = jnp.transpose(image, (2, 0, 1))[None], self.module.encode
        found = self.module.apply({"params": params}, batch, method=encode).latent_dist
        return found.mean[0], found.logvar[0]

    def decode(self, params, latent):
        decode = self.module.decode
        found = self.module.apply({"params": params}, latent[None], method=decode)
        return jnp.transpose(found.sample[0], (1, 2, 0))


class PeerText:
    """The last hidden states."""

    def __init__(self, config: Mapping[str, Any]):
        self.module = FlaxCLIPTextModule(CLIPTextConfig(**config))

    def _inputs(self, tokens):
        ids = jnp.asarray(tokens, jnp.int32)[None]
        return ids, jnp.ones_like(ids), jnp.arange(ids.shape[1])[None]

    def init(self, key):
        return self.module.init(key, *self._inputs(jnp.zeros(1)))["params"]

    def apply(self, params, tokens):
        found: Any = self.module.apply({"params": params}, *self._inputs(tokens))
        return found.last_hidden_state[0]
