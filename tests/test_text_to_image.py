"""A text-to-image model through every stage: encode, featurize, ask, score."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax import pipeline
from ctrak_jax.config import Config
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.models.stable_diffusion import load_codecs
from tests.tiny_model import write_model

VALUES = {"noun": ("a", "b"), "tail": ("c", "d")}
EACH = 5
SETTINGS = {
    "model": {"kind": "text-to-image"},
    "gradient": {"include": ["*attn2*"], "time_chunk": 1, "batch": 4},
    "trajectory": {"steps": 4, "record_every": 2, "against": "other", "opponents": 1},
    "projection": {"k": 32},
    "query": {
        "check": "none",
        "trajectories": 1,
        "per_combination": 1,
        "validation": 1,
        "repetitions": 1,
        "sampling_guidance": 2.0,
    },
    "score": {"damping": [1.0], "top": 10},
    "evaluate": {"k": [5], "bootstrap": 100},
    "methods": ["concept-trak", "d-trak"],
    "controls": [],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Noise with captions of two words."""
    folder = tmp_path_factory.mktemp("data")
    rows = [pair for pair in product(*VALUES.values()) for _ in range(EACH)]
    images = np.random.default_rng(0).integers(0, 256, (len(rows), 16, 16, 3), np.uint8)
    columns = dict(zip(VALUES, map(tuple, zip(*rows, strict=True)), strict=True))
    raw = RawImages(
        name="words",
        images=images,
        attributes=columns,
        prompts=tuple(f"{noun} ab {tail}" for noun, tail in rows),
    )
    write_folder(raw, folder)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def config(data: Path, model: Path, **sections: dict) -> Config:
    settings = {
        name: dict(value) if isinstance(value, dict) else value for name, value in SETTINGS.items()
    }
    settings["data"] = {
        "kind": "folder",
        "path": data,
        "condition_on": list(VALUES),
        "hold_out": [{"noun": "a", "tail": "d"}],
    }
    settings["model"]["checkpoint"] = model
    for name, section in sections.items():
        settings[name] |= section
    return Config.model_validate(settings)


@pytest.fixture(scope="module")
def run(data, model_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run")
    pipeline.run(config(data, model_folder), out)
    return out


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


def test_questions_are_put_in_words(run):
    with (run / "queries" / "queries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        values = dict(pair.split("=") for pair in row["condition"].split(";"))
        minus = dict(pair.split("=") for pair in row["minus"].split(";"))
        assert row["prompt"] == f"{values['noun']} ab {values['tail']}"
        assert row["minus_prompt"] == f"{minus['noun']} ab {minus['tail']}"
        assert row["prompt"] != row["minus_prompt"]


def test_the_answer_is_there_and_is_finite(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert {row["method"] for row in metrics["rows"]} == {"concept-trak", "d-trak"}
    assert {row["scenario"] for row in metrics["rows"]} == {"id", "ood"}
    about = json.loads((run / "model" / "model.json").read_text())
    assert about["architecture"]["network"] == "UNet"
    assert (run / "report" / "index.html").exists()


def test_a_second_run_computes_nothing(run, data, model_folder):
    before = (run / "log.jsonl").read_text()
    pipeline.run(config(data, model_folder), run)
    assert (run / "log.jsonl").read_text() == before
