"""The README's thirty lines are executed as they stand, its configs are read."""

import re
from pathlib import Path

from ctrak_jax.config import load

README = Path(__file__).parents[1] / "README.md"


def test_the_functional_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks, "the README has no Python example"
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)
    ranking, n = scope["ranking"], scope["n"]
    assert ranking.samples.shape == (1, 10)  # type: ignore[attr-defined]
    assert int(ranking.samples.max()) < n  # type: ignore[attr-defined,operator]


def test_the_configs_are_valid(tmp_path):
    blocks = re.findall(r"(?:^    \w+: [{\[].*\n)+", README.read_text(), re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        file = tmp_path / "config.yaml"
        file.write_text(re.sub("^    ", "", block, flags=re.MULTILINE))
        load(file, {})
