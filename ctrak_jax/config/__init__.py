"""Configuration: a file per group of settings with their rules, ``rules`` between them, the whole
in ``settings``, and how it is read and written in ``file``."""

from ctrak_jax.config.customise import CustomiseConfig as CustomiseConfig
from ctrak_jax.config.data import DataConfig as DataConfig
from ctrak_jax.config.file import RENAMED as RENAMED
from ctrak_jax.config.file import RENAMED_VALUES as RENAMED_VALUES
from ctrak_jax.config.file import dump as dump
from ctrak_jax.config.file import load as load
from ctrak_jax.config.model import ModelConfig as ModelConfig
from ctrak_jax.config.model import ScheduleConfig as ScheduleConfig
from ctrak_jax.config.query import QueryConfig as QueryConfig
from ctrak_jax.config.run import MeshConfig as MeshConfig
from ctrak_jax.config.run import RunConfig as RunConfig
from ctrak_jax.config.run import StoreConfig as StoreConfig
from ctrak_jax.config.scoring import CounterfactualConfig as CounterfactualConfig
from ctrak_jax.config.scoring import EvaluateConfig as EvaluateConfig
from ctrak_jax.config.scoring import LdsConfig as LdsConfig
from ctrak_jax.config.scoring import ReportConfig as ReportConfig
from ctrak_jax.config.scoring import ScoreConfig as ScoreConfig
from ctrak_jax.config.scoring import SimilarityConfig as SimilarityConfig
from ctrak_jax.config.scoring import UnlearningConfig as UnlearningConfig
from ctrak_jax.config.settings import Config as Config
from ctrak_jax.config.settings import fields as fields
from ctrak_jax.config.settings import sections as sections
from ctrak_jax.config.training import AutoencoderConfig as AutoencoderConfig
from ctrak_jax.config.training import EncodeConfig as EncodeConfig
from ctrak_jax.config.training import TrainConfig as TrainConfig
from ctrak_jax.config.trajectory import GradientConfig as GradientConfig
from ctrak_jax.config.trajectory import ProjectionConfig as ProjectionConfig
from ctrak_jax.config.trajectory import TrajectoryConfig as TrajectoryConfig
