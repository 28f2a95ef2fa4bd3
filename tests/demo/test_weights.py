"""The model that comes with the package: what it is, and that no other is taken for it."""

from pathlib import Path

import jax
import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax import data, demo
from ctrak_jax.demo import weights
from ctrak_jax.errors import StoreError
from ctrak_jax.models.architecture import Architecture, architecture_of, model_files_of
from ctrak_jax.models.checkpoints import safe
from ctrak_jax.models.denoiser import eps_fn_of
from ctrak_jax.run.keys import model_key

ROOT = Path(__file__).parents[2]
LARGEST = 700_000
"""Bytes of the file."""


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.build(demo.config().data)


@pytest.fixture(scope="module")
def architecture(dataset: data.Dataset) -> Architecture:
    config = demo.config()
    return architecture_of(
        config.model,
        config.schedule,
        files=model_files_of(config.model, Path()),
        image_shape=dataset.image_shape,
        condition_size=dataset.conditions.size,
    )


@pytest.fixture(scope="module")
def made_from(dataset: data.Dataset) -> dict:
    return model_key(demo.config(), dataset, demo.config().run.seeds[0])


def test_it_is_of_the_main_job_s_data_and_training(dataset, made_from):
    main = cfg.load(ROOT / "configs" / "synthetic.yaml")
    assert model_key(main, data.build(main.data), main.run.seeds[0]) == made_from
    held_out = {"shape": "triangle", "color": "red"}
    assert dataset.is_held_out(held_out)


def test_the_file_has_its_provenance_and_the_network_s_arrays(architecture, made_from):
    found = safe.read(weights.FILE)
    said = weights.about(found)
    assert said["made_from"]["data"] == made_from["data"]
    assert said["licence"] == "Apache-2.0"
    assert "ctrak demo --train" in said["made_by"]
    assert {value.dtype for value in found.tensors.values()} == {np.dtype(np.float16)}
    assert weights.FILE.stat().st_size < LARGEST
    params = weights.read(architecture.template, made_from, weights.FILE)
    like = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), architecture.template)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == like


def test_what_is_written_is_read(architecture, made_from, tmp_path):
    params, file = architecture.create(3), tmp_path / "model.safetensors"
    weights.write(params, made_from, file)
    again = weights.read(architecture.template, made_from, file)
    for wanted, got in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2**-11, atol=1e-7)
    weights.write(again, made_from, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_a_model_of_other_settings_or_shapes_is_refused(architecture, made_from, tmp_path):
    with pytest.raises(StoreError, match=r"other settings or data \(\['train.steps'\]\)"):
        weights.read(architecture.template, made_from | {"train.steps": 3}, weights.FILE)
    with pytest.raises(StoreError, match="not those of the network"):
        weights.read({"final": architecture.template["final"]}, made_from, weights.FILE)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.FILE.read_bytes()[:1000])
    with pytest.raises(StoreError, match="cannot be read"):
        weights.read(architecture.template, made_from, cut)


def test_it_denoises(architecture, dataset, made_from):
    """At timestep 500, where 8% of the power is signal; no prediction at all has error 1."""
    params = weights.read(architecture.template, made_from, weights.FILE)
    eps_fn = eps_fn_of(architecture.network, *architecture.noise)
    x0, cond = dataset.train_images(np.arange(16)), dataset.train_conditions[:16]
    noise = jax.random.normal(jax.random.key(0), x0.shape)
    power = float(architecture.schedule.signal[500]) ** 2
    states = power**0.5 * x0 + (1 - power) ** 0.5 * noise
    found = jax.vmap(lambda x, c: eps_fn(params, x, 500, c))(states, cond)
    assert float(((found - noise) ** 2).mean()) < 0.05
