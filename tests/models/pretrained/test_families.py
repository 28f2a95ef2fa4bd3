"""Published models by their folders: conditions of texts, levels, shapes (fixtures/README.md)."""

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.latent_dit import LatentDiTDenoiser
from ctrak_jax.models.lora.files import LoraFile
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.pretrained import describe, load_network, load_text, token_reader
from ctrak_jax.models.stable_diffusion import ModelFiles
from ctrak_jax.trajectory import grid
from tests.references import difference, reference
from tests.wild import dit_xl, flux, sd3, sdxl

CAPTIONS = (
    "a red circle on a white table",
    "a pencil drawing of a small cat",
    "two blue birds in the snow!",
)
ROOTS: dict[str, Callable[[], Path]] = {"sd3_dual": sd3, "sd3_no_t5": sd3, "flux_dev": flux}
T5 = 24
"""Tokens of T5 in the references."""
EMBEDDINGS = 1e-5
SIDE = 8
SHRINK = 2


def files_of(name: str) -> ModelFiles:
    return ModelFiles(ROOTS[name]() / name, t5_tokens=T5)


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    return reference(ROOTS[name]() / f"{name}_reference.safetensors")


@pytest.mark.parametrize("name", ROOTS)
def test_texts_become_the_conditions_of_the_pipeline(name):
    """Tokens to the number; the empty text is the condition that says nothing."""
    ref, text = arrays(name), load_text(files_of(name))
    tokens = [text.network.tokens(caption) for caption in (*CAPTIONS, "")]
    for number, column in enumerate(zip(*tokens, strict=True), start=1):
        wanted = [*ref[f"tokens_{number}"], *ref[f"tokens_{number}_empty"]]
        np.testing.assert_array_equal(column, wanted)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *tokens)
    found = jax.jit(jax.vmap(text.network.apply, (None, 0)))(text.params, batch)
    for part, key in zip(found, ("prompt_embeds", "pooled"), strict=True):
        assert difference(part, np.concatenate([ref[key], ref[f"{key}_empty"]])) < EMBEDDINGS


def test_texts_of_stable_diffusion_xl():
    """An empty text is zeros where its index says so, not the encoded one."""
    ref, root = reference(sdxl() / "sdxl_reference.safetensors"), sdxl() / "sdxl"
    text = load_text(ModelFiles(root))
    tokens = [text.network.tokens(caption) for caption in (*CAPTIONS, "")]
    for number in (1, 2):
        found = [each[number - 1] for each in tokens]
        wanted = [*ref[f"tokens_{number}"], *ref[f"tokens_{number}_empty"]]
        np.testing.assert_array_equal(found, wanted)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *tokens)
    found = jax.jit(jax.vmap(text.network.apply, (None, 0)))(text.params, batch)
    assert difference(found.embeddings[:3], ref["prompt_embeds"]) < EMBEDDINGS
    assert difference(found.pooled[:3], ref["pooled_prompt_embeds"]) < EMBEDDINGS
    assert not any(np.asarray(part[3]).any() for part in found[:2])
    side = SIDE * SHRINK
    np.testing.assert_array_equal(found.sizes, [[side, side, 0, 0, side, side]] * 4)
    described = describe(ModelFiles(root), FLOAT32).condition
    assert jax.tree.map(np.shape, described) == jax.tree.map(lambda a: a.shape[1:], found)


def test_adapters_of_stable_diffusion_xl(tmp_path):
    """Those of its UNet are read, those of its text encoders refused."""
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    pair = {"lora_A": np.ones((2, 28), np.float32), "lora_B": np.ones((12, 2), np.float32)}

    def adapted(part: str) -> ModelFiles:
        file = tmp_path / f"{part}.safetensors"
        save_file({f"{part}.{layer}.{name}.weight": pair[name] for name in pair}, file)
        return ModelFiles(sdxl() / "sdxl", loras=(LoraFile(file),))

    files = adapted("unet")
    found = load_network(files, FLOAT32, SIDE)
    assert found.network == describe(files, FLOAT32).network
    (adapter,) = found.network.adapters
    assert adapter.layer.endswith("attentions_0/transformer_blocks_0/attn2/to_k")
    with pytest.raises(UsageError, match="to_k"):
        load_network(adapted("text_encoder"), FLOAT32, SIDE)


