"""LoRA files of diffusers, peft and kohya: one adapter in many forms, against float64 PyTorch."""

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ctrak_jax import reward
from ctrak_jax.errors import UsageError
from ctrak_jax.gradient import path_gradients, select
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.checkpoints import safe
from ctrak_jax.models.lora import Loras, read_loras
from ctrak_jax.models.stable_diffusion import LoraFile, ModelFiles
from ctrak_jax.models.stable_diffusion.text import text_template
from ctrak_jax.projection import Projection
from ctrak_jax.run.network import split
from ctrak_jax.trajectory import Path as States
from tests.wild import forms, loras

BASE = forms() / "formats" / "sd_fp16"
INPUTS = safe.read(forms() / "reference.safetensors").tensors
REFERENCE = safe.read(loras() / "reference.safetensors").tensors
TIMES = jnp.asarray(INPUTS["timesteps"], jnp.int32)
SOME = np.array([0, 4, 8])
"""The timesteps of the reference's predictions."""


@cache
def templates() -> tuple[Any, Any]:
    files = ModelFiles(BASE)
    unet = jax.eval_shape(sd.network_in(files, sd.FLOAT32).init, jax.random.key(0))
    return unet, text_template(*files.config("text_encoder"))


def read(*paths: Path, scale: float = 1.0) -> Loras:
    unet, text = templates()
    return read_loras([LoraFile(path, scale) for path in paths], unet, lambda: text)


def same(found: Loras, expected: Loras) -> None:
    assert set(found.unet) == set(expected.unet)
    assert set(found.text) == set(expected.text)
    for net in ("unet", "text"):
        assert found.matrices[net].keys() == expected.matrices[net].keys()
        for path, value in expected.matrices[net].items():
            np.testing.assert_array_equal(found.matrices[net][path], value, err_msg=path)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("alpha2/peft", "alpha2/diffusers"),
        ("alpha2/kohya.safetensors", "alpha2/diffusers"),
        ("alpha8/kohya.safetensors", "alpha8/peft"),
        ("no_alpha_older_names/pytorch_lora_weights.safetensors", "no_alpha"),
        ("no_alpha_older_names/pytorch_lora_weights.bin", "no_alpha"),
        ("full/diffusers_text_model", "full/diffusers"),
        ("full/diffusers_mixed_names", "full/diffusers"),
        ("full/kohya.safetensors", "full/diffusers"),
    ],
)
def test_every_form_is_the_same_adapter(name, like):
    same(read(loras() / name), read(loras() / like))


def test_a_factor_is_alpha_over_r_times_the_scale():
    found = {
        name: read(loras() / name, scale=0.5) for name in ("no_alpha", "alpha2/peft", "alpha8/peft")
    }
    assert {name: {a.scale for a in each.unet} for name, each in found.items()} == {
        "no_alpha": {0.5},
        "alpha2/peft": {0.25},
        "alpha8/peft": {1.0},
    }
    assert [len(each.unet) for each in found.values()] == [32] * 3


def test_two_folders_of_peft_in_one_are_one_adapter(tmp_path):
    for name in ("unet", "text_encoder"):
        shutil.copytree(loras() / "full" / f"peft_{name}", tmp_path / name)
    same(read(tmp_path), read(loras() / "full" / "diffusers"))
    nested = Path(shutil.copytree(tmp_path / "unet", tmp_path / "nested"))
    shutil.copytree(tmp_path / "text_encoder", nested / "text_encoder")
    same(read(nested), read(loras() / "full" / "diffusers"))
    apart = read(tmp_path / "text_encoder", tmp_path / "unet")
    assert {a.number for a in apart.unet} == {2}
    assert {a.number for a in apart.text} == {1}


