"""Tuning: a LoRA is trained, written, read back, resumed, refused."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file

from ctrak_jax import pipeline
from ctrak_jax.config import Config
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.denoiser import FLOAT32, eps_fn_of
from ctrak_jax.models.lora import written
from ctrak_jax.models.pretrained import load_network
from ctrak_jax.models.stable_diffusion import LoraFile, ModelFiles
from ctrak_jax.stages import probe, tune
from tests.tiny_model import write_model
from tests.wild import dit_xl

FILE = "pytorch_lora_weights.safetensors"
SETTINGS: dict[str, Any] = {
    "steps": 6,
    "batch": 2,
    "rank": 2,
    "alpha": 3,
    "learning_rate": 1e-2,
    "scan": 2,
    "checkpoint_every": 2,
    "text_encoder": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Noise with captions of two words."""
    folder = tmp_path_factory.mktemp("data")
    pairs = list(product("ab", "cd"))
    images = np.random.default_rng(0).integers(0, 256, (len(pairs), 16, 16, 3), np.uint8)
    captions = tuple(f"{noun} ab {tail}" for noun, tail in pairs)
    attributes = {"noun": tuple(noun for noun, _ in pairs)}
    raw = RawImages(name="words", images=images, attributes=attributes, prompts=captions)
    write_folder(raw, folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), shallow=True)


def config(
    data: Path, base: Path | None, model: dict[str, Any] | None = None, **more: Any
) -> Config:
    return Config.model_validate(
        {
            "run": {"devices": 1},
            "model": {"kind": "text-to-image", "checkpoint": base, **(model or {})},
            "data": {"kind": "folder", "path": data, "condition_on": []},
            "methods": ["concept-trak"],
            "query": {"check": "none"},
            "controls": [],
            "trajectory": {"negative": "null"},
            "tune": SETTINGS | more,
        }
    )


@pytest.fixture(scope="module")
def tuned(data, base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    assert pipeline.run_tune(config(data, base), out) == [out / FILE]
    return out


def test_what_was_trained_is_read_back_with_exactly_equal_predictions(
    data, base, tmp_path, monkeypatch
):
    """Against the networks that were in training, with the parameters as the last step left them:
    the noise prediction bit for bit, and the text, whose adapters are merged when read."""
    kept: dict[str, Any] = {}
    adapted, write = tune._adapted, tune._write

    def keep_networks(ctx):
        kept["networks"] = adapted(ctx)
        return kept["networks"]

    def keep_params(ctx, params, *rest):
        kept["params"] = params
        write(ctx, params, *rest)

    monkeypatch.setattr(tune, "_adapted", keep_networks)
    monkeypatch.setattr(tune, "_write", keep_params)
    pipeline.run_tune(config(data, base), tmp_path)
    unet, text, fresh = kept["networks"]
    params = tune.select(fresh, (tune.PATTERN,)).merge(
        kept["params"], tune.select(fresh, (tune.PATTERN,)).others
    )
    files = ModelFiles(base, loras=(LoraFile(tmp_path / FILE),))
    model, codecs = sd.load(files), sd.load_codecs(files)
    x = jax.random.normal(jax.random.key(1), (8, 8, 4))
    cond = jax.random.normal(jax.random.key(2), (77, 32))
    ours = jax.jit(eps_fn_of(unet, *model.noise))(params.unet, x, jnp.int32(300), cond)
    theirs = jax.jit(model.denoiser.eps_fn)(model.denoiser.params, x, jnp.int32(300), cond)
    np.testing.assert_array_equal(ours, theirs)
    plain = sd.load(base)
    before = jax.jit(plain.denoiser.eps_fn)(plain.denoiser.params, x, jnp.int32(300), cond)
    assert np.abs(theirs - before).max() > 1e-3
    tokens = text.tokens("a ab c")
    heard = jax.jit(codecs.text.network.apply)(codecs.text.params, tokens)
    np.testing.assert_allclose(jax.jit(text.apply)(params.text, tokens), heard, atol=1e-5)
    untrained = sd.load_codecs(base).text
    silent = jax.jit(untrained.network.apply)(untrained.params, tokens)
    assert np.abs(heard - silent).max() > 1e-3


def test_the_file_is_what_diffusers_writes(tuned):
    with safe_open(tuned / FILE, "np") as file:
        names, metadata = set(file.keys()), file.metadata()
    settings = json.loads(metadata["lora_adapter_metadata"])
    assert metadata["format"] == "pt"
    assert (settings["unet.r"], settings["unet.lora_alpha"]) == (2, 3)
    block = "unet.up_blocks.0.attentions.0.transformer_blocks.0"
    layers = {f"attn{n}.{part}" for n in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")}
    words = {f"{part}_proj" for part in ("q", "k", "v", "out")}
    expected = {f"{block}.{layer}" for layer in layers} | {
        f"text_encoder.text_model.encoder.layers.{n}.self_attn.{word}"
        for n in (0, 1)
        for word in words
    }
    blocks = {name.rpartition(".lora_")[0] for name in names}
    assert expected <= blocks
    assert names == {f"{layer}.lora_{x}.weight" for layer in blocks for x in "AB"}
    prefixes = {"unet": "unet.", "text_encoder": "text_encoder.text_model."}
    said = {
        f"{prefix}{layer}"
        for net, prefix in prefixes.items()
        for layer in settings[f"{net}.target_modules"]
    }
    assert said == blocks


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("down_blocks_0/attentions_1/transformer_blocks_0/attn1/to_out_0", "{}attn1.to_out.0"),
        ("down_blocks_0/attentions_1/transformer_blocks_0/ff/net_0/proj", "{}ff.net.0.proj"),
        ("down_blocks_0/attentions_1/transformer_blocks_0/ff/net_2", "{}ff.net.2"),
        ("time_embedding/linear_1", "time_embedding.linear_1"),
        ("mid_block/resnets_1/time_emb_proj", "mid_block.resnets.1.time_emb_proj"),
        ("text_model/encoder/layers/11/self_attn/q_proj",) * 2,
    ],
)
def test_layers_have_the_names_of_pytorch(layer, name):
    block = "down_blocks.0.attentions.1.transformer_blocks.0."
    assert written.torch_name(layer) == name.format(block).replace("/", ".")


