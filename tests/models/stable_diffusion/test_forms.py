"""One model in all the forms in which Stable Diffusion is passed around: the same numbers."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.checkpoints import safe
from ctrak_jax.models.checkpoints.spelling import plain
from ctrak_jax.models.stable_diffusion import ModelFiles
from ctrak_jax.models.stable_diffusion.source import single_file
from ctrak_jax.models.tokenizers import vocabulary
from tests.tiny_model import change
from tests.wild import forms

FORMATS, SINGLE = forms() / "formats", forms() / "formats" / "single_file"
BASE, SD2 = FORMATS / "sd_fp16", FORMATS / "sd2"
SD15, SD21, VAE = (SINGLE / f"tiny_{n}_fp16.safetensors" for n in ("sd15", "sd21", "vae"))
REFERENCE = safe.read(forms() / "reference.safetensors")
PROMPTS = json.loads(REFERENCE.metadata["prompts"])
PARTS = ("unet", "vae", "text_encoder")


def tensors(files: ModelFiles | Path, part: str) -> dict[str, np.ndarray]:
    """A part's numbers by their names in one spelling, without what is no parameter."""
    found = sd.model_files(files).part(part).weights().tensors
    named = {name.rpartition("."): value for name, value in found.items()}
    return {
        f"{plain(module)}.{leaf}": value.astype(np.float32)
        for (module, _, leaf), value in named.items()
        if leaf != "position_ids"
    }


WHOLE = {
    "pickles": FORMATS / "sd_bin",
    "sharded pickles": FORMATS / "sd_bin_sharded",
    "diffusers 0.42": FORMATS / "sd_042",
    "names without text_model": FORMATS / "sd_042_converted",
    "a single file of 1.x": ModelFiles(SD15, BASE),
    "with another autoencoder": ModelFiles(SD15, BASE, vae=VAE),
    "with a folder's autoencoder": ModelFiles(SD15, BASE, vae=BASE),
    "with a part's folder": ModelFiles(BASE, vae=FORMATS / "sd_bin" / "vae"),
}
UNETS = [f"sd_sharded{suffix}" for suffix in ("", "_fp16", "_fp16_legacy")]
ONE_FORM = [
    *((name, files, part) for name, files in WHOLE.items() for part in PARTS),
    *((name, FORMATS / name, "unet") for name in UNETS),
]


@pytest.mark.parametrize(("_", "files", "part"), ONE_FORM, ids=[f"{n}-{p}" for n, _, p in ONE_FORM])
def test_every_form_has_the_same_numbers(_, files, part):
    found, expected = tensors(files, part), tensors(BASE, part)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("part", PARTS)
def test_a_single_file_of_2_x_has_the_numbers_of_its_folder(part):
    found, expected = tensors(ModelFiles(SD21, SD2), part), tensors(SD2, part)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_single_file_becomes_the_parameters_of_its_folder():
    """Through the network's paths and layouts."""
    for file, folder in ((SD15, BASE), (SD21, SD2)):
        found = sd.load(ModelFiles(file, folder)).denoiser.params
        jax.tree.map(np.testing.assert_array_equal, found, sd.load(folder).denoiser.params)


@pytest.mark.parametrize("name", ["sd_fp16", "sd_042", "sd_042_converted", "sd2"])
def test_tokens_of_every_form_are_the_same(name):
    expected = REFERENCE.tensors["sd2/tokens" if name == "sd2" else "tokens"]
    tokens = sd.text_tokenizer(FORMATS / name)
    np.testing.assert_array_equal([tokens(prompt) for prompt in PROMPTS], expected)


