"""The published transformer in a folder, told by its config.json."""

import json

import pytest

from ctrak_jax.errors import UsageError
from ctrak_jax.models.denoiser import FLOAT32
from ctrak_jax.models.latent_dit import LatentDiTDenoiser
from ctrak_jax.models.mmdit import FluxDenoiser, SD3Denoiser
from ctrak_jax.models.transformers import load_transformer
from tests.wild import dit_xl, flux, sd3

FOLDERS = {
    "sd3_plain": (sd3, SD3Denoiser),
    "flux_schnell": (flux, FluxDenoiser),
    "dit": (dit_xl, LatentDiTDenoiser),
}


def copied(tmp_path, name: str, changes: dict):
    for file in (FOLDERS[name][0]() / name / "transformer").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return tmp_path


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_says_which_network_it_holds(name):
    root, kind = FOLDERS[name]
    assert isinstance(load_transformer(root() / name / "transformer", FLOAT32).network, kind)


def test_the_older_name_of_dit_is_known(tmp_path):
    found = load_transformer(
        copied(tmp_path, "dit", {"_class_name": "Transformer2DModel"}), FLOAT32
    )
    assert isinstance(found.network, LatentDiTDenoiser)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "SanaTransformer2DModel"}, "expected one of SD3Transformer2DModel, Flux"),
        ({"_class_name": None}, "_class_name is None, expected one of"),
        (
            {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_single"},  # PixArt
            "norm_type is 'ada_norm_single', only 'ada_norm_zero' is supported",
        ),
    ],
)
def test_another_kind_is_one_line(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_transformer(copied(tmp_path, "dit", changes), FLOAT32)
    assert "\n" not in str(raised.value)
