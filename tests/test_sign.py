"""A gradient step on the top-ranked training images makes the concept more present."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import ctrak

CONFIG = """
name: Sign
data: {size: 320, hold_out: [{shape: triangle, color: red}]}
model: {width: 32, depth: 2, heads: 2}
train: {steps: 500, batch: 64}
trajectory: {steps: 20, record_every: 4}
projection: {k: 1024}
query: {scopes: [local], per_combination: 4, validation: 1, repetitions: 2, check: none}
methods: [concept-trak]
controls: []
unnamed: {attributes: []}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run on a network trained for some seconds."""
    folder = tmp_path_factory.mktemp("sign")
    (folder / "sign.yaml").write_text(CONFIG)
    done = ctrak("run", folder / "sign.yaml", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.slow
def test_top_ranked_raise_the_concept_reward_more_than_random_and_those_more_than_bottom(run):
    """Mean over 32 questions of the change after one small step, measured on the network itself."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sign_test", str(run)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    mean = {k: float(v) for k, v in re.findall(r"^(\w+)\s+(\S+) \+-", done.stdout, re.MULTILINE)}
    assert mean["top"] > mean["random"] > mean["bottom"], done.stdout
