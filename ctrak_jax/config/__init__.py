"""Configuration: what can be set (``settings``), and how it is read and written (``file``)."""

from ctrak_jax.config.file import dump, load
from ctrak_jax.config.settings import (
    Config,
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
    sections,
)

__all__ = [
    "Config",
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
