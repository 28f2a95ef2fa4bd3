"""CLIP's image encoder: what transformers computes, out of Flax and of PyTorch's weights."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models.clip import MEAN, STD, load_clip
from tests.tiny_clip import SIDE, write_clip

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def embedded(folder: Path) -> np.ndarray:
    """The embedding of the image."""
    clip = load_clip(folder)
    return np.asarray(clip.network.apply(clip.params, clip.network.prepare(IMAGE)))


def test_the_embedding_is_that_of_transformers(folder):
    transformers = pytest.importorskip("transformers", reason="needs the extra diffusers")
    pixels = load_clip(folder).network.prepare(IMAGE)
    whole: Any = transformers.FlaxCLIPModel.from_pretrained(folder)
    wanted = whole.get_image_features(np.moveaxis(pixels, -1, 0)[None])
    np.testing.assert_allclose(embedded(folder), wanted[0], atol=1e-5)


def test_a_picture_is_cut_to_its_centre_and_its_colours_are_normalised(folder):
    network = load_clip(folder).network
    found = network.prepare(IMAGE) * np.array(STD) + np.array(MEAN)
    assert found.shape == (SIDE, SIDE, 3)
    resized = Image.fromarray(IMAGE).resize((round(40 * SIDE / 24), SIDE), Image.Resampling.BICUBIC)
    left = (resized.width - SIDE) // 2
    np.testing.assert_allclose(255 * found, np.asarray(resized)[:, left : left + SIDE], atol=1e-3)


def test_the_colours_of_the_folder_are_taken(folder, tmp_path):
    own = write_clip(tmp_path)
    about = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (own / "preprocessor_config.json").write_text(json.dumps(about))
    found, plain = (load_clip(f).network.prepare(IMAGE) for f in (own, folder))
    np.testing.assert_allclose(found, plain * np.array(STD) + np.array(MEAN), atol=1e-5)


def test_pytorch_weights_give_the_same_embedding(folder, tmp_path):
    """Written by hand in PyTorch's names and layouts, position numbers included."""
    own = write_clip(tmp_path)
    (own / "flax_model.msgpack").unlink()
    save_file(torch_weights(folder), own / "model.safetensors")
    np.testing.assert_allclose(embedded(own), embedded(folder), atol=1e-6)


def torch_weights(folder: Path) -> dict[str, np.ndarray]:
    """The same parameters as PyTorch has them."""
    from flax.serialization import msgpack_restore

    params = msgpack_restore((folder / "flax_model.msgpack").read_bytes())
    found = {"vision_model.embeddings.position_ids": np.arange(5)[None]}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names, value = [entry.key for entry in path], np.asarray(leaf)
        if names[-1] == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        last = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
        found[".".join([*names[:-1], last.get(names[-1], names[-1])])] = np.array(value, order="C")
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text('{"model_type": "vit"}'), "'vit'"),
        (lambda f: (f / "flax_model.msgpack").unlink(), "has no weights"),
        (lambda f: (f / "flax_model.msgpack").write_bytes(b"no"), "cannot be used"),
    ],
    ids=["no config", "another kind", "no weights", "damaged weights"],
)
def test_what_is_no_clip_model_is_refused(tmp_path, change, words):
    own = write_clip(tmp_path)
    change(own)
    with pytest.raises(UsageError, match=words):
        load_clip(own)