def test_predictions_agree_with_pytorch():
    model, ref = sd.load(FORMATS / "sd_042_converted"), REFERENCE.tensors
    codecs = sd.load_codecs(FORMATS / "sd_042_converted")
    text = jax.vmap(codecs.text.network.apply, (None, 0))(codecs.text.params, ref["tokens"])
    np.testing.assert_allclose(text, ref["text"], atol=1e-5)
    x = jnp.moveaxis(jnp.asarray(ref["path_forward"][4]), 1, -1)
    over = jax.jit(jax.vmap(model.denoiser.eps_fn, (None, 0, None, 0)))
    eps = over(model.denoiser.params, x, jnp.int32(ref["timesteps"][4]), text)
    np.testing.assert_allclose(jnp.moveaxis(eps, -1, 1), ref["eps"][4], atol=1e-4)


@pytest.mark.parametrize("name", ["unet_fp8", "unet_bf16"])
def test_other_dtypes_are_converted_exactly(name):
    found = tensors(FORMATS / name, "unet")["conv_out.weight"]
    np.testing.assert_array_equal(found, REFERENCE.tensors[f"{name}/conv_out.weight"])


# Schedulers


@pytest.mark.parametrize(
    "name",
    ["epsilon", "v_prediction", "no_prediction_type", "zero_snr", "zero_snr_euler", "sample"],
)
def test_noise_levels_are_those_of_the_real_classes(name):
    expected = safe.read(forms() / "schedulers" / "alphas_cumprod.safetensors").tensors[name]
    found = np.asarray(sd.read_noise(forms() / "schedulers" / name).schedule.signal) ** 2
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() > 0


def test_without_signal_a_velocity_still_tells_the_image_and_a_noise_does_not(tmp_path):
    noise = sd.read_noise(forms() / "schedulers" / "zero_snr")
    rng = np.random.default_rng(0)
    x0, n = rng.standard_normal((2, 4, 4, 1)).astype(np.float32)
    signal, sigma = (float(part[-1]) for part in noise.schedule[:2])
    x, v = signal * x0 + sigma * n, signal * n - sigma * x0
    eps = signal * v + sigma * x
    np.testing.assert_allclose((x - sigma * eps) / signal, x0, atol=2e-3)
    with pytest.raises(UsageError, match=r"no signal is left at timestep 999, .*prediction: v"):
        sd.read_noise(forms() / "schedulers" / "trained_betas_zero")


def test_what_a_network_predicts_can_be_said():
    files = ModelFiles(BASE, prediction="v")
    assert sd.noise_in(files).prediction == "v"
    assert sd.noise_in(ModelFiles(BASE)).prediction == "eps"


# Single files without a folder


def published_like(file: Path, width: int, **others: np.ndarray) -> Path:
    """A file with the layer that tells the version."""
    layer = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    save_file({layer: np.zeros((320, width), np.float16), **others}, file)
    return file


@pytest.mark.parametrize(
    ("width", "prediction", "heads", "size"),
    [(768, None, 8, 64), (1024, "v", [5, 10, 20, 20], 96), (1024, "eps", [5, 10, 20, 20], 64)],
)
def test_a_published_model_needs_no_folder(tmp_path, width, prediction, heads, size):
    file = published_like(tmp_path / "x.ckpt", width)
    files = ModelFiles(file, prediction=prediction)
    config, _ = files.config("unet")
    assert (config["attention_head_dim"], config["sample_size"]) == (heads, size)
    assert sd.network_in(files, sd.FLOAT32).text_width == width
    assert files.config("text_encoder")[0]["hidden_size"] == width
    assert sd.noise_in(files).prediction == (prediction or "eps")


def test_a_single_file_is_read_once_for_its_settings_and_once_for_every_part(tmp_path, monkeypatch):
    """A pickle is read whole each time it is opened."""
    small = vocabulary.derive(["a b"])  # CLIP's need not be installed
    monkeypatch.setattr(vocabulary, "library", lambda: tmp_path)
    monkeypatch.setattr(vocabulary, "read", lambda folder: small)
    opened = []
    real = single_file.open_file
    monkeypatch.setattr(single_file, "open_file", lambda file: opened.append(file) or real(file))
    files = ModelFiles(published_like(tmp_path / "x.safetensors", 768))
    sd.network_in(files, sd.FLOAT32)
    sd.noise_in(files)
    sd.text_tokenizer(files)
    parts = [files.part(name) for name in PARTS]
    assert len(opened) == 1
    assert parts[0].weights().tensors
    assert len(opened) == 2


