"""What featurizing a training set would take on TPUs, without one: ``ctrak plan``.

:mod:`ctrak_jax.plan.topology` makes the plan; it is loaded when it is first used, so that programs
can be read (:mod:`ctrak_jax.plan.hlo`) where less is installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrak_jax.plan.topology import report as report
    from ctrak_jax.plan.topology import run as run

__all__ = ["report", "run"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.topology"), name)
