"""The autoencoder of Stable Diffusion for ONE image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.stable_diffusion import huggingface, weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.typing import Array, Params, PRNGKey

ONLY = {
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}


class Gaussian(NamedTuple):
    """Mean and logarithm of the variance of every coordinate."""

    mean: Float[Array, "h w c"]
    log_variance: Float[Array, "h w c"]


@dataclass(frozen=True)
class KLAutoencoder:
    """A :class:`ctrak_jax.models.network.Autoencoder` over FlaxAutoencoderKL; its latents are
    multiplied by ``scale``, to about unit variance, ``shrink`` times smaller than images."""

    module: Any
    scale: float
    shrink: int

    def encode(self, params: Params, image: Float[Array, "H W rgb"], /) -> Float[Array, "h w c"]:
        """The mean of the latent's distribution (no draw: one image, one latent), scaled."""
        return self.scale * self.posterior(params, image).mean

    def posterior(self, params: Params, image: Float[Array, "H W rgb"], /) -> Gaussian:
        """The distribution of the latent, not scaled."""
        batch = jnp.transpose(image, (2, 0, 1))[None]
        found = self.module.apply({"params": params}, batch, method=self.module.encode)
        return Gaussian(found.latent_dist.mean[0], found.latent_dist.logvar[0])

    def decode(self, params: Params, latent: Float[Array, "h w c"], /) -> Float[Array, "H W rgb"]:
        """The image of a latent; values may lie a little outside [-1, 1]."""
        batch = latent[None] / self.scale
        found = self.module.apply({"params": params}, batch, method=self.module.decode)
        return jnp.transpose(found.sample[0], (1, 2, 0))

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self.module.init_weights(key)


def autoencoder_of(config: Mapping[str, Any], file: Path) -> KLAutoencoder:
    """The network that a ``vae/config.json`` describes; errors name ``file``."""
    refuse_others(file, config, ONLY)
    if "block_out_channels" not in config:
        raise UsageError(f"{file} lacks block_out_channels; use an autoencoder's config.json.")
    return KLAutoencoder(
        huggingface.autoencoder(config),
        config.get("scaling_factor", 0.18215),
        2 ** (len(config["block_out_channels"]) - 1),
    )


def autoencoder_from(part: Part) -> Component[KLAutoencoder]:
    """An autoencoder with its parameters."""
    return weights.load(part.weights(), autoencoder_of(part.config, part.file))


def load_autoencoder(folder: Path) -> Component[KLAutoencoder]:
    """The autoencoder in ``folder`` (config.json and weights)."""
    return autoencoder_from(part_in(folder, DIFFUSERS))
