"""Stable Diffusion's parts beside the Flax classes of diffusers and transformers.

Their UNet computes GELU by its tanh form and normalises groups in the transformers with epsilon
1e-5, where PyTorch's has the error function and 1e-6.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("diffusers", reason="needs the extra diffusers")

from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.stable_diffusion import autoencoder_of, load_unet
from ctrak_jax.models.text_encoders import clip_text_of
from tests.flax_peers import PeerAutoencoder, PeerText, PeerUNet
from tests.paths import FIXTURES
from tests.references import EXACT, difference
from tests.tiny_model import TEXT, VAE, random_like

UNET = FIXTURES / "sd_unet"


def shapes(init):
    found = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), dict(found))


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def test_the_denoiser_is_theirs_but_for_two_approximations(monkeypatch):
    config, ours = read_config(UNET / "config.json"), load_unet(UNET, FLOAT32)
    theirs = PeerUNet(config)
    assert shapes(ours.network.init) == shapes(theirs.init)
    of_sample = {"params": ours.params}, normal(8, 8, 4), jnp.int32(500), normal(77, 32)
    found = jax.jit(ours.network.apply)(*of_sample)
    assert 1e-5 < difference(found, np.asarray(jax.jit(theirs.apply)(*of_sample))) < 1e-3

    monkeypatch.setattr(nn, "gelu", partial(nn.gelu, approximate=False))
    plain = nn.GroupNorm.__call__

    def of_pytorch(self: nn.GroupNorm, x: jax.Array) -> jax.Array:
        if self.name == "norm":
            object.__setattr__(self, "epsilon", 1e-6)
        return plain(self, x)

    monkeypatch.setattr(nn.GroupNorm, "__call__", of_pytorch)
    again = PeerUNet(config)
    assert difference(found, np.asarray(jax.jit(again.apply)(*of_sample))) < EXACT


def test_the_autoencoder_is_theirs():
    ours, theirs = autoencoder_of(VAE, FIXTURES), PeerAutoencoder(VAE)
    assert shapes(ours.init) == shapes(theirs.init)
    params = random_like(jax.eval_shape(ours.init, jax.random.key(0)), 0)
    image, latent = normal(16, 16, 3), normal(8, 8, 4)
    pairs = zip(
        jax.jit(ours.posterior)(params, image),
        jax.jit(theirs.posterior)(params, image),
        strict=True,
    )
    for found, expected in pairs:
        assert difference(found, np.asarray(expected)) < EXACT
    found = jax.jit(ours.decode)(params, ours.scale * latent)
    expected = jax.jit(theirs.decode)(params, latent)
    assert difference(found, np.asarray(expected)) < EXACT


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_text_encoder_is_theirs(activation):
    config = TEXT | {"hidden_act": activation}
    ours, theirs = clip_text_of(config, FIXTURES), PeerText(config)
    assert shapes(ours.init) == shapes(theirs.init)
    params = random_like(jax.eval_shape(ours.init, jax.random.key(0)), 0)
    tokens = np.array([10, 3, 8, 0, 11, 11], np.int32)
    found, expected = jax.jit(ours.apply)(params, tokens), jax.jit(theirs.apply)(params, tokens)
    assert difference(found.last, np.asarray(expected)) < 1e-5
