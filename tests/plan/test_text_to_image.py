"""ctrak plan of text-to-image models, from folders without weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ctrak_jax.config import Config, load
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion import autoencoder_of, read_config
from ctrak_jax.models.text_encoders import clip_text_of
from ctrak_jax.plan.compiling import step_of
from tests.command import ctrak
from tests.libtpu import needs_libtpu

SD14 = Path("configs/sd14")
SHALLOW = {
    "block_out_channels": [32],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "layers_per_block": 1,
    "sample_size": 8,
    "up_block_types": ["CrossAttnUpBlock2D"],
}


def config(folder: Path = SD14, **trajectory: Any) -> Config:
    found = load(Path("configs/sd14.yaml"), {"model.checkpoint": str(folder)})
    inverted = {"path": "inversion", "condition": "own", "negative": "other", "timesteps": "all"}
    return Config.model_validate(found.model_dump() | {"trajectory": inverted | trajectory})


@pytest.fixture
def shallow(tmp_path: Path) -> Path:
    """The folder of a small network, every file but the weights."""
    folder = tmp_path / "shallow"
    shutil.copytree(SD14, folder)
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(read_config(file) | SHALLOW))
    return folder


@pytest.mark.parametrize(
    ("trajectory", "negatives"),
    [
        ({"negatives": 3}, 3),
        ({"negative": "null"}, 1),
        pytest.param({}, 2, marks=pytest.mark.slow),
        pytest.param(
            {"negative": "prompt", "negative_prompt": "a picture"}, 1, marks=pytest.mark.slow
        ),
    ],
)
def test_a_batchs_shapes_need_no_data(trajectory, negatives):
    found = step_of(config(**trajectory), local_mesh(1), 1).batch(4)
    assert found.x0.shape == (4, 64, 64, 4)
    assert found.cond.shape == (4, 77, 768)
    assert found.negatives.shape == (4, negatives, 77, 768)
    assert (found.index.shape, found.index.dtype) == ((4,), np.int64)


def test_the_config_of_stable_diffusion_1_4_selects_its_cross_attentions():
    params = step_of(config(), local_mesh(1), 1).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 859_520_964
    assert params.size == 43_962_560


def test_the_codecs_of_stable_diffusion_1_4():
    files = SD14 / "vae" / "config.json", SD14 / "text_encoder" / "config.json"
    vae, text = (
        read(read_config(file), file)
        for read, file in zip((autoencoder_of, clip_text_of), files, strict=True)
    )
    for init, count in ((vae.init, 83_653_863), (text.init, 123_060_480)):
        shapes = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))
        assert sum(leaf.size for leaf in shapes) == count


@pytest.mark.parametrize(
    "file",
    ["unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"],
)
def test_a_missing_file_is_one_line(shallow, file):
    (shallow / file).unlink()
    with pytest.raises(UsageError) as error:
        step_of(config(shallow), local_mesh(1), 1)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{shallow / file} is missing; ")


def test_a_missing_folder_is_one_line():
    settings = config().model_dump()
    settings["model"] |= {"checkpoint": None}
    nowhere = Config.model_validate(settings)
    with pytest.raises(UsageError, match=r"^model\.checkpoint is missing; "):
        step_of(nowhere, local_mesh(1), 1)


def test_attributes_that_are_not_there_cannot_be_changed():
    with pytest.raises(ValueError, match="use other, null or prompt"):
        config(negative="attribute")


@pytest.mark.slow
@needs_libtpu
def test_a_real_plan_from_a_folder_without_weights(shallow):
    """FLOPs of the projection by hand; one program alone, in which no device meets another."""
    done = ctrak(
        *("plan", "configs/sd14.yaml", "--model.checkpoint", shallow, "--projection.k", "1024"),
        *("--model.dtype", "float32", "--model.efficient_attention", "false"),
        *("--topology", "v5e:2x2", "--batch", "2", "--only", "--json"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    (row,) = found["programs"]
    assert (len(found["compiled"]), found["largest_batch_per_chip"]) == (1, None)
    assert (row["batch_per_chip"], row["collectives"]) == (2, {})
    assert found["parameters"] == 4 * (2 * 32 * 32 + 32 + 2 * 768 * 32)
    assert row["projection_flops_per_sample"] == 2 * found["parameters"] * 1024
    assert row["flops_per_sample"] > row["projection_flops_per_sample"]
