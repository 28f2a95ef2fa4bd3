"""Folders in diffusers' format: what loads, what is refused, and what a part must provide."""

import re
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import parameter_paths
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.checkpoints import DIFFUSERS, TRANSFORMERS
from ctrak_jax.models.network import Autoencoder, DenoiserModule, TextEncoder
from ctrak_jax.typing import EpsFn, LayersFn
from tests.tiny_model import (
    SCHEDULER,
    change,
    write,
    write_model,
)


def as_pytorch(params: Any, numbered: str) -> dict[str, np.ndarray]:
    """The names and layouts a PyTorch checkpoint has.

    Args:
        numbered: the modules whose name ends in an underscore and their number.
    """
    tensors = {}
    leaves: dict[str, Any] = flatten_dict(params, sep="/")
    for path, value in leaves.items():
        name = re.sub(rf"({numbered})_(\d+)", r"\1.\2", path).replace("/", ".")
        module, _, leaf = name.rpartition(".")
        if leaf == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        leaf = "bias" if leaf == "bias" else "weight"
        tensors[f"{module}.{leaf}"] = np.ascontiguousarray(value)
    return tensors


VAE_NUMBERED = "down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_the_parts_provide_what_is_asked_of_them(whole):
    """Whatever takes the place of the Flax classes must pass this."""
    model, codecs = sd.load(whole), sd.load_codecs(whole)
    assert isinstance(model.network, DenoiserModule)
    assert isinstance(codecs.text.network, TextEncoder)
    assert isinstance(codecs.image.network, Autoencoder)
    assert isinstance(model.denoiser.eps_fn, EpsFn)
    assert isinstance(model.denoiser.layers_fn, LayersFn)

    text = codecs.text.network
    tokens = text.tokens("abc d!")
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [10, 8, 3, 9] + 73 * [11]
    assert text.tokens("a " * 200).shape == (77,)
    cond = text.apply(codecs.text.params, tokens)
    assert cond.shape == (77, model.network.text_width)
    # Causal: what follows a token does not reach it.
    other = text.apply(codecs.text.params, text.tokens("abc d"))
    np.testing.assert_allclose(cond[:3], other[:3], atol=1e-5)
    assert float(jnp.abs(cond[3] - other[3]).max()) > 1e-3

    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (16, 16, 3)), jnp.float32)
    latent = codecs.image.network.encode(codecs.image.params, image)
    assert latent.shape == model.network.latent_shape
    assert codecs.image.network.decode(codecs.image.params, latent).shape == image.shape

    params, t = model.denoiser.params, jnp.int32(500)
    eps = jax.jit(model.denoiser.eps_fn)(params, latent, t, cond)
    assert (eps.shape, eps.dtype) == (latent.shape, jnp.float32)
    exact = jax.jit(model.denoiser.exact_fn)(params, latent, t, cond)
    np.testing.assert_allclose(exact, eps, atol=1e-5)
    seen = jax.jit(model.denoiser.layers_fn)(params, {}, latent, t, cond)
    np.testing.assert_allclose(seen.eps, eps, atol=1e-5)
    paths = parameter_paths(params)
    assert sum("attn2" in layer for layer in seen.inputs) == 4 * 4
    for layer, value in seen.inputs.items():
        assert f"{layer}/kernel" in paths
        assert value.shape[:-1] == seen.outputs[layer].shape[:-1]


