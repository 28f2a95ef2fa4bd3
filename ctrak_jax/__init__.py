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
    from ctrak_jax.attribution import Network as Network
    from ctrak_jax.attribution import Parts as Parts
    from ctrak_jax.attribution import QueryBatch as QueryBatch
    from ctrak_jax.attribution import QueryRecipe as QueryRecipe
    from ctrak_jax.attribution import Recipe as Recipe
    from ctrak_jax.attribution import TrainBatch as TrainBatch
    from ctrak_jax.attribution import Weights as Weights
    from ctrak_jax.attribution import differentiable as differentiable
    from ctrak_jax.attribution import influence_map as influence_map
    from ctrak_jax.attribution import mixtures as mixtures
    from ctrak_jax.attribution import query_features as query_features
    from ctrak_jax.attribution import query_parts as query_parts
    from ctrak_jax.attribution import train_features as train_features
    from ctrak_jax.attribution import train_parts as train_parts
    from ctrak_jax.gradient import Selection as Selection
    from ctrak_jax.gradient import flatten_samples as flatten_samples
    from ctrak_jax.gradient import path_gradients as path_gradients
    from ctrak_jax.gradient import sample_gradient as sample_gradient
    from ctrak_jax.gradient import select as select
    from ctrak_jax.gradient import step_gradient as step_gradient
    from ctrak_jax.gradient import unit_or_zero as unit_or_zero
    from ctrak_jax.methods import METHODS as METHODS
    from ctrak_jax.methods import GradientSpec as GradientSpec
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
    from ctrak_jax.run.reader import open_run as open_run
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

_NAMES = {
    "attribution": (
        "Network Parts QueryBatch QueryRecipe Recipe TrainBatch Weights differentiable "
        "influence_map mixtures query_features query_parts train_features train_parts"
    ),
    "gradient": (
        "Selection flatten_samples path_gradients sample_gradient select step_gradient unit_or_zero"
    ),
    "methods": "METHODS GradientSpec",
    "metrics": "precision_at_k",
    "projection": "Projection project",
    "reward": "cfg dps dsm l1 l2 mean reward_loss reward_x0 reward_xt slider",
    "run.reader": "open_run",
    "schedule": "Schedule as_eps_fn",
    "score": "Ranking error_weights influence top_k",
    "trajectory": "Grid Guidance Path Sample forward_path grid invert sample",
}
"""Module -> its public names. The imports above say the same to type checkers."""
_MODULES = {n: module for module, names in _NAMES.items() for n in names.split()}
_MODULES |= {module: module for module in ("fisher", "metrics", "schedule")}

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