def test_the_loss_falls(data, base, tmp_path):
    """On four images, against a training with the same noise that goes nowhere."""

    def loss(learning_rate: float) -> float:
        out = tmp_path / str(learning_rate)
        more = {"steps": 100, "batch": 4, "scan": 20, "checkpoint_every": 100}
        pipeline.run_tune(config(data, base, None, learning_rate=learning_rate, **more), out)
        return json.loads((out / "tune.json").read_text())["loss"]

    assert loss(3e-2) < 0.98 * loss(1e-9)


def test_an_interrupted_training_ends_in_the_same_bytes(data, base, tuned, tmp_path, monkeypatch):
    """Ctrl-C as the third pair of steps is read: the second checkpoint is there."""
    batches = tune._batches

    def interrupted(ctx, text):
        read = batches(ctx, text)

        def some(first: int, count: int):
            if first == 4:
                raise KeyboardInterrupt
            return read(first, count)

        return some

    with monkeypatch.context() as patch:
        patch.setattr(tune, "_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_tune(config(data, base), tmp_path)
    assert not (tmp_path / FILE).exists()
    assert any(path.name.isdigit() for path in (tmp_path / "tuning").iterdir())
    with pytest.raises(StoreError, match=r"\(tune\.rank differ\)"):
        pipeline.run_tune(config(data, base, rank=3), tmp_path)
    pipeline.run_tune(config(data, base), tmp_path)
    assert (tmp_path / FILE).read_bytes() == (tuned / FILE).read_bytes()
    assert not (tmp_path / "tuning").exists()


def test_a_finished_one_is_kept_and_never_replaced(data, base, tuned):
    before = (tuned / FILE).stat()
    pipeline.run_tune(config(data, base), tuned)
    assert (tuned / FILE).stat() == before
    with pytest.raises(StoreError, match=r"\(tune\.learning_rate differ\)"):
        pipeline.run_tune(config(data, base, learning_rate=1e-3), tuned)


def test_the_model_is_probed_before_and_the_verdict_is_said_every_time(
    data, base, tuned, monkeypatch, caplog
):
    found = json.loads((tuned / "probe.json").read_text())
    assert found["losses"].keys() == {"eps", "v", "x0"}
    assert 0 < min(found["losses"].values()) <= max(found["losses"].values()) < 100
    monkeypatch.setattr(probe, "_losses", lambda _: pytest.fail("computed twice"))
    monkeypatch.setattr(probe, "better_reading", lambda *_: "v")
    for _ in range(2):
        caplog.clear()
        pipeline.run_tune(config(data, base), tuned)
        assert caplog.text.count("set model.prediction: v") == 1


def test_what_was_done_stands_beside_the_file(tuned):
    about = json.loads((tuned / "tune.json").read_text())
    assert about["seed"] == 0
    assert about["images"] == 4
    assert {name: about["tune"][name] for name in SETTINGS} == SETTINGS
    assert (tuned / "config.yaml").exists()


def test_a_loss_that_is_no_number_ends_it(data, base, tmp_path):
    with pytest.raises(StoreError, match=r"loss became nan .* lower tune\.learning_rate"):
        pipeline.run_tune(config(data, base, learning_rate=1e30), tmp_path)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ({"checkpoint": None}, {}, "there is none; give a published model's folder, or that of an"),
        ({"lora": ["some.safetensors"]}, {}, "tune trains a LoRA on the model alone"),
        ({}, {"rank": 500}, "rank=500 of an adapter must be at least 1 and below the sides"),
        ({}, {"include": ["*attention_*"]}, "no kernel of a linear layer matches"),
    ],
)
def test_refusals(data, base, tmp_path, model, more, message):
    with pytest.raises(UsageError, match=message):
        pipeline.run_tune(config(data, base, model, **more), tmp_path)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FluxPipeline", "tune.text_encoder: true is for Stable Diffusion 1.x and 2.x"),
        ("PixArtAlphaPipeline", "'PixArtAlphaPipeline' is not supported; use a model of"),
    ],
)
def test_another_kind_of_model_is_refused_before_anything_is_encoded(data, tmp_path, name, message):
    base = tmp_path / "base"
    base.mkdir()
    (base / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(UsageError, match=message):
        pipeline.run_tune(config(data, base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_transformer_is_tuned_on_its_conditions(data, tmp_path):
    """Of a class-conditional one they are numbers; what is written is read back."""
    base, folder = dit_xl() / "dit", tmp_path / "data"
    images = np.load(data / "images.npy")
    prompts = ("class 1", "class 1", "4", "4")
    raw = RawImages(name="classes", images=images, attributes={"noun": prompts}, prompts=prompts)
    write_folder(raw, folder)
    (file,) = pipeline.run_tune(config(folder, base, text_encoder=False), tmp_path / "out")
    fresh = load_network(ModelFiles(base), FLOAT32, 8).params
    found = load_network(ModelFiles(base, loras=(LoraFile(file),)), FLOAT32, 8)
    attention = "transformer_blocks_{}/attn1/{}"
    assert {adapter.layer for adapter in found.network.adapters} == {
        attention.format(block, layer)
        for block in (0, 1)
        for layer in ("to_q", "to_k", "to_v", "to_out_0")
    }
    whole: dict[str, Any] = flatten_dict(found.params, sep="/")
    for path, value in flatten_dict(fresh, sep="/").items():
        np.testing.assert_array_equal(whole[path], value)
    assert all(whole[f"{adapter.layer}/lora_b"].any() for adapter in found.network.adapters)
    with safe_open(file, "np") as opened:
        settings = json.loads(opened.metadata()["lora_adapter_metadata"])
    assert (settings["transformer.r"], settings["transformer.lora_alpha"]) == (2, 3)


def test_a_data_set_without_captions_is_refused(data, base, tmp_path):
    images = np.load(data / "images.npy")
    write_folder(
        RawImages(name="silent", images=images, attributes={"noun": tuple("aabb")}),
        tmp_path / "silent",
    )
    with pytest.raises(UsageError, match="needs a caption for every image"):
        pipeline.run_tune(config(tmp_path / "silent", base), tmp_path / "out")


@pytest.mark.slow
def test_a_run_asks_which_images_taught_it(data, base, tuned, tmp_path):
    """The usual case from end to end: the features are of the LoRA's own parameters, all of them
    that are the UNet's."""
    settings = {
        "gradient": {"include": ["*lora*"], "time_chunk": 1},
        "trajectory": {"steps": 4, "record_every": 2},
        "projection": {"k": 32},
        "evaluate": {"k": [2]},
        "score": {"damping": [1.0], "top": 4},
    }
    whole = config(data, base, {"lora": [tuned / FILE]}).model_dump() | settings
    pipeline.run(Config.model_validate(whole), tmp_path, ("train", "encode", "featurize"))
    manifest = json.loads((tmp_path / "features" / "concept-trak" / "manifest.json").read_text())
    sizes = {name: value.size for name, value in load_file(tuned / FILE).items()}
    expected = sum(size for name, size in sizes.items() if name.startswith("unet."))
    assert manifest["key"]["selected"]["parameters"] == expected
