"""Stable Diffusion's denoiser: agreement with the published formulas, precision and memory.

tests/fixtures holds what float64 PyTorch computed for a small network with random weights.
"""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import flatten_samples, path_gradients, sample_gradient, select
from ctrak_jax.models.denoiser import Denoiser, denoiser_of
from ctrak_jax.models.stable_diffusion import (
    FLOAT32,
    Compute,
    UNet,
    load_unet,
    read_config,
    unet_of,
    weights,
)
from ctrak_jax.trajectory import Path as States
from ctrak_jax.typing import Array
from tests.paths import FIXTURES
from tests.references import EXACT

SCHEDULE = schedules.scaled_linear()
LOSSES = ("dsm", "dps", "slider")
BFLOAT16 = Compute(dtype="bfloat16")
SD14 = read_config(Path("configs/sd14/unet/config.json"))


@cache
def reference() -> dict[str, np.ndarray]:
    return load_file(FIXTURES / "sd_reference.safetensors")


@cache
def network(compute: Compute = FLOAT32) -> UNet:
    return load_unet(FIXTURES / "sd_unet", compute).network


@cache
def model(compute: Compute = FLOAT32) -> Denoiser:
    params = load_unet(FIXTURES / "sd_unet", FLOAT32).params
    return denoiser_of(network(compute), params, SCHEDULE, "eps", compute)


def channels_last(array: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(array, -3, -1))


def by_sample(array: np.ndarray) -> jax.Array:
    return jnp.moveaxis(channels_last(array), 0, 1)


def times() -> jax.Array:
    return jnp.asarray(reference()["timesteps"], jnp.int32)


def relative(found, expected) -> float:
    return float(jnp.linalg.norm((found - expected).ravel()) / jnp.linalg.norm(expected.ravel()))


def cosines(found, expected) -> np.ndarray:
    norms = jnp.linalg.norm(found, axis=1) * jnp.linalg.norm(expected, axis=1)
    return np.asarray((found * expected).sum(1) / norms)


@cache
def gradients(compute: Compute = FLOAT32, form: str = "layers") -> list[list[jax.Array]]:
    """[loss][normalised] -> per-sample gradients over attn2 [sample, param], by one program."""
    ref, denoiser = reference(), model(compute)
    part = select(denoiser.params, ("*attn2*",))

    def eps_fn(params, x, t, cond):
        return denoiser.eps_fn(part.merge(params, part.others), x, t, cond)

    def layers_fn(params, taps, x, t, cond):
        return denoiser.layers_fn(part.merge(params, part.others), taps, x, t, cond)

    def one(which, x0, x, cond, minus):
        contrast = None
        if compute.dtype != "float32":
            contrast = reward.contrast_of(denoiser.exact_fn, denoiser.params, cond, minus)
        losses = (
            reward.dsm(SCHEDULE, x0),
            reward.dps(SCHEDULE, x0),
            reward.slider(minus, 7.5, contrast),
        )

        def loss(step):
            return jnp.tensordot(which, jnp.stack([each(step) for each in losses]), 1)

        path = States(x, times())
        if form == "layers":
            return path_gradients(loss, layers_fn, part.params, path, cond, normalise=[False, True])
        return [
            sample_gradient(loss, eps_fn, part.params, path, cond, normalise=normalise)
            for normalise in (False, True)
        ]

    every_sample = jax.vmap(one, (None, 0, 0, 0, 0))
    found = jax.jit(jax.vmap(every_sample, (0, None, None, None, None)))(
        jnp.eye(len(LOSSES)),
        channels_last(ref["x0"]),
        by_sample(ref["path_forward"]),
        jnp.asarray(ref["text"]),
        jnp.asarray(ref["text_minus"]),
    )
    sums = [jax.vmap(flatten_samples)(both) for both in found]
    return [[both[i] for both in sums] for i in range(len(LOSSES))]


def published(loss: str, normalised: bool) -> Array:
    prefix = f"grad/{loss}/{'normalised_sum' if normalised else 'sum'}/"
    ours = [
        weights.convert(
            {k.removeprefix(prefix): v[i] for k, v in reference().items() if k.startswith(prefix)},
            model().params,
        )
        for i in range(3)
    ]
    return flatten_samples(jax.tree.map(lambda *rows: jnp.stack(rows), *ours))


def test_schedule_is_the_published_one():
    np.testing.assert_allclose(SCHEDULE.signal**2, reference()["alphas_cumprod"], rtol=1e-4)


