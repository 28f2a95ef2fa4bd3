"""Configuration: what can be set (``sections``), what a whole config is (``settings``), and how it
is read and written (``file``)."""

from ctrak_jax.config.file import dump, load
from ctrak_jax.config.sections import (
    AutoencoderConfig,
    CounterfactualConfig,
    DataConfig,
    EncodeConfig,
    EvaluateConfig,
    GradientConfig,
    MeshConfig,
    ModelConfig,
    ProjectionConfig,
    QueryConfig,
    RunConfig,
    ScheduleConfig,
    ScoreConfig,
    StoreConfig,
    TrainConfig,
    TrajectoryConfig,
    UnlearningConfig,
)
from ctrak_jax.config.settings import Config, sections

__all__ = [
    "AutoencoderConfig",
    "Config",
    "CounterfactualConfig",
    "DataConfig",
    "EncodeConfig",
    "EvaluateConfig",
    "GradientConfig",
    "MeshConfig",
    "ModelConfig",
    "ProjectionConfig",
    "QueryConfig",
    "RunConfig",
    "ScheduleConfig",
    "ScoreConfig",
    "StoreConfig",
    "TrainConfig",
    "TrajectoryConfig",
    "UnlearningConfig",
    "dump",
    "load",
    "sections",
]
