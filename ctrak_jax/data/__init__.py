"""Data sets: drawn or read, one form for every stage."""

from ctrak_jax.data.avatars import draw_avatars
from ctrak_jax.data.conditions import Conditions, negatives, other_indices
from ctrak_jax.data.dataset import Dataset, build
from ctrak_jax.data.folder import read_folder, write_folder
from ctrak_jax.data.loader import ShuffledRows, TrainingBatches, read_ahead
from ctrak_jax.data.synthetic import COLORS, SHAPES, draw_dataset

__all__ = [
    "COLORS",
    "SHAPES",
    "Conditions",
    "Dataset",
    "ShuffledRows",
    "TrainingBatches",
    "build",
    "draw_avatars",
    "draw_dataset",
    "negatives",
    "other_indices",
    "read_ahead",
    "read_folder",
    "write_folder",
]
