"""Captions and their embeddings, by an encoder of a few lines."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.data import Dataset
from ctrak_jax.data.conditions import Conditions
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import StoreError
from ctrak_jax.inputs import arrays
from ctrak_jax.inputs.base import NegativeRule
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.inputs.latents import Latents
from ctrak_jax.models.network import TextCondition
from ctrak_jax.rewards import Concept, ConceptReward

SHAPE = (3, 2)
"""Tokens and width of an embedding."""


class Words(BatchEncoder):
    """Embeds every text as a number of its own, that float16 has not."""

    def __init__(self) -> None:
        self.known: dict[str, np.ndarray] = {}

    def texts(self, texts: Sequence[str], encoder: Any = None) -> np.ndarray:
        for text in texts:
            number = np.float32(len(self.known) + 1 / 3)
            self.known.setdefault(text, np.full(SHAPE, number, np.float32))
        return np.stack([self.known[text] for text in texts])


def dataset(nouns: Sequence[str], *, silent: int = 0) -> Dataset:
    """Two images of each combination; the captions of the first ``silent`` do not say the tail."""
    rows = [pair for pair in product(nouns, ("c", "d")) for _ in range(2)]
    return Dataset(
        raw=RawImages(
            name="words",
            images=np.zeros((len(rows), 2, 2, 3), np.uint8),
            attributes={
                "noun": tuple(noun for noun, _ in rows),
                "tail": tuple(tail for _, tail in rows),
            },
            prompts=tuple(
                f"{noun} ab" if place < silent else f"{noun} ab {tail}"
                for place, (noun, tail) in enumerate(rows)
            ),
        ),
        conditions=Conditions({"noun": tuple(nouns), "tail": ("c", "d")}),
        hold_out=(),
        train_index=np.arange(len(rows)),
    )


def latents(folder: Path, data: Dataset, words: Words, stored: Dataset, dtype: type) -> Latents:
    """The inputs of ``data`` where the captions of ``stored`` are on disk."""
    np.save(folder / "latents.npy", np.zeros((len(data.raw.images), 1, 1, 1), dtype))
    np.save(folder / "text_embeddings.npy", words.texts(stored.captions).astype(dtype))
    rule = NegativeRule("attribute", 2, "")
    condition = jax.ShapeDtypeStruct(SHAPE, np.float32)
    return Latents(data, rule, words, folder, stored.captions, (1, 1, 1), condition)


@pytest.mark.parametrize("same", [True, False], ids=["one encoder", "arrays of another"])
def test_captions_cut_to_one_text_have_one_embedding(tmp_path, same):
    """Three images say nothing of their tail; without the tail the captions of the others become
    theirs. The arrays are rounded."""
    data = dataset(("a", "b"), silent=3)
    silent, words = data.without("tail"), Words()
    inputs = latents(tmp_path, silent, words, data, np.float16)
    if not same:
        words.known.clear()
        words.texts(["something else"])
    conds, captions = inputs.conditions(np.arange(8)), np.array(silent.captions)
    assert set(captions) == {"a ab", "b ab"}
    for caption in ("a ab", "b ab"):
        found = conds[captions == caption]
        np.testing.assert_array_equal(found, np.broadcast_to(found[0], found.shape))
    np.testing.assert_array_equal(conds, conds.astype(np.float16))
    assert conds.dtype == np.float32


def test_a_negative_lacks_the_words_of_an_attribute_that_has_no_other_value(tmp_path):
    """There is one noun: one negative says nothing of it, the other has the other tail."""
    data, words = dataset(("a",)), Words()
    inputs, rows = latents(tmp_path, data, words, data, np.float32), np.arange(4)
    found = inputs.negatives(rows, rows)
    for row, tail in enumerate("ccdd"):
        other = {"c": "d", "d": "c"}[tail]
        wanted = words.texts([f"ab {tail}", f"a ab {other}"])
        order = np.argsort(found[row, :, 0, 0] == wanted[0, 0, 0])[::-1]
        np.testing.assert_array_equal(found[row][order], wanted)


class Pooled(Words):
    """Beside them, minus their numbers."""

    def texts(self, texts: Sequence[str], encoder: Any = None) -> Any:
        found = super().texts(texts)
        return TextCondition(found, -found[:, 0])


@pytest.mark.parametrize("rule", ["attribute", "other", "null", "prompt"])
def test_conditions_of_several_arrays_are_those_of_one_and_the_others(tmp_path, rule):
    """The second array is read, changed and guided against as the first is."""
    data, words = dataset(("a", "b")), Pooled()
    whole = words.texts(data.captions)
    np.save(tmp_path / "latents.npy", np.zeros((8, 1, 1, 1), np.float16))
    for name, array in zip(("embeddings", "pooled"), whole, strict=True):
        np.save(tmp_path / f"text_{name}.npy", array[:4].astype(np.float16))
    like = TextCondition(np.zeros(SHAPE, np.float32), np.zeros(SHAPE[1:], np.float32))
    shapes = jax.eval_shape(lambda: like)
    assert arrays.names_of(shapes) == ["text_embeddings.npy", "text_pooled.npy"]
    with pytest.raises(StoreError, match=r"text_embeddings.npy: float16 \(4, 3, 2\), expected"):
        arrays.read(tmp_path, 8, (1, 1, 1), shapes)
    for name, array in zip(("embeddings", "pooled"), whole, strict=True):
        np.save(tmp_path / f"text_{name}.npy", array.astype(np.float16))
    negative = NegativeRule(rule, 2, "b ab c")
    inputs = Latents(data, negative, words, tmp_path, data.captions, (1, 1, 1), shapes)
    rows = np.arange(8)
    found = inputs.conditions(rows), inputs.negatives(rows, rows), inputs.null
    for cond in (*found, inputs.condition({}, "b ab d")):
        assert isinstance(cond, TextCondition)
        assert (cond.embeddings.dtype, cond.pooled.dtype) == (np.float32, np.float32)
        np.testing.assert_array_equal(cond.pooled, -cond.embeddings[..., 0, :])
    assert found[1].pooled.shape[:2] == (8, 1 if rule in ("null", "prompt") else 2)
    assert len(inputs.key["encoded"]) == 64


class Decodes(Words):
    """Its autoencoder's decoder is linear: a latent of one number times a picture."""

    @property
    def codecs(self) -> Any:
        network = SimpleNamespace(decode=lambda picture, latent: picture * latent[0, 0, 0])
        picture = jax.random.normal(jax.random.key(0), (4, 4, 3))
        return SimpleNamespace(image=SimpleNamespace(network=network, params=picture))


def test_a_reward_of_pictures_is_one_of_latents_through_the_decoder(tmp_path):
    """R(D(z)) = (s z <P, T>)^2 for a decoder D(z) = z P, with s among the reward's parameters, has
    the derivative 2 s^2 z <P, T>^2."""
    data, encoder, red = dataset(("a", "b")), Decodes(), Concept("color", "red")
    inputs = latents(tmp_path, data, encoder, data, np.float32)
    target = np.linspace(-1.0, 1.0, 48, dtype=np.float32).reshape(4, 4, 3)
    reward = ConceptReward(
        lambda scale, picture, target: (scale * jnp.vdot(picture, target)) ** 2,
        jnp.float32(0.5),
        {red: target},
    )
    found = inputs.reward_of_samples(reward)
    inner = float(np.vdot(encoder.codecs.image.params, target))
    latent = jnp.full((1, 1, 1), 3.0)
    value, slope = jax.value_and_grad(found.fn, 1)(found.params, latent, found.target(red))
    np.testing.assert_allclose(value, (0.5 * 3.0 * inner) ** 2, rtol=1e-5)
    np.testing.assert_allclose(slope, [[[2 * 0.25 * 3.0 * inner**2]]], rtol=1e-5)