def test_latents_are_scaled(folder):
    image = jnp.ones((16, 16, 3))
    before = sd.load_autoencoder(folder / "vae")
    latent = before.network.encode(before.params, image)
    change(folder / "vae" / "config.json", scaling_factor=1.0)
    after = sd.load_autoencoder(folder / "vae")
    np.testing.assert_allclose(after.network.encode(after.params, image), 2 * latent, rtol=1e-5)
    np.testing.assert_allclose(
        after.network.decode(after.params, 2 * latent),
        before.network.decode(before.params, latent),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("names", ["new", "old"])
def test_an_autoencoder_loads_from_pytorch_weights(folder, names):
    vae = folder / "vae"
    expected = sd.load_autoencoder(vae)
    tensors = as_pytorch(expected.params, VAE_NUMBERED)
    if names == "new":
        new = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
        tensors = {
            re.sub(r"\.(query|key|value|proj_attn)\.", lambda m: f".{new[m[1]]}.", name): value
            for name, value in tensors.items()
        }
    (vae / DIFFUSERS.flax).unlink()
    save_file(tensors, vae / "diffusion_pytorch_model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, sd.load_autoencoder(vae).params, expected.params)


def test_a_text_encoder_loads_from_pytorch_weights(folder):
    encoder = folder / "text_encoder"
    expected = sd.load_codecs(folder).text.params
    tensors = as_pytorch(expected, "none")
    tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]
    (encoder / TRANSFORMERS.flax).unlink()
    save_file(tensors, encoder / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, sd.load_codecs(folder).text.params, expected)


@pytest.mark.parametrize("form", ["fp16", "shards", "flax"])
def test_other_forms_of_the_same_weights(folder, form):
    unet = folder / "unet"
    file = unet / "diffusion_pytorch_model.safetensors"
    expected, tensors = sd.load_unet(unet, sd.FLOAT32).params, load_file(file)
    file.unlink()
    if form == "fp16":
        half = {name: value.astype(np.float16) for name, value in tensors.items()}
        save_file(half, unet / "diffusion_pytorch_model.fp16.safetensors")
    elif form == "shards":
        names = sorted(tensors)
        shards = {"one.safetensors": names[:50], "two.safetensors": names[50:]}
        for shard, part in shards.items():
            save_file({name: tensors[name] for name in part}, unet / shard)
        places = {name: shard for shard, part in shards.items() for name in part}
        write(unet / "diffusion_pytorch_model.safetensors.index.json", {"weight_map": places})
    else:
        whole = msgpack_serialize(jax.tree.map(np.asarray, expected))
        (unet / DIFFUSERS.flax).write_bytes(whole)
    found = sd.load_unet(unet, sd.FLOAT32).params
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found))
    tolerance = 1e-3 if form == "fp16" else 0.0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


@pytest.mark.parametrize(
    ("settings", "expected", "prediction"),
    [
        ({}, schedules.scaled_linear(), "eps"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}, None, "v"),
        ({"beta_schedule": "linear"}, schedules.linear(0.00085, 0.012), "eps"),
        ({"beta_schedule": "squaredcos_cap_v2"}, schedules.cosine(), "eps"),
        ({"trained_betas": [0.1, 0.2]}, schedules.from_betas(np.array([0.1, 0.2])), "eps"),
        ({"_class_name": "EulerDiscreteScheduler", "prediction_type": "sample"}, None, "x0"),
    ],
)
def test_noise_schedules(folder, settings, expected, prediction):
    change(folder / "scheduler" / "scheduler_config.json", **settings)
    noise = sd.read_noise(folder / "scheduler")
    assert noise.prediction == prediction
    np.testing.assert_allclose(
        noise.schedule.signal, (expected or schedules.scaled_linear()).signal
    )


def test_a_v_prediction_becomes_the_noise(folder):
    network = sd.load(folder).network
    change(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    model = sd.load(folder)
    x, t, cond = jnp.ones((8, 8, 4)), jnp.int32(500), jnp.ones((77, 32))
    v = network.apply({"params": model.denoiser.params}, x, t, cond)
    abar = model.noise.schedule.signal[500] ** 2
    np.testing.assert_allclose(
        model.denoiser.eps_fn(model.denoiser.params, x, t, cond),
        jnp.sqrt(abar) * v + jnp.sqrt(1 - abar) * x,
        atol=1e-5,
    )


def spoil_shape(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"conv_in.bias": np.zeros(7, np.float32)}, file)


def spoil_missing(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    save_file(tensors, file)


def spoil_extra(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"extra.weight": np.zeros(3, np.float32)}, file)


