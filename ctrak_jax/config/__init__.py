"""Configuration: a file per group of settings with their rules, ``rules`` between them, the whole
in ``settings``, and how it is read and written in ``file``."""

from ctrak_jax.config.data import DataConfig
from ctrak_jax.config.file import RENAMED, dump, load
from ctrak_jax.config.model import ModelConfig, ScheduleConfig
from ctrak_jax.config.query import QueryConfig
from ctrak_jax.config.run import MeshConfig, RunConfig, StoreConfig
from ctrak_jax.config.scoring import (
    CounterfactualConfig,
    EvaluateConfig,
    ScoreConfig,
    UnlearningConfig,
)
from ctrak_jax.config.settings import Config, fields, sections
from ctrak_jax.config.training import AutoencoderConfig, EncodeConfig, TrainConfig
from ctrak_jax.config.trajectory import GradientConfig, ProjectionConfig, TrajectoryConfig

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
    "fields",
    "load",
    "sections",
]
