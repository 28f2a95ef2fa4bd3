"""The denoiser of Stable Diffusion XL: agreement with PyTorch's class, gradients too."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import flatten_samples, path_gradients, select
from ctrak_jax.models.denoiser import FLOAT32, denoiser_of
from ctrak_jax.models.network import RecastableModule, SizedTextCondition
from ctrak_jax.models.stable_diffusion import Component, UNet, load_unet, unet_of, weights
from ctrak_jax.models.unet.layers import Upsampler
from ctrak_jax.trajectory import Path as States
from tests.references import EXACT, channels_last, difference, reference
from tests.wild import sdxl

SCHEDULE = schedules.scaled_linear()
GRADIENTS = 1e-4


def ref() -> dict[str, np.ndarray]:
    return reference(sdxl() / "sdxl_reference.safetensors")


@cache
def model() -> Component[UNet]:
    return load_unet(sdxl() / "sdxl" / "unet", FLOAT32)


def conditions(kind: str = "") -> SizedTextCondition:
    """Of the three captions, or of those without a concept."""
    embeddings, pooled = ref()[f"prompt_embeds{kind}"], ref()[f"pooled_prompt_embeds{kind}"]
    return SizedTextCondition(embeddings, pooled, ref()["time_ids"])


def test_predictions_are_those_of_pytorch():
    network, params, times = model().network, model().params, jnp.asarray(ref()["timesteps"])
    assert isinstance(network, RecastableModule)
    assert (network.latent_shape, network.text_width, network.pooled_width) == ((8, 8, 4), 28, 14)

    @jax.jit
    def both(params, x, t, cond, wide):
        one = jax.vmap(lambda x, c, t: network.apply({"params": params}, x, t, c), (0, 0, None))
        first = jax.tree.map(lambda leaf: leaf[0], cond)
        at_all = jax.vmap(one, (0, None, 0))(x, cond, t)
        return at_all, network.apply({"params": params}, wide, t[4], first)

    wide, x = channels_last(ref()["wide/x"]), channels_last(ref()["path_forward"])
    found, found_wide = both(params, x, times.astype(jnp.int32), conditions(), wide)
    for i, expected in enumerate(channels_last(ref()["eps"])):
        for ours, theirs in zip(found[i], expected, strict=True):
            assert difference(ours, theirs) < EXACT, i
    assert difference(found_wide, channels_last(ref()["wide/eps"])) < EXACT


def published(prefix: str) -> np.ndarray:
    """[sample, parameter]"""
    found = {name.removeprefix(prefix): v for name, v in ref().items() if name.startswith(prefix)}
    ours = [
        weights.convert({name: value[i] for name, value in found.items()}, model().params)
        for i in range(3)
    ]
    rows = flatten_samples(jax.tree.map(lambda *leaves: jnp.stack(leaves), *ours))
    return np.asarray(rows)


@pytest.mark.slow
def test_gradients_are_those_of_pytorch():
    denoiser = denoiser_of(model().network, model().params, SCHEDULE, "eps")
    part = select(denoiser.params, ("*attn2*",))
    steps = jnp.asarray(ref()["timesteps"], jnp.int32)

    def layers_fn(params, taps, x, t, cond):
        return denoiser.layers_fn(part.merge(params, part.others), taps, x, t, cond)

    def one(which, x0, x, cond, minus):
        losses = (
            reward.dsm(SCHEDULE, x0),
            reward.dps(SCHEDULE, x0),
            reward.slider(minus, 7.5, None),
        )

        def loss(step):
            return jnp.tensordot(which, jnp.stack([each(step) for each in losses]), 1)

        both = [False, True]
        return path_gradients(loss, layers_fn, part.params, States(x, steps), cond, normalise=both)

    samples = jax.vmap(one, (None, 0, 0, 0, 0))
    found = jax.jit(jax.vmap(samples, (0, None, None, None, None)))(
        jnp.eye(3),
        channels_last(ref()["x0"]),
        jnp.moveaxis(channels_last(ref()["path_forward"]), 0, 1),
        conditions(),
        conditions("_minus"),
    )
    for name, rows in zip(("sum", "normalised_sum"), found, strict=True):
        for i, loss in enumerate(("dsm", "dps", "slider_7.5")):
            if (loss, name) == ("dsm", "normalised_sum"):
                continue
            ours = flatten_samples(jax.tree.map(lambda leaf, i=i: leaf[i], rows))
            expected = published(f"grad/{loss}/{name}/")
            for mine, theirs in zip(ours, expected, strict=True):
                distance = np.linalg.norm(mine - theirs) / np.linalg.norm(theirs)
                assert distance < GRADIENTS, (loss, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"addition_embed_type": "image"}, "addition_embed_type is 'image', expected null or"),
        ({"projection_class_embeddings_input_dim": 72}, "leaves no pooled text beside 6 numbers"),
        ({"addition_time_embed_dim": None}, "addition_time_embed_dim is None, expected a whole"),
        ({"attention_head_dim": [1, 3]}, "expected a whole number above 0, or one for each of its"),
        ({"attention_head_dim": 5}, "has 5 heads, expected divisors of block_out_channels, 8"),
        ({"transformer_layers_per_block": [0, 1, 2]}, r"transformer_layers_per_block is \[0, 1, 2"),
        ({"block_out_channels": [8, 12, 18]}, "block_out_channels has 18, expected multiples of 4"),
        ({"block_out_channels": None}, "lacks block_out_channels"),
        ({"up_block_types": ["UpBlock2D"]}, "up_block_types has 1 blocks, block_out_channels 3"),
        ({"norm_num_groups": 0}, "norm_num_groups is 0, expected a whole number above 0"),
    ],
)
def test_another_config_is_one_line(changes, message):
    file = sdxl() / "sdxl" / "unet" / "config.json"
    with pytest.raises(UsageError, match=message) as raised:
        unet_of(json.loads(file.read_text()) | changes, file, FLOAT32)
    assert "\n" not in str(raised.value)


def test_a_latent_whose_sides_cannot_be_halved_keeps_its_size():
    network, params, size = model().network, model().params, (6, 7)
    first = jax.tree.map(lambda leaf: leaf[0], conditions())
    found = jax.eval_shape(network.apply, {"params": params}, jnp.zeros((*size, 4)), 0, first)
    assert found.shape == (*size, 4)


@pytest.mark.parametrize("size", [(3, 8), (5, 7), (4, 4)])
def test_a_level_of_odd_sides_is_the_nearest_pixels_of_the_smaller_one(size):
    """PyTorch's nearest: pixel i of n is pixel floor(i m / n) of m, here by a convolution of the
    middle pixel alone."""
    small = np.random.default_rng(0).normal(size=(-(-size[0] // 2), -(-size[1] // 2), 1))
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1.0
    params = {"conv": {"kernel": kernel, "bias": np.zeros(1, np.float32)}}
    found = Upsampler(jnp.float32).apply({"params": params}, jnp.asarray(small, jnp.float32), size)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, small.shape[:2], strict=True))
    np.testing.assert_allclose(np.asarray(found), small[rows][:, columns], rtol=1e-6)
