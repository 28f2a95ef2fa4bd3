"""References of a text-to-image run: latents and texts, against plain NumPy."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.base import SampleInputs
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.models.stable_diffusion import load_codecs
from ctrak_jax.run.variants import CONTROLS
from ctrak_jax.stages import references
from ctrak_jax.stages.ask import attribute
from ctrak_jax.stages.ask.attribute import AttributedAnswer
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.references import ReferenceQuestion
from tests.inputs.words import encoded_by

IMAGE = np.random.default_rng(7).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def ctx(data, model_folder, tmp_path_factory) -> Context:
    return encoded_by(data, model_folder, tmp_path_factory.mktemp("encoded"))


def asked(ctx: Context, *, image: np.ndarray | None = IMAGE) -> list[ReferenceQuestion]:
    cond = ctx.inputs.condition({}, "a ab d")
    return [
        ReferenceQuestion("q", "noun", "a", cond, image),
        ReferenceQuestion("q", "tail", "d", cond, image),
    ]


def score(ctx: Context, name: str, **changes) -> np.ndarray:
    return references.scores(ctx, ctx.samples(), name, asked(ctx, **changes))


def test_latents_are_compared_by_their_distance(ctx, model_folder):
    codec = load_codecs(model_folder).image
    mine = np.moveaxis(
        np.asarray(codec.network.encode(codec.params, IMAGE / np.float32(127.5) - 1)), -1, 0
    )
    theirs = np.load(ctx.folder.encoded / "latents.npy")[ctx.dataset.train_index]
    wanted = -np.sqrt(((theirs - mine) ** 2).sum((1, 2, 3)))
    for row in score(ctx, "similarity-latents"):
        np.testing.assert_allclose(row, wanted, rtol=1e-3)


def test_texts_are_compared_by_the_mean_of_their_tokens(ctx, model_folder):
    """Also for a global question, which has a prompt and no picture."""
    text = load_codecs(model_folder).text
    tokens = text.network.tokens("a ab d")
    mine = np.asarray(text.network.apply(text.params, tokens)).mean(0)
    theirs = np.load(ctx.folder.encoded / "text_embeddings.npy")[ctx.dataset.train_index].mean(1)
    norms = np.linalg.norm(theirs, axis=1) * np.linalg.norm(mine)
    for image in (IMAGE, None):
        for row in score(ctx, "similarity-text", image=image):
            np.testing.assert_allclose(row, theirs @ mine / norms, atol=2e-5)


def test_captions_of_one_text_come_in_a_random_order(ctx):
    """Five candidates have each caption: no score is that of another, and each question has an
    order of its own."""
    one, two = score(ctx, "similarity-text")
    assert len(np.unique(one)) == len(one)
    captions = np.array(ctx.dataset.raw.prompts)[ctx.dataset.train_index]
    first, second = (captions[np.argsort(-row)] for row in (one, two))
    np.testing.assert_array_equal(first, second)
    assert len({tuple(np.argsort(-row)) for row in (one, two)}) == 2


def test_texts_that_are_classes_are_equal_or_not(ctx):
    """And no two scores are, for the candidates of one class come in a random order."""
    classes = np.array([3, 1, 3, 0, 1], np.int32)
    inputs = create_autospec(SampleInputs, instance=True)
    inputs.conditions.side_effect = classes.__getitem__
    question = ReferenceQuestion("q", "kind", "1", np.int32(1), None)
    found = references.scores(
        ctx, train_samples(inputs, np.arange(5)), "similarity-text", [question]
    )
    np.testing.assert_allclose(found, [classes == 1], atol=1e-6)
    assert len(np.unique(found)) == 5


@pytest.mark.parametrize("size", [1, 4])
def test_batches_of_any_size_give_the_same(ctx, monkeypatch, size):
    names = ("similarity-pixels", "similarity-latents", "similarity-text")
    whole = [score(ctx, name) for name in names]
    monkeypatch.setattr(references, "READ", size)
    for name, wanted in zip(names, whole, strict=True):
        np.testing.assert_allclose(score(ctx, name), wanted, rtol=1e-5)


def test_labels_are_the_attributes_of_a_caption(ctx):
    for row, (name, value) in zip(
        score(ctx, "labels"), [("noun", "a"), ("tail", "d")], strict=True
    ):
        carries = ctx.dataset.carries(name, value)
        assert row[carries].min() > row[~carries].max()


def test_the_wrong_label_control_compares_the_captions_given_there(ctx):
    samples = ctx.samples(CONTROLS["wrong-label"])
    found = references.scores(ctx, samples, "similarity-text", asked(ctx))
    np.testing.assert_allclose(
        found[0], score(ctx, "similarity-text")[0][samples.labels], atol=2e-5
    )
    assert (samples.labels != np.arange(len(samples.labels))).any()


def test_the_pictures_of_candidates_are_read_from_their_folder(ctx, data: Path):
    images = np.load(data / "images.npy")[ctx.dataset.train_index].astype(float)
    wanted = -np.sqrt(((images - IMAGE) ** 2).sum((1, 2, 3))) / 127.5
    np.testing.assert_allclose(score(ctx, "similarity-pixels")[0], wanted, rtol=1e-5)


@pytest.fixture
def ask(ctx, tmp_path) -> Callable[..., AttributedAnswer]:
    """A question about two words of a prompt and a picture."""
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    return partial(
        attribute.ask_prompt,
        ctx,
        prompt="a ab d",
        concepts=["a", "d"],
        minus=(),
        image=tmp_path / "image.png",
        image_seed=0,
        top=3,
    )


@pytest.mark.parametrize("name", ["similarity-pixels", "similarity-latents", "similarity-text"])
def test_words_of_a_prompt_are_answered_by_similarity(ctx, ask, name):
    """One answer for all words of the prompt, but for the order of equal captions."""
    answer = ask(scope="local", method=name).found
    assert "damping" not in answer
    scores = -np.sort(-score(ctx, name)[0])[:3]
    for one in answer["concepts"]:
        np.testing.assert_allclose([row["score"] for row in one["top"]], scores, rtol=1e-5)


def test_words_have_no_label_and_pictures_no_global_answer(ask):
    with pytest.raises(UsageError, match="'a' is none; ask by --condition"):
        ask(scope="local", method="labels")
    with pytest.raises(UsageError, match="answers no global question"):
        ask(scope="global", method="similarity-latents")
    assert len(ask(scope="global", method="similarity-text").found["concepts"]) == 2
