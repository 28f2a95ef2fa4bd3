"""Per-sample parameter gradients, normalised at every timestep and summed over a path."""

from ctrak_jax.gradient.layers import Layers, assemble, path_gradients, project_layers
from ctrak_jax.gradient.plain import (
    flatten_samples,
    global_norm,
    sample_gradient,
    step_gradient,
    unit_or_zero,
)
from ctrak_jax.gradient.select import Selection, expanded, parameter_paths, select

__all__ = [
    "Layers",
    "Selection",
    "assemble",
    "expanded",
    "flatten_samples",
    "global_norm",
    "parameter_paths",
    "path_gradients",
    "project_layers",
    "sample_gradient",
    "select",
    "step_gradient",
    "unit_or_zero",
]
