"""The folder format: a data set as a folder of pictures, tables and captions."""

from ctrak_jax.data.folder.reader import read_folder
from ctrak_jax.data.folder.writer import write_folder

__all__ = ["read_folder", "write_folder"]
