"""A training that is killed, in a process of its own."""

import json
import subprocess
import time

import pytest

from tests.command import command, environment
from tests.test_pipeline import CONFIG


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_model_and_refuses_other_settings(tmp_path):
    """SIGKILL once a checkpoint is there; then another rate is refused, and the same settings end
    in the parameters of a run that nobody disturbed."""
    (tmp_path / "small.yaml").write_text(CONFIG)

    def train(name: str, *more: str) -> list[str]:
        length = ("--train.steps", "400", *more)
        return command("train", tmp_path / "small.yaml", "--out", tmp_path / name, *length)

    process = subprocess.Popen(train("killed"), env=environment(), stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "killed" / "training"
    while process.poll() is None:
        if any(path.name.isdigit() for path in checkpoints.glob("*")):
            process.kill()
            break
        time.sleep(0.001)
    process.wait()
    assert not (tmp_path / "killed" / "model" / "model.json").exists()

    def run_to_end(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, env=environment(), capture_output=True, text=True)

    other = run_to_end(train("killed", "--train.learning_rate", "1e-3"))
    assert other.returncode == 1
    assert "(train.learning_rate differ)" in other.stderr
    for name in ("killed", "whole"):
        done = run_to_end(train(name))
        assert done.returncode == 0, done.stderr
        assert ("training resumes from step" in done.stderr) == (name == "killed")
    models = [tmp_path / name / "model" / "model.json" for name in ("killed", "whole")]
    one, two = (json.loads(path.read_text())["sha256"] for path in models)
    assert one == two