def cut_short(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def pointer_alone(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def index_alone(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model-00001-of-00002.safetensors"))


def two_variants(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.one.safetensors"))
    file.with_name("diffusion_pytorch_model.two.safetensors").write_bytes(b"")


def damaged_flax(folder: Path) -> None:
    (folder / "vae" / DIFFUSERS.flax).write_bytes(b"\x81")


def no_betas(folder: Path) -> None:
    settings = {name: SCHEDULER[name] for name in ("_class_name", "beta_schedule")}
    write(folder / SCHEDULER_FILE, settings)


def setting(file: str, **settings: Any):
    return lambda folder: change(folder / file, **settings)


def without(file: str):
    return lambda folder: (folder / file).unlink()


SCHEDULER_FILE = "scheduler/scheduler_config.json"
OF_XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 30,
}
SPOILED = [
    (without("model_index.json"), r"model_index.json is missing; point to the folder"),
    (setting("model_index.json", _class_name="StableDiffusionXLPipeline"), r"XLPipeline.*1.x or 2"),
    (without(SCHEDULER_FILE), r"scheduler_config.json is missing"),
    (no_betas, r"scheduler_config.json lacks beta_end, beta_start; add the model's own"),
    (setting(SCHEDULER_FILE, _class_name="FlowMatch"), r"scheduler 'FlowMatch' is not known; use"),
    (setting(SCHEDULER_FILE, beta_schedule="sigmoid"), r"beta_schedule 'sigmoid' .* scaled_linear"),
    (setting(SCHEDULER_FILE, prediction_type="flow"), r"prediction_type 'flow' .* v_prediction"),
    (setting(SCHEDULER_FILE, rescale_betas_zero_snr=True), r"no signal is left at timestep 999"),
    (setting(SCHEDULER_FILE, trained_betas=[0.1, 1.0]), r"no signal is left at timestep 1, where"),
    (setting(SCHEDULER_FILE, trained_betas=[0.1, 1.5]), r"betas are not numbers above 0 and at"),
    (setting(SCHEDULER_FILE, trained_betas="all"), r"trained_betas is no list of numbers"),
    (setting(SCHEDULER_FILE, use_flow_sigmas=True), r"use_flow_sigmas is true, .* flow model"),
    (setting(SCHEDULER_FILE, timestep_type="continuous"), r"timestep_type is 'continuous', only"),
    (without("unet/config.json"), r"unet/config.json is missing"),
    (without("unet/diffusion_pytorch_model.safetensors"), r"unet has no weights; expected"),
    (pointer_alone, r"is a pointer of Git LFS, not the weights; run git lfs pull"),
    (index_alone, r"00001-of-00002.safetensors is one of several, their index.json is missing"),
    (two_variants, r"model.one.safetensors, .*model.two.safetensors; keep the one that is to be"),
    (spoil_shape, r"conv_in/bias is \(7,\), config.json describes \(32,\); use the config"),
    (spoil_missing, r"conv_in/bias is missing, config.json describes \(32,\)"),
    (spoil_extra, r"tensor 'extra.weight' is not in the network"),
    (cut_short, r"diffusion_pytorch_model.safetensors: cannot be used"),
    (setting("unet/config.json", addition_embed_type="text_time"), r"time_embed_dim is None, expe"),
    (setting("unet/config.json", **OF_XL), r"a Stable Diffusion XL network, which is read out"),
    (setting("unet/config.json", in_channels=9), r"in_channels=9 but out_channels=4; inpainting"),
    (setting("unet/config.json", act_fn="gelu"), r"act_fn is 'gelu', only 'silu' is supported"),
    (
        setting("unet/config.json", down_block_types=["SkipDownBlock2D"]),
        r"'SkipDownBlock2D' is",
    ),
    (
        setting("unet/config.json", mid_block_type="UNetMidBlock2D"),
        r"'UNetMidBlock2D' is not known",
    ),
    (setting("unet/config.json", block_out_channels=[32, 40]), r"has 40, expected multiples of 32"),
    (setting("unet/config.json", cross_attention_dim=16), r"config.json describes"),
    (without("vae/config.json"), r"vae/config.json is missing"),
    (damaged_flax, r"diffusion_flax_model.msgpack: cannot be used"),
    (setting("vae/config.json", latents_mean=[0.1]), r"latents_mean is .*, only None"),
    (without("text_encoder/flax_model.msgpack"), r"text_encoder has no weights; .*model.safeten"),
    (setting("text_encoder/config.json", num_hidden_layers=3), r"layers/2/.* is missing"),
    (setting("text_encoder/config.json", vocab_size=4), r"numbers its tokens up to 11, .* has 4"),
    (setting("unet/config.json", cross_attention_dim=64), r"config.json describes"),
    (without("tokenizer/merges.txt"), r"merges.txt is missing"),
    (lambda folder: (folder / "unet/config.json").write_text("{"), r"unet/config.json is no JSON"),
    (lambda folder: write(folder / "unet/config.json", []), r"holds a list, expected an object"),
]


def load_whole(folder: Path) -> None:
    sd.load(folder)
    sd.load_codecs(folder)


@pytest.mark.parametrize(("spoil", "message"), SPOILED, ids=[message for _, message in SPOILED])
def test_a_spoiled_folder_is_refused_in_one_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UsageError, match=message) as caught:
        load_whole(folder)
    assert "\n" not in str(caught.value)


def test_parts_of_two_models_are_refused(folder):
    change(folder / "unet" / "config.json", cross_attention_dim=64)
    with pytest.raises(UsageError, match=r"embeddings are 32 wide, .* takes 64"):
        sd.load_codecs(folder)
