"""Pictures and captions are encoded: once, where it was stopped, and only what fits."""

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers", reason="needs the extra diffusers")

from ctrak_jax import pipeline
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.models.stable_diffusion import load_codecs
from ctrak_jax.stages import encode
from tests.inputs.words import EACH, PAIRS, VALUES, config, encoded_by


def test_every_image_becomes_a_latent_and_every_caption_an_embedding(run, data, model_folder):
    codecs = load_codecs(model_folder)
    images = np.load(data / "images.npy")
    latents = np.load(run / "encoded" / "latents.npy")
    text = np.load(run / "encoded" / "text_embeddings.npy")
    assert (latents.shape, text.shape) == ((20, 4, 8, 8), (20, 77, 32))
    for i in (0, 7, 19):
        image = images[i] / np.float32(127.5) - 1
        latent = codecs.image.network.encode(codecs.image.params, image)
        np.testing.assert_allclose(np.moveaxis(latents[i], 0, -1), latent, atol=1e-4)
        noun, tail = list(product(*VALUES.values()))[i // EACH]
        tokens = codecs.text.network.tokens(f"{noun} ab {tail}")
        embedding = codecs.text.network.apply(codecs.text.params, tokens)
        np.testing.assert_allclose(text[i], embedding, atol=1e-4)


def spied(monkeypatch, fail_at: int | None = None) -> list[int]:
    """The numbers of images encoded, call by call; the call of that number is interrupted."""
    calls: list[int] = []
    plain = BatchEncoder.encode

    def encode(self: BatchEncoder, images: np.ndarray) -> np.ndarray:
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(BatchEncoder, "encode", encode)
    return calls


def test_encoding_goes_on_where_it_was_stopped(run, data, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 8)
    with monkeypatch.context() as patch:
        first = spied(patch, fail_at=2)
        with pytest.raises(KeyboardInterrupt):
            encoded_by(data, model_folder, tmp_path)
    rest = spied(monkeypatch)
    ctx = encoded_by(data, model_folder, tmp_path)
    assert (first, rest) == ([8, 8], [4])
    for name in ("latents.npy", "text_embeddings.npy"):
        here, there = (np.load(root / "encoded" / name) for root in (ctx.folder.root, run))
        np.testing.assert_allclose(here, there, atol=1e-5)


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_encoding_stopped_at_its_end_is_not_done_again(
    run, data, model_folder, tmp_path, monkeypatch, finished
):
    """Every row is written, and so many of the two arrays have got their names."""
    ctx = encoded_by(data, model_folder, tmp_path)
    out = ctx.folder.encoded
    before = {name: (out / name).read_bytes() for name in ("latents.npy", "text_embeddings.npy")}
    (ctx.folder.root / ".stages" / "encode.json").unlink()
    for name in list(before)[finished:]:
        (out / name).rename(out / f"{name}.part")
    (out / "done").mkdir()
    (out / "done" / f"{0:09d}").touch()
    calls = spied(monkeypatch)
    encoded_by(data, model_folder, tmp_path)
    assert calls == []
    assert {name: (out / name).read_bytes() for name in before} == before
    assert sorted(file.name for file in out.iterdir()) == ["inputs.json", *sorted(before)]


def test_the_second_half_is_mirrored(run, data, model_folder, tmp_path):
    ctx = encoded_by(data, model_folder, tmp_path, encode={"flip": True, "dtype": "float16"})
    latents = np.load(tmp_path / "encoded" / "latents.npy")
    assert (latents.shape, latents.dtype) == ((40, 4, 8, 8), np.float16)
    images = np.load(data / "images.npy")
    mirrored = ctx.inputs.encode(images[:, :, ::-1])
    rows = np.arange(len(ctx.dataset.train_index))
    assert ctx.inputs.flipped
    found = ctx.inputs.samples(rows, mirrored=True)
    np.testing.assert_allclose(found, mirrored[ctx.dataset.train_index], atol=2e-3)
    plain = np.load(run / "encoded" / "latents.npy")
    np.testing.assert_allclose(latents[:20], plain, atol=2e-3)


def test_arrays_that_the_data_set_brings_are_taken(run, data, model_folder, tmp_path):
    own = Path(shutil.copytree(data, tmp_path / "data"))
    for name in ("latents.npy", "text_embeddings.npy"):
        shutil.copy(run / "encoded" / name, own / name)
    ctx = encoded_by(own, model_folder, tmp_path / "out")
    assert not (tmp_path / "out" / "encoded").exists()
    rows = np.arange(3)
    theirs = np.load(run / "encoded" / "text_embeddings.npy")[ctx.dataset.train_index[rows]]
    np.testing.assert_array_equal(ctx.inputs.conditions(rows), theirs)

    bare = encoded_by(data, model_folder, tmp_path / "bare").folder.encoded / "latents.npy"
    bare.unlink()
    with pytest.raises(StoreError, match=r"latents.npy is missing; run `ctrak encode` first"):
        _ = pipeline.prepare(config(data, model_folder), tmp_path / "bare")[0].inputs.key

    (own / "latents.npy").unlink()
    with pytest.raises(UsageError, match=r"holds only one of latents.npy and text_embeddings.npy"):
        encoded_by(own, model_folder, tmp_path / "one")
    np.save(own / "latents.npy", np.zeros((20, 4, 8, 9), np.float32))
    with pytest.raises(StoreError, match=r"latents.npy: float32 \(20, 4, 8, 9\), expected"):
        encoded_by(own, model_folder, tmp_path / "two").inputs.samples(rows)


def test_what_is_not_finite_stops_with_the_image(data, model_folder, tmp_path, monkeypatch):
    plain = BatchEncoder.encode

    def encode(self: BatchEncoder, images: np.ndarray) -> np.ndarray:
        latents = np.array(plain(self, images))
        latents[3, 0] = np.nan
        return latents

    monkeypatch.setattr(BatchEncoder, "encode", encode)
    with pytest.raises(StoreError, match="image 3: its latent holds NaN"):
        encoded_by(data, model_folder, tmp_path)
    assert not (tmp_path / "encoded" / "latents.npy").exists()


def test_a_data_set_without_captions_is_refused(data, model_folder, tmp_path):
    own = Path(shutil.copytree(data, tmp_path / "data"))
    (own / "prompts.txt").unlink()
    with pytest.raises(UsageError, match=r"a caption for every image; add prompts.txt"):
        encoded_by(own, model_folder, tmp_path / "out")


def test_pictures_of_another_size_than_the_models_are_refused(data, model_folder, tmp_path):
    raw = RawImages(
        name="large",
        images=np.zeros((len(PAIRS) * EACH, 32, 32, 3), np.uint8),
        attributes=dict(zip(VALUES, map(tuple, zip(*PAIRS * EACH, strict=True)), strict=True)),
        prompts=tuple(f"{noun} ab {tail}" for noun, tail in PAIRS * EACH),
    )
    write_folder(raw, tmp_path / "data")
    with pytest.raises(UsageError, match=r"16 x 16, .* 32 x 32; .* data.image_size: 16"):
        encoded_by(tmp_path / "data", model_folder, tmp_path / "out")
