"""Which training images taught this diffusion model THIS concept?

The functional API: pure functions of one sample, any ``eps_fn(params, x, t, cond)``, batches by
``jax.vmap``. A name is loaded with its module when it is first used (PEP 562): ``import ctrak_jax``
alone loads no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrak_jax import fisher as fisher
    from ctrak_jax import metrics as metrics
    from ctrak_jax import schedule as schedule
    from ctrak_jax.gradient import Selection as Selection
    from ctrak_jax.gradient import flatten_samples as flatten_samples
    from ctrak_jax.gradient import path_gradients as path_gradients
    from ctrak_jax.gradient import sample_gradient as sample_gradient
    from ctrak_jax.gradient import select as select
    from ctrak_jax.gradient import step_gradient as step_gradient
    from ctrak_jax.gradient import unit_or_zero as unit_or_zero
    from ctrak_jax.metrics import precision_at_k as precision_at_k
    from ctrak_jax.projection import Projection as Projection
    from ctrak_jax.projection import project as project
    from ctrak_jax.reward import cfg as cfg
    from ctrak_jax.reward import dps as dps
    from ctrak_jax.reward import dsm as dsm
    from ctrak_jax.reward import l1 as l1
    from ctrak_jax.reward import l2 as l2
    from ctrak_jax.reward import mean as mean
    from ctrak_jax.reward import reward_loss as reward_loss
    from ctrak_jax.reward import reward_x0 as reward_x0
    from ctrak_jax.reward import reward_xt as reward_xt
    from ctrak_jax.reward import slider as slider
    from ctrak_jax.schedule import Schedule as Schedule
    from ctrak_jax.schedule import as_eps_fn as as_eps_fn
    from ctrak_jax.score import Ranking as Ranking
    from ctrak_jax.score import error_weights as error_weights
    from ctrak_jax.score import influence as influence
    from ctrak_jax.score import top_k as top_k
    from ctrak_jax.trajectory import Grid as Grid
    from ctrak_jax.trajectory import Guidance as Guidance
    from ctrak_jax.trajectory import Path as Path
    from ctrak_jax.trajectory import Sample as Sample
    from ctrak_jax.trajectory import forward_path as forward_path
    from ctrak_jax.trajectory import grid as grid
    from ctrak_jax.trajectory import invert as invert
    from ctrak_jax.trajectory import sample as sample

    __version__: str

_MODULES = {
    "fisher": "fisher",
    "metrics": "metrics",
    "schedule": "schedule",
    "Selection": "gradient",
    "flatten_samples": "gradient",
    "path_gradients": "gradient",
    "sample_gradient": "gradient",
    "select": "gradient",
    "step_gradient": "gradient",
    "unit_or_zero": "gradient",
    "precision_at_k": "metrics",
    "Projection": "projection",
    "project": "projection",
    "cfg": "reward",
    "dps": "reward",
    "dsm": "reward",
    "l1": "reward",
    "l2": "reward",
    "mean": "reward",
    "reward_loss": "reward",
    "reward_x0": "reward",
    "reward_xt": "reward",
    "slider": "reward",
    "Schedule": "schedule",
    "as_eps_fn": "schedule",
    "Ranking": "score",
    "error_weights": "score",
    "influence": "score",
    "top_k": "score",
    "Grid": "trajectory",
    "Guidance": "trajectory",
    "Path": "trajectory",
    "Sample": "trajectory",
    "forward_path": "trajectory",
    "grid": "trajectory",
    "invert": "trajectory",
    "sample": "trajectory",
}
"""Public name -> its module, itself where the name is a module's. The imports above say the same to
type checkers."""

__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("ctrak-jax")
    elif name in _MODULES:
        home = _MODULES[name]
        module = importlib.import_module(f"{__name__}.{home}")
        value = module if name == home else getattr(module, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *_MODULES})
