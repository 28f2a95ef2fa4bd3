"""Compiled programs kept on disk for a while: what is compiled again and again, once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def options(folder: Path) -> dict[str, str | float]:
    """JAX's settings that keep every program in ``folder``; in capitals, environment variables."""
    return {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }


@contextmanager
def programs_kept(folder: Path) -> Iterator[None]:
    """Inside, every program is compiled once and kept in ``folder``."""
    wanted = options(folder)
    before = {name: getattr(jax.config, name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
