"""The autoencoder of Stable Diffusion and FLUX.1 for ONE image, out of its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.mmdit.settings import positive
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component, refuse_others
from ctrak_jax.models.stable_diffusion.source import Part, part_in
from ctrak_jax.models.unet import KLModule
from ctrak_jax.typing import Array, Params, PRNGKey

ONLY = {
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "latents_mean": None,
    "latents_std": None,
}
DEFAULTS = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 32,
}
LOG_VARIANCES = (-30.0, 20.0)
"""Between which they are kept."""
SUPPORTED = "an autoencoder of Stable Diffusion or FLUX.1 (AutoencoderKL)"


class Gaussian(NamedTuple):
    """Mean and logarithm of the variance of every coordinate."""

    mean: Float[Array, "h w c"]
    log_variance: Float[Array, "h w c"]


@dataclass(frozen=True)
class KLAutoencoder:
    """A :class:`ctrak_jax.models.network.Autoencoder` over :class:`KLModule`; of its latents
    ``shift`` is taken, then they are multiplied by ``scale``, to about unit variance. They are
    ``shrink`` times smaller than images."""

    module: KLModule
    scale: float
    shrink: int
    shift: float = 0.0

    def encode(self, params: Params, image: Float[Array, "H W rgb"], /) -> Float[Array, "h w c"]:
        """The mean of the latent's distribution (no draw: one image, one latent), scaled."""
        return self.scale * (self.posterior(params, image).mean - self.shift)

    def posterior(self, params: Params, image: Float[Array, "H W rgb"], /) -> Gaussian:
        """The distribution of the latent, not scaled."""
        found = self.module.apply({"params": params}, image, method=self.module.encode)
        mean, log_variance = jnp.split(jnp.asarray(found), 2, axis=-1)
        return Gaussian(mean, jnp.clip(log_variance, *LOG_VARIANCES))

    def decode(self, params: Params, latent: Float[Array, "h w c"], /) -> Float[Array, "H W rgb"]:
        """The image of a latent; values may lie a little outside [-1, 1]."""
        unscaled = latent / self.scale + self.shift
        found = self.module.apply({"params": params}, unscaled, method=self.module.decode)
        assert isinstance(found, jax.Array)
        return found

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        return self.module.init(key, jnp.zeros((self.shrink, self.shrink, 3)))["params"]


def autoencoder_of(config: Mapping[str, Any], file: Path) -> KLAutoencoder:
    """The network that a ``vae/config.json`` describes; errors name ``file``."""
    refuse_others(file, config, ONLY, SUPPORTED)
    found = positive(file, {**DEFAULTS, **config}, tuple(DEFAULTS), SUPPORTED)
    widths, groups = config.get("block_out_channels"), found["norm_num_groups"]
    if not isinstance(widths, list | tuple) or not widths:
        raise UsageError(f"{file} lacks block_out_channels; use an autoencoder's config.json.")
    odd = [width for width in widths if type(width) is not int or width <= 0 or width % groups]
    if odd:
        raise UsageError(
            f"{file}: block_out_channels has {short(odd[0])}, expected multiples of {groups}, the "
            f"groups of the norms; use {SUPPORTED}."
        )
    module = KLModule(
        widths=tuple(widths),
        layers=found["layers_per_block"],
        groups=groups,
        colours=found["out_channels"],
        channels=found["latent_channels"],
        after_encoder=config.get("use_quant_conv", True),
        before_decoder=config.get("use_post_quant_conv", True),
    )
    return KLAutoencoder(
        module,
        config.get("scaling_factor", 0.18215),
        2 ** (len(widths) - 1),
        config.get("shift_factor") or 0.0,
    )


def autoencoder_from(part: Part) -> Component[KLAutoencoder]:
    """An autoencoder with its parameters."""
    return weights.load(part.weights(), autoencoder_of(part.config, part.file))


def load_autoencoder(folder: Path) -> Component[KLAutoencoder]:
    """The autoencoder in ``folder`` (config.json and weights)."""
    return autoencoder_from(part_in(folder, DIFFUSERS))
