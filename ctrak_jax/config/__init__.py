"""Configuration: what can be set (``sections``), what a whole config is (``settings``), and how it
is read and written (``file``)."""

from ctrak_jax.config.file import dump, load
from ctrak_jax.config.sections import (
    Counterfactual,
    Data,
    Evaluate,
    Gradient,
    Model,
    ProjectionConfig,
    Query,
    Run,
    ScheduleConfig,
    Score,
    Store,
    Train,
    Trajectory,
    Unlearning,
)
from ctrak_jax.config.settings import Config, sections

__all__ = [
    "Config",
    "Counterfactual",
    "Data",
    "Evaluate",
    "Gradient",
    "Model",
    "ProjectionConfig",
    "Query",
    "Run",
    "ScheduleConfig",
    "Score",
    "Store",
    "Train",
    "Trajectory",
    "Unlearning",
    "dump",
    "load",
    "sections",
]
