"""Models of several text encoders, of a flow and of classes: encode, featurize and query."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax.serialization import msgpack_serialize

from ctrak_jax import pipeline
from ctrak_jax.config import Config
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.captions import cut_captions, require_classes
from ctrak_jax.methods import METHODS
from ctrak_jax.models.checkpoints import DIFFUSERS
from ctrak_jax.models.pretrained import load_text
from ctrak_jax.models.stable_diffusion import FLOAT32, ModelFiles, unet_of
from ctrak_jax.run.variants import MAIN
from ctrak_jax.store import FeatureStore
from tests.tiny_model import SHALLOW, random_like, write
from tests.wild import dit_xl, flux, sd3, sdxl

SIDE, EACH, T5 = 16, 2, 24


class Case(NamedTuple):
    """A model, the values of its data set's attribute, a caption of one, what is differentiated,
    and the files of its conditions."""

    root: Path
    values: tuple[str, ...]
    caption: str
    include: str
    names: tuple[str, ...]


CHANNELS = {"sdxl": 4, "sd3_no_t5": 16, "flux_dev": 16, "dit": 4}
TEXT = ("text_embeddings.npy", "text_pooled.npy")


def case_of(name: str) -> Case:
    root = {"sd3_no_t5": sd3, "flux_dev": flux, "dit": dit_xl, "sdxl": sdxl}[name]() / name
    if name == "dit":
        return Case(root, ("class 1", "4"), "{}", "*ff*", ("classes.npy",))
    names = (*TEXT, "text_sizes.npy") if name == "sdxl" else TEXT
    return Case(root, ("red", "blue"), "a {} bird", "cross-attention", names)


def readable(root: Path, folder: Path) -> Path:
    """The model, where it is Stable Diffusion XL with a UNet of one level."""
    if root.name != "sdxl":
        return root
    shutil.copytree(root, folder)
    levels = {"attention_head_dim": 2, "transformer_layers_per_block": 1}
    shallow = SHALLOW | levels | {"block_out_channels": [8]}
    unet = json.loads((root / "unet" / "config.json").read_text()) | shallow
    put_random(folder / "unet", unet, unet_of(unet, folder, FLOAT32).init)
    return folder


def put_random(folder: Path, config: dict[str, Any], init: Callable[[Any], Any]) -> None:
    """A network of random weights in place of another."""
    shutil.rmtree(folder)
    write(folder / "config.json", config)
    template = jax.eval_shape(init, jax.random.key(0))
    (folder / DIFFUSERS.flax).write_bytes(msgpack_serialize(random_like(template, 0)))


def config_of(case: Case, data: Path, model: Path) -> Config:
    settings: dict[str, Any] = {
        "run": {"devices": 1},
        "data": {"kind": "folder", "path": data, "condition_on": ["kind"]},
        "model": {"kind": "text-to-image", "checkpoint": model, "t5_tokens": T5},
        "gradient": {"include": [case.include], "time_chunk": 1, "batch": 4},
        "trajectory": {"steps": 4, "record_every": 2},
        "projection": {"k": 32},
        "query": {
            "check": "none",
            "scopes": ["local"],
            "per_combination": 1,
            "validation": 1,
            "sampling_guidance": 2.0,
        },
        "score": {"top": 4},
        "evaluate": {"k": [2]},
        "methods": ["d-trak"],
        "references": [],
        "controls": [],
        "unnamed": {"attributes": []},
    }
    return Config.model_validate(settings)


def test_captions_that_are_no_class_are_refused_before_any_is_encoded():
    files = ModelFiles(dit_xl() / "dit")
    assert cut_captions(files, ["class 1", "4", ""]) is None
    require_classes(files, ["class 1", "4", ""])
    with pytest.raises(UsageError, match="no class 'a red bird'; give a number from 0 to 9"):
        require_classes(files, ["class 1", "a red bird"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sdxl", "sd3_no_t5", "flux_dev", "dit"])
def test_encode_featurize_and_query(name, tmp_path):
    case = case_of(name)
    values = tuple(value for value in case.values for _ in range(EACH))
    captions = tuple(case.caption.format(value) for value in values)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(values), SIDE, SIDE, 3), np.uint8)
    raw = RawImages(name="kinds", images=images, attributes={"kind": values}, prompts=captions)
    write_folder(raw, tmp_path / "data")
    model, out = readable(case.root, tmp_path / "model"), tmp_path / "run"
    config = config_of(case, tmp_path / "data", model)
    pipeline.run(config, out, ("train", "encode", "featurize", "query"))

    files = ("inputs.json", "latents.npy", *case.names)
    assert sorted(file.name for file in (out / "encoded").iterdir()) == sorted(files)
    text = load_text(ModelFiles(model, t5_tokens=T5))
    wanted = text.network.apply(text.params, text.network.tokens(captions[-1]))
    for file, array in zip(case.names, jax.tree.leaves(wanted), strict=True):
        kept = np.load(out / "encoded" / file)
        assert kept.dtype == array.dtype
        np.testing.assert_allclose(kept[-1], array, rtol=1e-5, atol=1e-5)

    (ctx,) = pipeline.prepare(config, out)
    about = json.loads((out / "model" / "model.json").read_text())
    assert about["architecture"]["latent"] == [8, 8, CHANNELS[name]]
    rows = ctx.features("d-trak").read()
    assert rows.shape == (len(values), 32)
    assert np.isfinite(rows).all()
    assert (np.linalg.norm(rows, axis=1) > 0).all()
    spec = METHODS["d-trak"].query
    assert spec is not None
    store = FeatureStore.open(ctx.folder.query_features("d-trak"), ctx.query_key(spec, MAIN))
    asked = store.read()
    assert asked.shape == (4, 32)
    assert (np.linalg.norm(asked, axis=1) > 0).all()