def weightless(file: Path, *names: str) -> Path:
    save_file({name: np.zeros(1, np.float32) for name in names}, file)
    return file


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["conditioner.embedders.0.x"], "is a Stable Diffusion XL checkpoint, which is not"),
        (["model.diffusion_model.joint_blocks.0.x"], "is a Stable Diffusion 3 checkpoint"),
        (["control_model.x"], "is a ControlNet"),
        (["lora_unet_x.lora_down.weight"], r"is a LoRA; give it as model\.lora, beside"),
        (["emb_params"], "is a textual inversion, not a model"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], r"holds no UNet; .*model\.vae"),
        (["x.weight"], r"is no Stable Diffusion checkpoint: .*'x\.weight', expected model\.diff"),
    ],
)
def test_other_single_files_are_refused_by_name(tmp_path, names, message):
    with pytest.raises(UsageError, match=message) as caught:
        sd.load(weightless(tmp_path / "x.safetensors", *names))
    assert "\n" not in str(caught.value)


def test_what_a_single_file_does_not_say_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match=r"is \(32, 32\), .* 1\.x has .*give the folder"):
        sd.load(SD15)
    file = published_like(tmp_path / "x.safetensors", 1024)
    with pytest.raises(UsageError, match=r"set model\.prediction: v \(768 pixels\) or eps"):
        sd.load(file)
    with pytest.raises(UsageError, match=r"has no text_encoder; give a folder"):
        ModelFiles(published_like(file, 768)).part("text_encoder").weights()
    with pytest.raises(UsageError, match=r"holds no autoencoder; leave out model\.vae"):
        ModelFiles(BASE, vae=file).part("vae").weights()


def test_a_part_that_a_single_file_lacks_is_the_folders(tmp_path):
    kept = {
        name: value
        for name, value in safe.read(SD15).tensors.items()
        if not name.startswith("first_stage_model.")
    }
    save_file(kept, tmp_path / "x.safetensors")
    found = tensors(ModelFiles(tmp_path / "x.safetensors", BASE), "vae")
    for name, value in tensors(BASE, "vae").items():
        np.testing.assert_array_equal(found[name], value)


def test_a_text_encoder_of_one_more_layer_is_cut(tmp_path):
    """Stable Diffusion 2 reads the layer before the last."""
    more = dict(safe.read(SD21).tensors)
    last = "cond_stage_model.model.transformer.resblocks.1."
    extra = {n.replace(last, last.replace("1.", "2.")): v for n, v in more.items() if last in n}
    assert len(extra) == 12
    save_file(more | extra, tmp_path / "x.safetensors")
    found = tensors(ModelFiles(tmp_path / "x.safetensors", SD2), "text_encoder")
    assert found.keys() == tensors(SD2, "text_encoder").keys()


def test_an_unknown_tensor_of_a_part_is_not_passed_over(tmp_path):
    more = {**safe.read(SD15).tensors, "model.diffusion_model.extra.weight": np.zeros(3)}
    save_file(more, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match=r"tensor 'extra\.weight' is not in the network"):
        sd.load(ModelFiles(tmp_path / "x.safetensors", BASE))


def test_the_average_over_training_is_no_part():
    found = single_file.contents(SD15)
    assert any(name.startswith("model_ema.") for name in found.opened.tensors)
    config = sd.model_files(BASE).part("unet").config
    assert not any("ema" in name for name in found.part("unet", config).tensors)


def test_a_damaged_tokenizer_is_refused(tmp_path):
    folder = Path(shutil.copytree(FORMATS / "sd_042", tmp_path / "model"))
    change(folder / "tokenizer" / "tokenizer.json", model={"vocab": {}})
    with pytest.raises(UsageError, match=r"tokenizer\.json holds no byte-pair vocabulary"):
        sd.text_tokenizer(folder)
