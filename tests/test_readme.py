"""The Python and the configs of the pages are executed and read as they stand."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import ctrak_jax as ct
from ctrak_jax.config import load

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/reference/data.md",
    "docs/howto/own-images.md",
    "docs/howto/own-captions.md",
    "docs/howto/stable-diffusion.md",
    "docs/howto/abc.md",
)


def eps_fn(params, x, t, cond):
    return jnp.tanh(params["v"] @ x.ravel() + cond @ params["w"]).reshape(x.shape)


def yours() -> dict[str, Any]:
    """What the README takes for granted: a network and twelve images, every other one alike."""
    cond = jnp.eye(2)[jnp.arange(12) % 2]
    weights, images = jax.random.split(jax.random.key(0))
    return {
        "eps_fn": eps_fn,
        "params": {"w": jax.random.normal(weights, (2, 16)), "v": jnp.eye(16)},
        "x0": jax.random.normal(images, (12, 4, 4, 1)),
        "cond": cond,
        "negatives": cond[::-1],
        "null": jnp.zeros(2),
        "minus": cond[1],
    }


@pytest.mark.parametrize("name", ["README.md", "docs/reference/library.md"])
def test_the_functional_example_runs(name: str):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks, "the page has no Python example"
    scope = yours()
    for block in blocks:
        exec(compile(block, name, "exec"), scope)
    ranking = scope["ranking"]
    assert ranking.samples.shape == (1, 10)
    assert ranking.score[0, 0] > 0
    assert (jnp.diff(ranking.score[0]) < 0).all()
    assert ranking.samples.max() < 12


def run_page(name: str) -> dict[str, Any]:
    """What a page's Python leaves behind."""
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL):
        exec(compile(block, name, "exec"), scope)
    return scope


@pytest.mark.slow
def test_a_new_reward_is_asked_of_the_same_features():
    page = run_page("docs/howto/new-reward.md")
    key = jax.random.fold_in(jax.random.key(page["recipe"].seed), 3)
    path = ct.forward_path(page["schedule"], page["x0"][3], page["grid"].recorded, key)
    loss = ct.dps(page["schedule"], page["x0"][3])
    chosen, null = page["weights"].chosen, page["null"]
    gradient = ct.sample_gradient(loss, page["of_chosen"], chosen, path, null, normalise=True)
    flat = ct.flatten_samples(jax.tree.map(lambda leaf: leaf[None], gradient))
    projected = ct.project(flat, page["recipe"].projection)[0]
    assert jnp.allclose(projected, page["phi"][3], atol=1e-4)
    assert page["ranking"].score[0, 0] > 0
    blue = jnp.full((2, 2, 3), -1.0).at[..., 2].set(1.0)
    assert page["color"](blue, "blue") == 2.0
    assert page["color"](blue, "red") == -1.0
    assert page["color"](blue, "green") is None


@pytest.mark.slow
def test_a_new_network_is_asked():
    page = run_page("docs/howto/new-network.md")
    assert page["ranking"].samples.shape == (1, 10)
    assert set(page["weights"].chosen) == {"params/outer/bias", "params/outer/kernel"}
    x, cond = page["x0"][0], page["cond"][0]
    assert page["nnx_eps_fn"](page["state"], x, 500, cond).shape == x.shape
    signal, noise = ct.schedule.level(page["schedule"], 500)
    v = page["eps_fn"](page["params"], x, 500, cond)
    velocity = page["velocity"](page["params"], x, 500, cond)
    assert jnp.allclose(velocity, signal * v + noise * x, atol=1e-5)


@pytest.mark.slow
def test_the_examples_run_and_use_every_public_name():
    page = (ROOT / "docs" / "reference" / "examples.md").read_text()
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "examples.md", "exec"), scope)
    assert set(ct.__all__) == set(re.findall(r"\bct\.(\w+)", page))


@pytest.mark.parametrize("name", PAGES)
def test_the_configs_are_valid(name: str, tmp_path: Path):
    blocks = re.findall(r"(?:^    \w+: [{\[].*\n)+", (ROOT / name).read_text(), re.MULTILINE)
    assert blocks, "the page has no config"
    for block in blocks:
        file = tmp_path / "config.yaml"
        file.write_text(re.sub("^    ", "", block, flags=re.MULTILINE))
        load(file, {})
