"""Training a latent diffusion model from scratch (Rombach et al. 2022): the losses of ONE sample of
the autoencoder, equation (B.2), and of the denoiser with the text encoder, equation (B.3); or low
rank adapters on both, equation (B.5), by the same loss."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from ctrak_jax.gradient import Selection
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.models.network import DenoiserModule, TextEncoder
from ctrak_jax.models.stable_diffusion.autoencoder import KLAutoencoder
from ctrak_jax.models.stable_diffusion.noise import Noise
from ctrak_jax.models.training import Trainer, trainer_of
from ctrak_jax.models.tuning import noise_loss
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Array, Cond, EpsFn, Params, PRNGKey

BY_ADAM = ("conv_in", "conv_out", "time_emb", "attn2/to_k", "attn2/to_v", "text")
"""Parts of the names of what Muon leaves to Adam (:func:`ctrak_jax.models.training.optimizer`): the
first and last layers, and what reads the timestep and the caption."""

FLOW_BY_ADAM = (
    *("pos_embed", "proj_out", "norm_out", "norm1", "time_text_embed", "context_embedder"),
    *("add_k_proj", "add_v_proj", "text_model"),
)
"""The same of a transformer of image and text."""
GATES = ("norm1/linear", "norm1_context/linear", "norm_out/linear", "proj_out")
"""Layers that are zero before training (Peebles & Xie 2023): every block is the identity then."""


def silent(params: Params) -> Params:
    """Fresh parameters of a transformer of image and text with :data:`GATES` at zero."""

    def leaf(path: Any, value: Array) -> Array:
        layer = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        return jnp.zeros_like(value) if layer.endswith(GATES) else value

    return jax.tree_util.tree_map_with_path(leaf, params)


class DenoiserParams(NamedTuple):
    """What is trained together: the denoiser, a UNet or not, and the text encoder."""

    unet: Params
    text: Params


def autoencoder_trainer(
    network: KLAutoencoder,
    rule: optax.GradientTransformation,
    *,
    kl: float,
    ema: float,
) -> Trainer:
    """Train on images [step, batch, H, W, 3] in [-1, 1] by equation (B.2), kappa is ``kl``; the
    network has ``scale`` 1: the latents are measured after training."""

    def loss(params: Params, key: PRNGKey, image: Float[Array, "H W rgb"]) -> Float[Array, ""]:
        latent = network.posterior(params, image)
        noise = jax.random.normal(key, latent.mean.shape)
        drawn = latent.mean + jnp.exp(0.5 * latent.log_variance) * noise
        spread = jnp.exp(latent.log_variance) - 1.0 - latent.log_variance
        distance = jnp.mean(0.5 * (latent.mean**2 + spread))
        return jnp.mean(jnp.abs(network.decode(params, drawn) - image)) + kl * distance

    return trainer_of(loss, rule, ema=ema, scan=False)


def denoiser_loss(
    eps_fn: EpsFn,
    read: Callable[[Params, Any], Cond],
    schedule: Schedule,
    *,
    empty: Cond,
    text_dropout: float,
) -> Callable[..., Float[Array, ""]]:
    """``loss(params, key, latent [h, w, c], text)`` of :class:`DenoiserParams` by equation (B.3),
    of ONE latent and text, a pytree of arrays.

    Args:
        eps_fn: the denoiser.
        read: the condition of a text, by the parameters of the text encoder.
        schedule: the noise levels.
        empty: the caption that takes a caption's place with probability ``text_dropout``, as
            ``read`` takes it.
    """

    def loss(
        params: DenoiserParams, key: PRNGKey, latent: Float[Array, "h w c"], text: Cond
    ) -> Float[Array, ""]:
        time_key, noise_key, drop_key = jax.random.split(key, 3)
        t = jax.random.randint(time_key, (), 0, schedule.steps)
        added = jax.random.normal(noise_key, latent.shape)
        dropped = jax.random.bernoulli(drop_key, text_dropout)
        given = jax.tree.map(lambda none, own: jnp.where(dropped, none, own), empty, text)
        cond = read(params.text, given)
        return noise_loss(lambda x, t: eps_fn(params.unet, x, t, cond), schedule, latent, t, added)

    return loss


def denoiser_trainer(
    unet: DenoiserModule,
    text: TextEncoder,
    noise: Noise,
    rule: optax.GradientTransformation,
    *,
    empty: Int[Array, " token"],
    text_dropout: float,
    ema: float,
) -> Trainer:
    """Train :class:`DenoiserParams` on latents [step, batch, h, w, c] and tokens [step, batch,
    token] by :func:`denoiser_loss`."""
    eps_fn = eps_fn_of(unet, *noise)
    loss = denoiser_loss(eps_fn, text.apply, noise.schedule, empty=empty, text_dropout=text_dropout)
    return trainer_of(loss, rule, ema=ema, scan=False)


def adapter_trainer(
    loss: Callable[..., Float[Array, ""]],
    part: Selection,
    rule: optax.GradientTransformation,
) -> Trainer:
    """Train the selected parameters by a loss of all of them; the others stay as they are, and
    nothing is averaged."""

    def of_part(chosen: Params, others: Params, *rest: Any) -> Float[Array, ""]:
        return loss(part.merge(chosen, others), *rest)

    return trainer_of(of_part, rule, ema=0.0, scan=False, frozen=(part.others,))