def test_predictions_of_a_batch_agree_with_pytorch():
    ref, denoiser = reference(), model()
    over_time = jax.vmap(denoiser.eps_fn, (None, 0, 0, None))
    over_samples = jax.jit(jax.vmap(over_time, (None, 0, None, 0)))
    paths = by_sample(ref["path_forward"])
    found = over_samples(denoiser.params, paths, times(), jnp.asarray(ref["text"]))
    assert relative(found, by_sample(ref["eps"])) <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("form", ["layers", "plain"])
def test_gradients_agree_with_the_published_formulas(form):
    for loss, both in zip(LOSSES, gradients(form=form), strict=True):
        for normalised, found in zip((False, True), both, strict=True):
            expected = published(loss, normalised)
            assert found.shape == expected.shape
            for ours, theirs in zip(found, expected, strict=True):
                assert relative(ours, theirs) <= 1e-4
            assert cosines(found, expected).min() >= 0.9999


@pytest.mark.slow
def test_bfloat16_gradients_point_where_float32_ones_do():
    """At the sizes of guidance in use; the published half-precision run fell to 0.2 to 0.6."""
    for both, exact in zip(gradients(BFLOAT16), gradients(), strict=True):
        for found, expected in zip(both, exact, strict=True):
            assert found.dtype == jnp.float32
            assert cosines(found, expected).min() >= 0.998


def kept(compute: Compute) -> int:
    """Bytes that a pass through a network of 32 x 32 latents keeps for the backward pass."""
    config = {
        "block_out_channels": [32, 64],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "sample_size": 32,
    }
    unet = unet_of(config, Path("config.json"), compute)
    params = jax.eval_shape(unet.init, jax.random.key(0))
    denoiser = denoiser_of(unet, params, SCHEDULE, "eps", compute)

    def way_back(params, x, cond):
        return jax.vjp(lambda x: denoiser.eps_fn(params, x, jnp.int32(500), cond), x)[1]

    x, cond = jax.ShapeDtypeStruct((32, 32, 4), jnp.float32), jnp.zeros((7, 16))
    residuals = jax.tree.leaves(jax.eval_shape(way_back, params, x, cond))
    own = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in residuals) - own


def test_memory_options_keep_less_for_the_way_back():
    plain = kept(FLOAT32)
    assert kept(Compute(efficient_attention=True)) < 0.5 * plain
    assert kept(Compute(remat=True)) < 0.1 * plain
    assert kept(Compute(dtype="bfloat16")) < 0.8 * plain


@pytest.mark.slow
def test_memory_options_do_not_change_a_prediction_or_its_pullback():
    ref = reference()
    x, cond = by_sample(ref["path_forward"])[0, 4], jnp.asarray(ref["text"][0])

    def pulled(compute):
        denoiser = model(compute)

        def run(params, x):
            eps, pull = jax.vjp(lambda x: denoiser.eps_fn(params, x, times()[4], cond), x)
            return eps, pull(jnp.ones_like(eps))[0]

        return jax.jit(run)(denoiser.params, x)

    expected = pulled(FLOAT32)
    for ours, plain in zip(
        pulled(Compute(remat=True, efficient_attention=True)), expected, strict=True
    ):
        assert relative(ours, plain) <= 1e-5


@pytest.mark.parametrize("pattern", ["*", "*attn2*", "*attn2/to_[kv]/*"])
def test_parameters_of_stable_diffusion_1_4(pattern):
    unet = unet_of(SD14, Path("config.json"), FLOAT32)
    # Cross-attentions by width: two a level on the way down, three up, one in the middle.
    attentions, text = {320: 5, 640: 5, 1280: 5 + 1}, 768
    keys_and_values = sum(n * 2 * text * width for width, n in attentions.items())
    others = sum(n * (2 * width**2 + width) for width, n in attentions.items())
    expected = {
        "*": 859_520_964,
        "*attn2*": keys_and_values + others,
        "*attn2/to_[kv]/*": keys_and_values,
    }
    assert expected["*attn2*"] == 43_962_560
    assert (
        select(jax.eval_shape(unet.init, jax.random.key(0)), (pattern,)).size == expected[pattern]
    )


def test_stable_diffusion_2_heads_and_linear_projections():
    config = SD14 | {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "upcast_attention": True,
    }
    unet = unet_of(config, Path("config.json"), FLOAT32)
    params = jax.eval_shape(unet.init, jax.random.key(0))
    assert select(params).size == 865_910_724
    assert params["mid_block"]["attentions_0"]["proj_in"]["kernel"].shape == (1280, 1280)
