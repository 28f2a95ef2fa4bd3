"""The cosine of a picture and a text by CLIP: transformers' own, and differentiable."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.config import Config, load
from ctrak_jax.errors import UsageError
from ctrak_jax.models.clip import MEAN, STD, load_clip
from ctrak_jax.rewards import similarity
from ctrak_jax.rewards.base import Concept, RewardRequest
from tests.tiny_clip import SIDE, write_clip, write_words

RNG = np.random.default_rng(0)
CONCEPTS = Concept("style", "ab"), Concept("c d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_words(write_clip(tmp_path_factory.mktemp("clip")))


def wanted(folder: Path | None, template: str = "a {value}") -> RewardRequest:
    given = {"similarity": {"clip": folder, "template": template}}
    return RewardRequest(Config.model_validate(given), CONCEPTS, (SIDE, SIDE, 3), Path())


def test_the_reward_is_the_cosine_of_transformers(folder):
    transformers = pytest.importorskip("transformers", reason="needs the extra diffusers")
    found = similarity.load("", wanted(folder))
    whole: Any = transformers.FlaxCLIPModel.from_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    picture = RNG.uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32)
    pixels = ((picture + 1) / 2 - np.array(MEAN)) / np.array(STD)
    image = np.asarray(whole.get_image_features(np.moveaxis(pixels, -1, 0)[None]))[0]
    for concept, text in zip(CONCEPTS, ("a ab", "a c d"), strict=True):
        tokens = tokenizer([text], return_tensors="np")  # without padding
        words = np.asarray(whole.get_text_features(**tokens))[0]
        cosine = image @ words / np.linalg.norm(image) / np.linalg.norm(words)
        said = found.fn(found.params, jnp.asarray(picture), jnp.asarray(found.targets[concept]))
        np.testing.assert_allclose(float(said), cosine, atol=1e-5)


def test_a_folder_may_be_named_by_the_reward(folder):
    mine, named = similarity.load("", wanted(folder)), similarity.load(str(folder), wanted(None))
    for concept in CONCEPTS:
        np.testing.assert_array_equal(mine.targets[concept], named.targets[concept])
        assert np.linalg.norm(named.targets[concept]) == pytest.approx(1, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences(folder):
    with jax.enable_x64(True):
        found = similarity.load("", wanted(folder))
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), found.params)
        target = jnp.asarray(np.asarray(found.targets[CONCEPTS[0]], np.float64))
        picture, direction = jnp.asarray(RNG.uniform(-1, 1, (2, 24, 40, 3)))

        def at(move):
            return found.fn(params, picture + move * direction, target)

        difference = (at(1e-3) - at(-1e-3)) / 2e-3
        np.testing.assert_allclose(jax.grad(at)(0.0), difference, rtol=1e-2)
        assert abs(difference) > 1e-6


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (24, 40), (50, 31), (9, 9)])
def test_a_picture_is_seen_as_clip_prepares_it(folder, shape):
    network = load_clip(folder).network
    rough = RNG.integers(60, 200, (*shape, 3), np.uint8)  # bicubic overshoots stay within 0..255
    found = network.preprocessed(jnp.asarray(rough / np.float32(127.5) - 1))
    rounding = 2 / 255 / np.array(STD)  # of rows, then of columns
    assert (np.abs(np.asarray(found) - network.prepare(rough)) <= rounding).all()


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        (Concept("color", "red"), "a red thing: color"),
        (Concept("Wearing_Hat", "yes"), "a Wearing Hat thing: Wearing Hat"),
        (Concept("beard", "no"), "a no beard thing: beard"),
        (Concept("an old tree"), "a an old tree thing: an old tree"),
    ],
)
def test_a_template_is_filled_with_the_words_of_the_concept(concept, text):
    assert similarity.words("a {value} thing: {attribute}", concept) == text


@pytest.mark.parametrize("template", ["a picture", "a {colour}", "a {value", "{} {value}"])
def test_a_template_without_the_words_is_refused(template):
    with pytest.raises(UsageError, match=r"similarity\.template"):
        load(None, {"similarity.template": json.dumps(template)})


def test_another_template_or_model_is_another_key(folder, tmp_path):
    config = wanted(folder).config
    first = similarity.key("", config, tmp_path)
    assert similarity.key("", config, tmp_path) == first
    assert similarity.key("", wanted(folder, "the {value}").config, tmp_path) != first
    other = write_words(write_clip(tmp_path))
    weights = other / "flax_model.msgpack"
    assert similarity.key(str(other), config, tmp_path) == first
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert similarity.key(str(other), config, tmp_path) != first


def test_what_is_missing_is_said_in_one_line(folder, tmp_path):
    with pytest.raises(UsageError, match=r"give its folder by similarity\.clip"):
        similarity.load("", wanted(None))
    with pytest.raises(UsageError, match=r"vocab\.json is missing"):
        similarity.load(str(write_clip(tmp_path)), wanted(None))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    write_words(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({**vocabulary, "too many": 12}))
    with pytest.raises(UsageError, match="numbers tokens up to 12, its model knows 12"):
        similarity.load(str(tmp_path), wanted(None))
