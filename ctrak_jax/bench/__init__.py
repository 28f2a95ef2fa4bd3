"""Throughput of the hot parts on this machine: ``ctrak bench``.

What the benches need is loaded with the first name that is used, so that
:mod:`ctrak_jax.bench.accelerator` runs where less is installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrak_jax.bench.benches import BENCHES as BENCHES
    from ctrak_jax.bench.benches import Sizes as Sizes
    from ctrak_jax.bench.benches import run as run
    from ctrak_jax.bench.show import table as table
    from ctrak_jax.bench.show import write as write

_HOMES = {"BENCHES": "benches", "Sizes": "benches", "run": "benches"}
_HOMES |= {"table": "show", "write": "show"}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
