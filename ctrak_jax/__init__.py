"""Which training images taught this diffusion model THIS concept?

The functional API: pure functions of one sample, any ``eps_fn(params, x, t, cond)``, batches by
``jax.vmap``. The README shows the whole method in thirty lines of them.
"""

from importlib.metadata import version

from ctrak_jax import fisher, metrics, schedule
from ctrak_jax.gradient import (
    Selection,
    flatten_samples,
    path_gradients,
    sample_gradient,
    select,
    step_gradient,
    unit_or_zero,
)
from ctrak_jax.metrics import precision_at_k
from ctrak_jax.projection import Projection, project
from ctrak_jax.reward import cfg, dps, dsm, l1, l2, mean, reward_loss, reward_x0, reward_xt, slider
from ctrak_jax.schedule import Schedule, as_eps_fn
from ctrak_jax.score import Ranking, error_weights, influence, top_k
from ctrak_jax.trajectory import Grid, Guidance, Path, Sample, forward_path, grid, invert, sample

__version__ = version("ctrak-jax")

__all__ = [
    "Grid",
    "Guidance",
    "Path",
    "Projection",
    "Ranking",
    "Sample",
    "Schedule",
    "Selection",
    "as_eps_fn",
    "cfg",
    "dps",
    "dsm",
    "error_weights",
    "fisher",
    "flatten_samples",
    "forward_path",
    "grid",
    "influence",
    "invert",
    "l1",
    "l2",
    "mean",
    "metrics",
    "path_gradients",
    "precision_at_k",
    "project",
    "reward_loss",
    "reward_x0",
    "reward_xt",
    "sample",
    "sample_gradient",
    "schedule",
    "select",
    "slider",
    "step_gradient",
    "top_k",
    "unit_or_zero",
]