@pytest.mark.parametrize("name", ROOTS)
def test_json_files_describe_levels_and_conditions(name, tmp_path):
    """No weight is read; the recorded levels are those of the pipeline's scheduler."""
    root, ref = files_of(name).checkpoint, arrays(name)
    for file in root.rglob("*.json"):
        place = tmp_path / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    found = describe(ModelFiles(tmp_path, t5_tokens=T5), FLOAT32, SIDE * SHRINK)
    shapes = ref["prompt_embeds"].shape[1:], ref["pooled"].shape[1:]
    assert isinstance(found.condition, TextCondition)
    assert tuple(leaf.shape for leaf in found.condition) == shapes
    assert found.network.latent_shape == (SIDE, SIDE, 16)
    steps, schedule = grid(found.noise.schedule.steps), found.noise.schedule
    np.testing.assert_allclose(schedule.noise[steps.times], ref["grid_sigmas"], atol=1e-7)
    np.testing.assert_allclose(schedule.noise[steps.recorded], ref["sigmas"], atol=1e-7)


def test_latents_of_the_size_that_is_asked_for():
    files = ModelFiles(flux() / "flux_dev", t5_tokens=T5)
    found = describe(files, FLOAT32, 3 * SIDE * SHRINK)
    assert found.network.latent_shape == (3 * SIDE, 3 * SIDE, 16)
    assert load_network(files, FLOAT32, 3 * SIDE).network == found.network
    mu = 0.5 + (12**2 - 256) * 0.65 / 3840
    half = np.exp(mu) * 0.5 / (1 + (np.exp(mu) - 1) * 0.5)
    np.testing.assert_allclose(found.noise.schedule.noise[500], half, atol=1e-6)


def test_a_class_is_named_or_numbered():
    files = ModelFiles(dit_xl() / "dit")
    network, noise, condition = describe(files, FLOAT32)
    assert isinstance(network, LatentDiTDenoiser)
    assert (noise.prediction, condition.shape, condition.dtype) == ("eps", (), np.int32)
    read = token_reader(files)
    found = [int(read(text)) for text in ("class 3", "3", "")]
    assert found == [3, 3, int(reference(dit_xl() / "dit_reference.safetensors")["label_null"][0])]
    with pytest.raises(UsageError, match=r"no class 'cat'; give a number from 0 to 9, or a name"):
        read("cat")


UNSUPPORTED = ("PixArtSigmaPipeline", "SanaPipeline", "WanPipeline")


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_another_kind_of_model_gets_one_line_with_what_is_supported(name, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(UsageError, match=rf"'{name}' is not supported; use .*FLUX.1.*DiT") as error:
        describe(ModelFiles(tmp_path), FLOAT32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"_class_name": "EulerDiscreteScheduler"}, "is not one of a rectified flow"),
        ({"time_shift_type": "linear"}, "time_shift_type is 'linear'"),
        ({"shift_terminal": 0.1}, "shift_terminal is 0.1, only None is supported"),
        ({"num_train_timesteps": 500}, "num_train_timesteps is 500, only 1000 is supported"),
        ({"shift": -1.0}, "shift is -1.0, expected a number above 0"),
    ],
)
def test_schedulers_of_other_levels_are_refused(changed, message, tmp_path):
    folder = Path(shutil.copytree(sd3() / "sd3_dual", tmp_path / "model"))
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(UsageError, match=message):
        describe(ModelFiles(folder), FLOAT32)
    with pytest.raises(UsageError, match=r"model.prediction=v: .* leave it out"):
        describe(ModelFiles(folder, prediction="v"), FLOAT32)
