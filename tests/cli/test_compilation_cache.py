"""Compiled programs are kept for the next command, and never stand in its way."""

import os
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from ctrak_jax.cli import compilation_cache
from tests.cli.small import write_config
from tests.command import command, environment

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def settings(monkeypatch) -> Iterator[None]:
    """JAX's settings as they were, after a test that changes them."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def folder() -> str:
    return getattr(jax.config, OPTIONS[0]) or ""


def test_auto_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compilation_cache.switch_on("auto")
    assert Path(folder()).parent == tmp_path / "cache" / "ctrak-jax"
    assert Path(folder()).stat().st_mode & 0o777 == 0o700, "programs are run: no one else's"


def test_a_folder_is_named_by_the_setting(tmp_path):
    compilation_cache.switch_on(tmp_path / "mine")
    assert Path(folder()).parent == tmp_path / "mine"


def test_the_folder_is_said_before_it_is_there(monkeypatch, tmp_path):
    named = compilation_cache.folder_of(tmp_path / "mine")
    assert named is not None
    assert not named.exists()
    compilation_cache.switch_on(tmp_path / "mine")
    assert folder() == str(named)
    assert compilation_cache.folder_of("none") is None
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    assert compilation_cache.folder_of("auto") == tmp_path / "jax"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", missing)
    assert compilation_cache.folder_of("auto") is None


def test_jax_s_own_variable_wins_over_auto(monkeypatch, tmp_path):
    before = folder()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compilation_cache.switch_on("auto")
    assert folder() == before
    assert not (tmp_path / "cache").exists()


def test_none_keeps_nothing():
    compilation_cache.switch_on("none")
    assert not getattr(jax.config, OPTIONS[1])


@pytest.mark.parametrize("home", ["a file", "missing"])
def test_without_a_folder_to_write_to_nothing_is_kept(monkeypatch, tmp_path, home):
    before = folder()
    if home == "a file":
        (tmp_path / "cache").write_text("in the way")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", missing)
    compilation_cache.switch_on("auto")
    assert folder() == before


def missing() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_another_cpu_or_number_of_cores_is_another_folder(monkeypatch):
    here = compilation_cache._machine()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(1000), raising=False)
    assert compilation_cache._machine() != here


def test_a_second_run_compiles_nothing_and_gives_the_same_parameters(tmp_path):
    """One entry that a kill left unfinished is compiled and written again."""
    cache = tmp_path / "cache"
    env = environment() | {"XDG_CACHE_HOME": str(cache)}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    config = write_config(tmp_path)

    def train(out: str) -> dict[Path, bytes]:
        words = command("train", config, "--out", tmp_path / out)
        done = subprocess.run(words, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert "machine" not in done.stderr, "of another machine's instructions"
        return {file: file.read_bytes() for file in cache.rglob("*-cache")}

    first = train("first")
    assert first
    largest = max(first, key=lambda file: len(first[file]))
    largest.write_bytes(first[largest][:100])
    second = train("second")
    assert set(second) == set(first)
    assert len(second[largest]) > 100
    assert all(second[file] == first[file] for file in first if file != largest)
    models = [(tmp_path / out / "model" / "model.json").read_text() for out in ("first", "second")]
    assert models[0] == models[1]
