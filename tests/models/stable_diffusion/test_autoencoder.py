"""The autoencoder: agreement with PyTorch's class, of 4 and 16 channels."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.stable_diffusion import autoencoder_of, load_autoencoder
from tests.references import EXACT, channels_last, difference, reference
from tests.wild import dit_xl, flux, sd3, sdxl

PLACES = {
    "sdxl": (sdxl, "sdxl"),
    "sd3_dual": (sd3, "sd3_dual"),
    "flux_dev": (flux, "flux_dev"),
    "dit": (dit_xl, "dit"),
}
SD14 = Path("configs/sd14/vae/config.json")


@pytest.mark.parametrize("name", PLACES)
def test_latents_and_images_are_those_of_pytorch(name):
    """XL's and DiT's have 4 channels and convolutions between encoder and decoder, the others 16
    and a shift."""
    root, folder = PLACES[name]
    ref = reference(root() / f"{name}_reference.safetensors")
    network, params = (found := load_autoencoder(root() / folder / "vae")).network, found.params
    image = channels_last(ref["vae/image"])

    @jax.jit
    def run(params, images, latents):
        posterior = jax.vmap(network.posterior, (None, 0))(params, images)
        encoded = jax.vmap(network.encode, (None, 0))(params, images)
        return posterior, encoded, jax.vmap(network.decode, (None, 0))(params, latents)

    latent = channels_last(ref["vae/latent"])
    posterior, encoded, decoded = run(params, image, latent)
    assert difference(posterior.mean, channels_last(ref["vae/mean"])) < EXACT
    assert difference(posterior.log_variance, channels_last(ref["vae/logvar"])) < EXACT
    assert difference(encoded, latent) < EXACT
    assert difference(decoded, channels_last(ref["vae/decoded"])) < EXACT


@pytest.mark.parametrize(("changes", "size"), [({}, 83_653_863), ({"latent_channels": 16}, None)])
def test_parameters_of_stable_diffusion(changes, size):
    """16 channels without the two convolutions are Stable Diffusion 3's: 83,819,683."""
    if changes:
        changes, size = (
            changes | {"use_quant_conv": False, "use_post_quant_conv": False},
            83_819_683,
        )
    network = autoencoder_of(read_config(SD14) | changes, SD14)
    params = jax.eval_shape(network.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == size
    assert ("quant_conv" in params) == (not changes)


def test_a_latent_is_shifted_then_scaled():
    config = {"block_out_channels": [8], "norm_num_groups": 4, "scaling_factor": 0.5}
    plain = autoencoder_of(config, SD14)
    moved = autoencoder_of(config | {"shift_factor": 0.25, "scaling_factor": 2.0}, SD14)
    params = jax.jit(plain.init)(jax.random.key(0))
    image = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 3)), jnp.float32)
    latent = plain.encode(params, image)
    np.testing.assert_allclose(moved.encode(params, image), 4 * latent - 0.5, atol=1e-6)
    image = plain.decode(params, latent)
    np.testing.assert_allclose(moved.decode(params, 4 * latent - 0.5), image, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents_mean": [0.0]}, r"latents_mean is \[0.0\], only None is supported"),
        ({"block_out_channels": [128, 100]}, "has 100, expected multiples of 32, the groups"),
        ({"block_out_channels": []}, "lacks block_out_channels"),
        ({"latent_channels": "four"}, "latent_channels is 'four', expected a whole number above 0"),
    ],
)
def test_another_config_is_one_line(changes, message):
    with pytest.raises(UsageError, match=message) as raised:
        autoencoder_of(read_config(SD14) | changes, SD14)
    assert "\n" not in str(raised.value)
