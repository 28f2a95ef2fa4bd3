"""A text-to-image model through every stage: encode, featurize, ask, score."""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import pipeline
from ctrak_jax.config import Config
from ctrak_jax.data import build, write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.captions import CutCaptions, cut_captions
from ctrak_jax.inputs.encoder import BatchEncoder, require_distinct_prompts
from ctrak_jax.models.stable_diffusion import load_codecs
from ctrak_jax.report.explanation.maps import read_maps
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.metrics import read_metrics
from ctrak_jax.run.questions import read_questions
from ctrak_jax.run.tops import read_tops
from ctrak_jax.run.variants import unnamed
from ctrak_jax.stages import encode, query, train
from ctrak_jax.stages.ask import attribute
from ctrak_jax.stages.ask.explain import explain
from ctrak_jax.stages.context import Context
from tests.command import ctrak_here
from tests.inputs.words import EACH, PAIRS, VALUES, config, encoded_by

# Pictures and captions are encoded


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


def test_captions_that_are_cut_off_are_counted(model_folder):
    """Of 77 tokens two are the beginning and the end; a word of one letter is one token."""
    short, full, long, longer = (" ".join("a" * n) for n in (3, 75, 76, 200))
    assert cut_captions(model_folder, [short, full, short]) is None
    found = cut_captions(model_folder, [short, long, full, longer, long])
    assert found == CutCaptions(cut=3, total=5, limit=77, longest=202, first=long)
    assert "3 of 5 captions (60.0%)" in str(found)


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
    with pytest.raises(UsageError, match=r"holds only text_embeddings.npy of latents.npy, text_"):
        encoded_by(own, model_folder, tmp_path / "one")
    np.save(own / "latents.npy", np.zeros((20, 4, 8, 9), np.float32))
    with pytest.raises(StoreError, match=r"latents.npy: float32 \(20, 4, 8, 9\), expected"):
        encoded_by(own, model_folder, tmp_path / "two").inputs.samples(rows)


def test_without_an_attribute_captions_and_negatives_lack_its_words(data, model_folder, tmp_path):
    """The embeddings are those of the captions without the word, and of the captions of the other
    noun without it."""
    changed = {
        "trajectory": {"negative": "attribute", "negatives": 2},
        "unnamed": {"attributes": ["tail"]},
    }
    ctx = encoded_by(data, model_folder, tmp_path / "run", **changed)
    (variant,) = [v for v in unnamed(ctx.config) if v.without == "tail"]
    samples = ctx.samples(variant)
    batch = samples.batch(samples.rows)
    assert batch.negatives.shape[:2] == (len(samples.rows), 1)
    encoder = BatchEncoder(model_folder, ctx.mesh, 4)
    for row, values in enumerate(ctx.dataset.train_values):
        noun, other = values["noun"], {"a": "b", "b": "a"}[values["noun"]]
        wanted = encoder.texts([f"{noun} ab", f"{other} ab"])
        np.testing.assert_allclose(batch.cond[row], wanted[0], atol=1e-5)
        np.testing.assert_allclose(batch.negatives[row, 0], wanted[1], atol=1e-5)


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
    with pytest.raises(UsageError, match=r"a caption for every image; add a table"):
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


# Every stage


def test_questions_are_put_in_words(run):
    asked = read_questions(run / "queries" / "queries.csv")
    assert asked
    for q in asked:
        assert q.prompt == f"{q.condition['noun']} ab {q.condition['tail']}"
        assert q.minus_prompt == f"{q.minus['noun']} ab {q.minus['tail']}"
        assert q.prompt != q.minus_prompt


def test_the_answer_is_there_and_is_finite(run):
    rows = read_metrics(run / "metrics.json").rows
    similarities = {f"similarity-{what}" for what in ("pixels", "latents", "text")}
    assert {row.method for row in rows} == {
        *("concept-trak", "d-trak", "labels", "random"),
        *similarities,
    }
    assert {row.scenario for row in rows} == {"id", "ood"}
    about = json.loads((run / "model" / "model.json").read_text())
    assert about["architecture"]["network"] == "UNet"
    assert (run / "report" / "index.html").exists()


