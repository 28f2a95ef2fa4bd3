"""What commands print and write, and how little their help loads."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from ctrak_jax import bench, cli
from ctrak_jax.cli.bench import BENCHES
from ctrak_jax.config import Config, load
from ctrak_jax.data import build
from tests.cli.small import write_config


def test_config_prints_what_reads_back(capsys, tmp_path):
    path = write_config(tmp_path)
    hold_out = "[{shape: triangle, color: red}]"
    assert cli.main(["config", str(path), "--data.hold_out", hold_out, "--train.steps=9"]) == 0
    (tmp_path / "resolved.yaml").write_text(capsys.readouterr().out)
    resolved = load(tmp_path / "resolved.yaml")
    assert resolved == load(path, {"data.hold_out": hold_out, "train.steps": "9"})
    assert resolved.data.hold_out == ({"shape": "triangle", "color": "red"},)


def test_data_writes_a_folder_that_reads_as_the_config_s(capsys, tmp_path):
    assert cli.main(["data", str(write_config(tmp_path)), "--out", str(tmp_path / "set")]) == 0
    data = load(write_config(tmp_path)).data
    np.testing.assert_array_equal(np.load(tmp_path / "set" / "images.npy"), build(data).raw.images)


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "usage: ctrak" in out
    if command in (["run"], ["config"]):
        assert all(f"--{s}." in out for s in ("data", "train", "score"))
        assert "--trajectory.record_every" in out
        assert str(Config().trajectory.record_every) in out


HEAVY = {"grain", "jax", "matplotlib", "numpy", "orbax", "scipy", "tensorstore"}


def loaded(code: str) -> set[str]:
    """The packages that a Python process has loaded after some lines."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_bench_names_what_there_is():
    assert tuple(bench.BENCHES) == BENCHES


HELP = """
from ctrak_jax import cli
for words in {words}:
    try:
        cli.main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""


def test_help_loads_no_more_than_it_says():
    assert not loaded(HELP.format(words=[[]])) & (HEAVY | {"pydantic", "rich", "yaml"})


def test_the_version_is_that_of_the_installed_package(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"ctrak {metadata.version('ctrak-jax')}\n"


def test_the_help_of_a_command_loads_no_jax():
    found = loaded(HELP.format(words=[name.split() for name in cli.COMMANDS]))
    assert not found & HEAVY
    assert "pydantic" in found, "loaded() sees what is loaded"


def test_a_bad_config_is_told_before_jax_is_loaded(tmp_path):
    path = str(tmp_path / "none.yaml")
    assert not loaded(f"from ctrak_jax import cli; assert cli.main(['run', {path!r}]) == 2") & HEAVY


def test_printing_a_config_loads_no_jax(tmp_path):
    path = str(write_config(tmp_path))
    assert (
        not loaded(f"from ctrak_jax import cli; assert not cli.main(['config', {path!r}])") & HEAVY
    )


def test_the_package_alone_loads_no_jax():
    assert not loaded("import ctrak_jax") & HEAVY
    assert "jax" in loaded("import ctrak_jax; ctrak_jax.slider")
