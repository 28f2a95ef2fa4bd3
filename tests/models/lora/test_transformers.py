"""LoRAs on transformers: in every spelling what the merged weights compute."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import select
from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.lora import LoraFile, adapters_in, add_adapters
from ctrak_jax.models.lora.written import lora_file, torch_name
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.transformers import load_transformer
from tests.references import difference
from tests.wild import dit_xl, flux, sd3

FOLDERS: dict[str, Callable[[], Path]] = {"sd3_dual": sd3, "flux_dev": flux, "dit": dit_xl}
RANK, ALPHA, SCALE = 2, 3.0, 0.5


def folder(name: str) -> Path:
    return FOLDERS[name]() / name / "transformer"


@cache
def matrices(name: str) -> dict[str, np.ndarray]:
    """A and B of adapters on every layer of attention, by path, none of them zero."""
    plain = load_transformer(folder(name), FLOAT32).params
    made = select(add_adapters(plain, ("*attn?*",), RANK, jax.random.key(1)), ("*/lora_?",)).params
    rng = np.random.default_rng(2)
    return {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in made.items()}


def inputs(network: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=(8, 8, network.latent_shape[-1])), jnp.float32)
    if not hasattr(network, "text_width"):
        return x, 499, 3
    text, pooled = rng.normal(size=(5, network.text_width)), rng.normal(size=network.pooled_width)
    return x, 0.5, TextCondition(jnp.asarray(text, jnp.float32), jnp.asarray(pooled, jnp.float32))


def output(found) -> np.ndarray:
    return jax.jit(found.network.apply)({"params": found.params}, *inputs(found.network))


def by_layer(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """PyTorch's name of a layer -> A [r, in] and B [out, r]."""
    found = matrices(name)
    layers = sorted({path.rpartition("/")[0] for path in found})
    return {
        torch_name(layer): (found[f"{layer}/lora_a"].T, found[f"{layer}/lora_b"].T)
        for layer in layers
    }


@cache
def merged(name: str) -> np.ndarray:
    """The prediction of a copy of the folder with W + s (alpha / r) B A in its file."""
    (weights,) = folder(name).glob("*.safetensors")
    tensors = load_file(weights)
    for layer, (a, b) in by_layer(name).items():
        change = SCALE * ALPHA / RANK * (b.astype(np.float64) @ a)
        tensors[f"{layer}.weight"] = (tensors[f"{layer}.weight"] + change).astype(np.float32)
    with TemporaryDirectory() as place:
        save_file(tensors, Path(place) / weights.name)
        (Path(place) / "config.json").write_bytes((folder(name) / "config.json").read_bytes())
        return output(load_transformer(Path(place), FLOAT32))


def diffusers(name: str, place: Path) -> Path:
    file = place / "pytorch_lora_weights.safetensors"
    file.write_bytes(lora_file({"unet": matrices(name)}, RANK, ALPHA, "transformer"))
    return file


def peft(name: str, place: Path) -> Path:
    tensors = {
        f"base_model.model.{layer}.lora_{letter}.weight": np.ascontiguousarray(value)
        for layer, pair in by_layer(name).items()
        for letter, value in zip("AB", pair, strict=True)
    }
    save_file(tensors, place / "adapter_model.safetensors")
    (place / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))
    return place


def joined(prefix: str) -> Callable[[str, Path], Path]:
    def write(name: str, place: Path) -> Path:
        tensors = {}
        for layer, pair in by_layer(name).items():
            whole = prefix + layer.replace(".", "_")
            tensors[f"{whole}.alpha"] = np.array(ALPHA, np.float32)
            for way, value in zip(("down", "up"), pair, strict=True):
                tensors[f"{whole}.lora_{way}.weight"] = np.ascontiguousarray(value)
        save_file(tensors, place / "lora.safetensors")
        return place / "lora.safetensors"

    return write


FORMS = {"diffusers": diffusers, "peft": peft}
FORMS |= {prefix: joined(prefix) for prefix in ("lora_transformer_", "lora_unet_")}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_spelling_computes_what_merged_weights_do(name, tmp_path):
    before = output(load_transformer(folder(name), FLOAT32))
    assert difference(before, merged(name)) > 1e-2
    read = []
    for form, write in FORMS.items():
        (tmp_path / form).mkdir()
        lora = LoraFile(write(name, tmp_path / form), SCALE)
        read.append(load_transformer(folder(name), FLOAT32, [lora]))
    assert difference(output(read[0]), merged(name)) < 1e-5
    like = jax.eval_shape(read[0].network.init, jax.random.key(0))
    assert jax.tree.structure(like) == jax.tree.structure(read[0].params)
    adapters = set(adapters_in(read[0].params, SCALE * ALPHA / RANK))
    for found in read:
        assert set(found.network.adapters) == adapters
        jax.tree.map(np.testing.assert_array_equal, found.params, read[0].params)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("transformer_blocks_0_attn_to_q", "double_blocks_0_img_attn_qkv", "under the names of"),
        ("lora_transformer_", "lora_te1_", "tensors are of no layer of the model"),
        ("transformer_blocks_0_", "transformer_blocks_7_", "tensors are of no layer of the model"),
    ],
)
def test_what_is_unknown_is_one_line(old, new, message, tmp_path):
    file = joined("lora_transformer_")("flux_dev", tmp_path)
    save_file({key.replace(old, new): value for key, value in load_file(file).items()}, file)
    with pytest.raises(UsageError, match=message) as raised:
        load_transformer(folder("flux_dev"), FLOAT32, [LoraFile(file)])
    assert "\n" not in str(raised.value)