def test_a_second_run_computes_nothing(run, data, model_folder):
    before = (run / "log.jsonl").read_text()
    pipeline.run(config(data, model_folder), run)
    assert (run / "log.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("trajectory", "texts"),
    [
        ({"negative": "null"}, {""}),
        ({"negative": "prompt", "negative_prompt": "d a"}, {"d a"}),
        ({"negative": "attribute", "negatives": 2}, {"b ab c", "a ab d"}),
        ({"negative": "opposite", "negatives": 1}, {"b ab d"}),
        ({"negative": "other", "negatives": 2}, {"b ab c", "b ab d"}),
    ],
)
def test_inversions_are_guided_against_texts(run, data, model_folder, trajectory, texts):
    """The first training image is "a ab c"; "a ab d" is held out, but its caption is a text."""
    settings = config(data, model_folder, trajectory=trajectory)
    ctx = Context(
        config=settings,
        folder=RunFolder(root=run),
        seed=0,
        training_set=build(settings.data),
        dataset=build(settings.data),
        mesh=local_mesh(1),
    )
    found = ctx.samples().batch(np.arange(2)).negatives[0]
    wanted = {text: ctx.inputs.condition({}, text) for text in texts}
    assert found.shape == (len(texts), 77, 32)
    for embedding in found:
        near = [text for text, known in wanted.items() if np.allclose(embedding, known, atol=1e-4)]
        assert len(near) == 1
        wanted.pop(near[0])


def training(data: Path, out: Path, **sections: dict) -> Context:
    """A run that trains its own model."""
    given = config(data, out, **sections).model_dump() | {"model": {"kind": "text-to-image"}}
    return pipeline.prepare(Config.model_validate(given), out)[0]


def test_training_without_captions_is_refused(data, tmp_path):
    own = Path(shutil.copytree(data, tmp_path / "data"))
    (own / "prompts.txt").unlink()
    with pytest.raises(UsageError, match=r"a caption for every image; add a table"):
        train.run(training(own, tmp_path / "out"))


def test_the_network_is_trained_for_what_it_is_read_as(data, tmp_path, monkeypatch):
    asked = []

    def stopped(_folder, _images, _captions, settings, *_: Any, **__: Any) -> None:
        asked.append((settings.schedule, settings.schedule_steps, settings.prediction))
        raise InterruptedError

    monkeypatch.setattr(train, "train_text_to_image", stopped)
    wanted = {"kind": "cosine", "steps": 100, "prediction": "v"}
    with pytest.raises(InterruptedError):
        train.run(training(data, tmp_path / "out", schedule=wanted))
    assert asked == [("cosine", 100, "v")]


@pytest.mark.parametrize(
    ("prompt", "concept"), [("ab zz", "zz"), ("ab " * 80 + "d", "d")], ids=["unknown", "cut off"]
)
def test_words_that_are_not_heard_are_refused(run, data, model_folder, prompt, concept):
    (ctx,) = pipeline.prepare(config(data, model_folder), run)
    asked: dict[str, Any] = {"prompt": prompt, "concepts": [concept], "minus": (), "image": None}
    asked |= {"image_seed": 0, "scope": "local", "method": "concept-trak", "top": 3}
    with pytest.raises(UsageError, match="does not know the words between them, or they come"):
        attribute.ask_prompt(ctx, **asked)