@cache
def predicted(paths: tuple[Path, ...], scale: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """eps [time, sample, ...] and the text embeddings that it was made with."""
    files = ModelFiles(BASE, loras=tuple(LoraFile(path, scale) for path in paths))
    model, text = sd.load(files), sd.load_codecs(files).text
    cond = jax.jit(jax.vmap(text.network.apply, (None, 0)))(text.params, INPUTS["tokens"])
    over = jax.vmap(jax.vmap(model.denoiser.eps_fn, (None, 0, None, 0)), (None, 0, 0, None))
    x = jnp.moveaxis(jnp.asarray(INPUTS["path_forward"][SOME]), 2, -1)
    eps = jax.jit(over)(model.denoiser.params, x, TIMES[SOME], cond)
    return jnp.moveaxis(eps, -1, 2), cond


@pytest.mark.parametrize("name", ["alpha2", "full"])
def test_predictions_through_adapters_agree_with_pytorch(name):
    eps, text = predicted((loras() / name / "kohya.safetensors",))
    np.testing.assert_allclose(eps, REFERENCE[f"{name}/eps/1.0"], atol=1e-4)
    heard = REFERENCE["full/text/1.0"] if name == "full" else INPUTS["text"]
    np.testing.assert_allclose(text, heard, atol=1e-5)


def test_two_halves_at_once_are_the_whole():
    twice = (loras() / "alpha2" / "kohya.safetensors",) * 2
    expected, _ = predicted(twice[:1])
    np.testing.assert_allclose(predicted(twice, scale=0.5)[0], expected, atol=1e-5)


def gradients(loss: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of sample 1 with respect to A and B by their PyTorch names: sums, plain and normalised."""
    files = ModelFiles(BASE, loras=(LoraFile(loras() / "alpha2" / "diffusers"),))
    model = sd.load(files)
    part, schedule = select(model.denoiser.params, ("*lora*",)), model.noise.schedule
    x0, text, minus = (INPUTS[name][1] for name in ("x0", "text", "text_minus"))
    x0 = jnp.moveaxis(jnp.asarray(x0), 0, -1)

    def merged(fn):
        return lambda params, *rest: fn(part.merge(params, part.others), *rest)

    losses = {
        "dsm": lambda: reward.dsm(schedule, x0),
        "dps": lambda: reward.dps(schedule, x0),
        "slider": lambda: reward.slider(jnp.asarray(minus), 7.5),
    }
    x = jnp.moveaxis(jnp.asarray(INPUTS["path_forward"][:, 1]), 1, -1)
    found = jax.jit(
        lambda params: path_gradients(
            losses[loss](),
            merged(model.denoiser.layers_fn),
            params,
            States(x, TIMES),
            jnp.asarray(text),
            normalise=[False, True],
        )
    )(part.params)
    plain, unit = ({path: np.asarray(g) for path, g in each.items()} for each in found)
    return plain, unit


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dsm", "dps", "slider"])
def test_gradients_of_a_and_b_agree_with_pytorch(loss):
    for kind, found in zip(("sum", "normalised_sum"), gradients(loss), strict=True):
        prefix = f"alpha2/grad/{loss}/{kind}/"
        expected = {
            name.removeprefix(prefix): value.T  # A [r, in] and B [out, r] there
            for name, value in REFERENCE.items()
            if name.startswith(prefix)
        }
        assert len(expected) == len(found) == 64
        unet = read(loras() / "alpha2" / "diffusers").unet
        by_name = {
            f"{_torch_name(a.layer)}.lora_{letter}": found[f"{a.layer}/lora_{letter.lower()}"]
            for a in unet
            for letter in "AB"
        }
        assert by_name.keys() == expected.keys()
        ours, theirs = (
            np.concatenate([each[name].ravel() for name in sorted(expected)]).astype(np.float64)
            for each in (by_name, expected)
        )
        assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs)
        assert ours @ theirs >= 0.9999 * np.linalg.norm(ours) * np.linalg.norm(theirs)


def _torch_name(layer: str) -> str:
    return re.sub(r"_(\d+)(?=\.|$)", r".\1", layer.replace("/", "."))


def test_patterns_select_adapters_where_they_name_them():
    files = ModelFiles(BASE, loras=(LoraFile(loras() / "alpha2" / "peft"),))
    denoiser, plain = sd.load(files).denoiser, sd.load(BASE).denoiser
    projection = Projection(64)
    for include in (("*",), ("*attn2*",)):
        expected = split(plain, include, (), projection).params.chosen
        assert split(denoiser, include, (), projection).params.chosen.keys() == expected.keys()
    adapters = split(denoiser, ("*lora*",), (), projection).params.chosen
    assert len(adapters) == 64
    assert sum(leaf.size for leaf in adapters.values()) == 8192
    both = split(denoiser, ("*attn2*", "*lora_a"), (), projection).params.chosen
    assert any(path.endswith("kernel") for path in both)


# What is refused, and what is said


def changed(folder: Path, change: Any, name: str = "x.safetensors") -> Path:
    tensors = dict(safe.read(loras() / "alpha2" / "kohya.safetensors").tensors)
    change(tensors)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / name)
    return folder / name


LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k"


def renamed(old: str, new: str) -> Any:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def put(**values: np.ndarray) -> Any:
    return lambda tensors: tensors.update(
        {f"{LAYER}.{k.replace('__', '.')}": v for k, v in values.items()}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed(LAYER, "lora_unet_nowhere"), r"3 of its 96 tensors are of no layer of the model"),
        (renamed("down_blocks", "input_blocks"), r"24 of its 96 tensors are of no layer"),
        (put(strange=np.ones(3)), r"1 of its 97 tensors are of no layer .* such as .*strange"),
        (put(dora_scale=np.ones(3)), r"is DoRA \(.*dora_scale\), which is not supported"),
        (put(hada_w1_a=np.ones(3)), r"is LoHa"),
        (put(lora_mid__weight=np.ones((4, 4, 3, 3))), r"third matrix \(Tucker\)"),
        (renamed("lora_unet_", "lora_te2_"), r"is a LoRA of a second text encoder"),
        (lambda t: t.pop(f"{LAYER}.lora_up.weight"), r"there is only .*lora_down.*expected both"),
        (
            put(lora_down__weight=np.ones((4, 48))),
            r"is \(4, 48\), the layer takes \(4, 32\); use",
        ),
        (put(lora_up__weight=np.ones((32, 3))), r"is \(32, 3\), the layer takes \(32, 4\)"),
        (put(lora_up__weight=np.full((32, 4), np.nan)), r"lora_up\.weight is not finite; train"),
        (put(alpha=np.full((), np.inf, np.float32)), r"alpha of .* is not finite"),
    ],
)
def test_nothing_is_dropped_in_silence(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as caught:
        read(changed(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_two_names_of_one_layer_are_refused(tmp_path):
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight"
    file = changed(tmp_path, lambda t: t.update({name: np.ones((4, 32), np.float32)}))
    with pytest.raises(UsageError, match=r"are of one layer; keep one"):
        read(file)


def test_an_alpha_of_nothing_is_the_rank(tmp_path):
    file = changed(tmp_path, put(alpha=np.zeros((), np.float16)))
    scales = sorted(a.scale for a in read(file).unet)
    assert scales == [0.5] * 31 + [1.0]


def test_settings_of_peft(tmp_path):
    folder = Path(shutil.copytree(loras() / "alpha2" / "peft", tmp_path / "peft"))
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text())

    def scales(**changes: Any) -> set[float]:
        file.write_text(json.dumps(settings | changes))
        return {adapter.scale for adapter in read(folder).unet}

    assert scales(use_rslora=True) == {1.0}
    assert scales(alpha_pattern={"attn2.to_k": 8}) == {0.5, 2.0}
    assert scales(alpha_pattern={"^to_k": 8}) == {0.5}
    for changes, message in [
        ({"r": 8}, r"rank of .* is 8, its matrices have 4; use the settings and the weights"),
        ({"rank_pattern": {"to_k": 2}}, r"is 2, its matrices have 4"),
        ({"use_dora": True}, r"use_dora is True, which is not supported"),
        ({"peft_type": "LOHA"}, r"peft_type is 'LOHA', expected 'LORA'"),
        ({"alpha_pattern": {"(a+)+$": 8}}, r"the pattern '\(a\+\)\+\$' is no name of a module"),
    ]:
        with pytest.raises(UsageError, match=message):
            scales(**changes)
    file.unlink()
    with pytest.raises(UsageError, match=r"adapter_config\.json is missing, which has the alpha"):
        read(folder)


def test_places(tmp_path):
    with pytest.raises(UsageError, match=r"model\.lora: .*none: no such file or folder"):
        read(tmp_path / "none")
    with pytest.raises(UsageError, match=r"has no file of weights; expected pytorch_lora_weights"):
        read(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        changed(tmp_path, lambda _: None, name)
    with pytest.raises(UsageError, match=r"has a\.safetensors, b\.safetensors; expected"):
        read(tmp_path)


def test_two_tools_in_one_folder_are_refused(tmp_path):
    folder = Path(shutil.copytree(loras() / "full" / "diffusers", tmp_path / "both"))
    shutil.copytree(loras() / "full" / "peft_text_encoder", folder / "text_encoder")
    with pytest.raises(UsageError, match=r"has pytorch_lora.* and text_encoder/adapter_model\.s"):
        read(folder)


def test_a_fresh_adapter_says_what_its_gradients_are(tmp_path, caplog):
    def empty(tensors: dict[str, np.ndarray]) -> None:
        for name in tensors:
            if "lora_up" in name:
                tensors[name] = np.zeros_like(tensors[name])

    with caplog.at_level("WARNING", logger="ctrak"):
        read(changed(tmp_path, empty))
    assert "the gradients of every A are zero (those of B are not)" in caplog.text


def test_convolutions_are_adapted_as_their_merged_kernel(tmp_path):
    """3 x 3, with strides and without."""
    rng = np.random.default_rng(0)
    tensors = {}
    for module, inputs, outputs in (
        ("down_blocks.0.resnets.0.conv1", 32, 32),
        ("down_blocks.0.downsamplers.0.conv", 32, 32),
        ("conv_in", 4, 32),
    ):
        down = 0.2 * rng.standard_normal((3, inputs, 3, 3))
        up = 0.2 * rng.standard_normal((outputs, 3, 1, 1))
        tensors[f"unet.{module}.lora.down.weight"] = down.astype(np.float32)
        tensors[f"unet.{module}.lora.up.weight"] = up.astype(np.float32)
    save_file(tensors, tmp_path / "x.safetensors")
    model = sd.load(ModelFiles(BASE, loras=(LoraFile(tmp_path / "x.safetensors", 0.7),)))
    plain = sd.load(BASE)
    merged = sd.merge_adapters(model.denoiser.params, adapters=model.network.adapters)
    a, b = (tensors[f"unet.conv_in.lora.{way}.weight"] for way in ("down", "up"))
    product = np.einsum("or,rihw->hwio", b[:, :, 0, 0], a)
    expected = np.asarray(plain.denoiser.params["conv_in"]["kernel"]) + 0.7 * product
    np.testing.assert_allclose(merged["conv_in"]["kernel"], expected, atol=1e-6)
    x, cond = jnp.ones((8, 8, 4)), jnp.asarray(INPUTS["text"][0])
    first, second, without = (
        jax.jit(each.denoiser.eps_fn)(params, x, jnp.int32(500), cond)
        for each, params in (
            (model, model.denoiser.params),
            (plain, merged),
            (plain, plain.denoiser.params),
        )
    )
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert float(jnp.abs(first - without).max()) > 0.01
