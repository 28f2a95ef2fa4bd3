"""Configuration: what can be set (``sections``), what a whole config is (``settings``), and how it
is read and written (``file``)."""

from ctrak_jax.config.file import RENAMED, dump, load
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
    "RENAMED",
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
