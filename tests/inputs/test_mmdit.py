"""A small transformer of image and text, trained here: from pictures and captions to answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax import pipeline
from ctrak_jax.attribution import by_name
from ctrak_jax.config import Config
from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.mmdit import SD3Denoiser
from ctrak_jax.models.pretrained import codecs_of, describe
from ctrak_jax.models.stable_diffusion import ModelFiles
from ctrak_jax.models.tokenizers import vocabulary
from ctrak_jax.run.metrics import read_metrics
from tests.inputs.words import config

WORDS = vocabulary.derive(("a b", "ab c</w>"))
STEPS = {"steps": 4, "batch": 4}


def of_data(data: Path) -> Config:
    train = {**STEPS, "optimizer": "adamw", "warmup": 1, "scan": 2, "checkpoint_every": 4}
    gradient = {"include": ["cross-attention"]}
    found = config(data, None, train=train, autoencoder=STEPS, gradient=gradient).model_dump()
    found["model"] |= {"family": "mmdit", "width": 16, "depth": 2, "heads": 2}
    found |= {"methods": ["concept-trak"], "references": []}
    return Config.model_validate(found)


@pytest.mark.slow
def test_a_small_transformer_is_trained_asked_and_reported(data, tmp_path, monkeypatch):
    """The folder that training leaves is read like a published one; a second run does nothing."""
    monkeypatch.setattr(vocabulary, "library", Path)
    monkeypatch.setattr(vocabulary, "read", lambda file: WORDS)
    settings = of_data(data)
    pipeline.run(settings, tmp_path)

    model = ModelFiles(tmp_path / "model")
    network, noise, condition = describe(model, FLOAT32)
    assert isinstance(network, SD3Denoiser)
    assert (network.latent_shape, noise.prediction) == ((4, 4, 4), "flow")
    np.testing.assert_allclose(noise.schedule.noise[500], 3 / 4, atol=1e-6)
    (ctx,) = pipeline.prepare(settings, tmp_path)
    assert ctx.architecture.network == network
    assert ctx.architecture.condition == condition

    text = codecs_of(model).text
    caption = ctx.dataset.captions[-1]
    wanted = text.network.apply(text.params, text.network.tokens(caption))
    for name, array in by_name(wanted).items():
        kept = np.load(tmp_path / "encoded" / f"text_{name}.npy")
        np.testing.assert_allclose(kept[-1], array, atol=1e-5)

    about = json.loads((tmp_path / "model" / "model.json").read_text())
    assert about["made_from"]["model.family"] == "mmdit"
    rows = read_metrics(tmp_path / "metrics.json").rows
    assert {row.method for row in rows} == {"concept-trak"}
    assert (tmp_path / "report" / "index.html").exists()
    again = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("features/*/manifest.json")}
    pipeline.run(settings, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in again} == again