@pytest.mark.slow
def test_a_prompt_is_asked_by_a_reward_of_the_decoded_picture(run, data, model_folder, tmp_path):
    """Its concept need not be words of the prompt."""
    file = tmp_path / "mine.py"
    file.write_text("def energy(image, words):\n    return (image**2).mean() * len(words)\n")
    settings = config(data, model_folder, query={"reward": f"python:{file}:energy"})
    (ctx,) = pipeline.prepare(settings, run)
    asked: dict[str, Any] = {"prompt": "a ab c", "concepts": ["loud"], "minus": (), "image": None}
    asked |= {"image_seed": 0, "scope": "local", "method": "reward", "top": 3}
    answer = attribute.ask_prompt(ctx, **asked)
    assert answer.found["reward"] == settings.query.reward
    (found,) = explain(ctx, answer.denoiser, answer.asking, answer.how, answer.solved)
    scale = np.abs(found.score).max()
    assert scale > 0
    for total in found.sums.values():
        np.testing.assert_allclose(total, found.score, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
def test_maps_of_the_report_are_of_latents_and_sum_to_the_scores(run, data, model_folder, tmp_path):
    """To rounding: the question's gradient is made again by another program, and a random network
    enlarges the rounding of its inversion."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    changed = {"score": {"damping": [1e3, 1e4]}, "report": {"maps": 1}}
    stages = ("score", "evaluate", "report")
    pipeline.run(config(data, model_folder, **changed), copy, stages)
    (file,) = (copy / "maps").glob("*.npz")
    found = read_maps(file)
    assert found is not None
    assert found.maps.shape == found.query_maps.shape == (10, 8, 8)
    tops = read_tops(copy / "top" / "concept-trak.csv")
    (hits,) = [
        hits for (query, attribute), hits in tops.items()
        if file.stem == f"{query}-{attribute}-concept-trak"
    ]  # fmt: skip
    assert found.index.tolist() == [hit.index for hit in hits]
    scores = np.array([hit.score for hit in hits])
    for parts, near in ((found.maps, 1e-4), (found.query_maps, 1e-3)):
        np.testing.assert_allclose(parts.sum((1, 2)), scores, atol=near * abs(scores).max())
    assert 'id="maps-0"' in (copy / "report" / "index.html").read_text()


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_lost_tokenizer_is_named(model_folder, tmp_path, name):
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / "tokenizer" / name).unlink()
    with pytest.raises(UsageError, match=f"{name} is missing"):
        require_distinct_prompts(tmp_path / "model", [("a ab", "a")])


def test_a_prompt_to_no_model_names_the_command(data, tmp_path):
    (ctx,) = pipeline.prepare(config(data, None), tmp_path)
    asked: dict[str, Any] = {"prompt": "a ab", "concepts": ["a"], "minus": (), "image": None}
    asked |= {"image_seed": 0, "scope": "local", "method": "concept-trak", "top": 3}
    with pytest.raises(StoreError, match="run `ctrak train` first"):
        attribute.ask_prompt(ctx, **asked)


def test_features_of_another_precision_are_never_reused(run):
    done = ctrak_here("featurize", run, "--model.dtype", "bfloat16")
    assert done.returncode == 1
    assert "differing fields: compute" in done.stderr


@pytest.fixture
def unasked(run, data, model_folder, tmp_path) -> Context:
    """A run before its questions."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("queries*"))
    (ctx,) = pipeline.prepare(config(data, model_folder), tmp_path / "run")
    return ctx


def test_questions_stopped_at_their_end_are_asked_again(run, unasked, monkeypatch):
    """The table comes after all else: without it the questions are not complete."""

    def stopped(self, stage, key):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", stopped)
        with pytest.raises(KeyboardInterrupt):
            query.generate(unasked)
    query.generate(unasked)
    table = Path("queries", "queries.csv")
    assert (unasked.folder.root / table).read_text() == (run / table).read_text()


def test_every_question_is_checked_for_words_that_are_not_heard(unasked, monkeypatch):
    told = []
    monkeypatch.setattr(query, "require_distinct_prompts", lambda folder, asked: told.extend(asked))
    query.generate(unasked)
    assert ("a ab c", "b ab c") in told
    assert len(told) == 2 * len(PAIRS), "each of the two words of every caption"


def test_no_accepted_picture_is_an_error(unasked, monkeypatch):
    monkeypatch.setattr(query, "accepted_by", lambda ctx, values: lambda image: False)
    with pytest.raises(StoreError, match=r"no image was accepted.*query.attempts"):
        query.generate(unasked)


def test_prompts_are_asked_by_their_words(run, tmp_path):
    asked = ["attribute", run, "--prompt", "a ab d", "--top", 4, "--json"]
    found = ctrak_here(*asked, "--concepts", "a", "d", "--picture", tmp_path / "answer.png")
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert [(c["concept"], c["minus"]) for c in answer["concepts"]] == [
        ("a", "ab d"),
        ("d", "a ab"),
    ]
    for one in answer["concepts"]:
        scores = [row["score"] for row in one["top"]]
        assert scores == sorted(scores, reverse=True)
        assert all(row["prompt"] for row in one["top"])
    with Image.open(tmp_path / "answer.png") as picture:
        width, height = picture.size
    assert width > 5 * 64
    assert height > 2 * 64
