"""Where ``ctrak tune`` leaves its results, and what it says."""

from pathlib import Path

import pytest

from ctrak_jax import cli, pipeline
from tests.cli.small import write_config


@pytest.mark.parametrize(
    ("more", "expected"),
    [((), "runs/some-lora"), (("--out", "here"), "here")],
)
def test_a_lora_has_a_folder_of_its_own(tmp_path, monkeypatch, capsys, more, expected):
    """The folder of CONFIG is that of the run with the LoRA."""
    outs: list[Path] = []

    def run_tune(_config: object, out: Path) -> list[Path]:
        outs.append(out)
        return [out / "pytorch_lora_weights.safetensors"]

    monkeypatch.setattr(pipeline, "run_tune", run_tune)
    config = write_config(tmp_path)
    assert cli.main(["tune", str(config), *more]) == 0
    assert outs == [Path(expected)]
    file = outs[0] / "pytorch_lora_weights.safetensors"
    assert capsys.readouterr().out.splitlines() == [
        str(file),
        f"which images taught it: ctrak run {config} --model.lora {file}",
    ]
