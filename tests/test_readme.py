"""The Python and the configs of the pages are executed and read as they stand."""

import re
from pathlib import Path

import pytest

from ctrak_jax.config import load

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/library.md", "docs/data.md", "docs/stable-diffusion.md", "docs/abc.md")


@pytest.mark.parametrize("name", ["README.md", "docs/library.md"])
def test_the_functional_example_runs(name: str):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks, "the page has no Python example"
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), scope)
    ranking = scope["ranking"]
    assert ranking.samples.shape == (1, 10)  # type: ignore[attr-defined]
    assert int(ranking.samples.max()) < len(scope["cond"])  # type: ignore[attr-defined,arg-type]


@pytest.mark.parametrize("name", PAGES)
def test_the_configs_are_valid(name: str, tmp_path: Path):
    blocks = re.findall(r"(?:^    \w+: [{\[].*\n)+", (ROOT / name).read_text(), re.MULTILINE)
    assert blocks, "the page has no config"
    for block in blocks:
        file = tmp_path / "config.yaml"
        file.write_text(re.sub("^    ", "", block, flags=re.MULTILINE))
        load(file, {})
