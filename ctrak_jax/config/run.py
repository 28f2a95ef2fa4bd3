"""The run as a whole: seeds, devices, and features on disk."""

from pathlib import Path
from typing import Annotated, Literal

from ctrak_jax.config.base import DISTINCT, FILLED, PERFORMANCE, Natural, Section, Seed


class RunConfig(Section):
    """Seeds and devices."""

    seeds: Annotated[tuple[Seed, ...], FILLED, DISTINCT] = (0,)
    """Training seeds; each trains a model, whose features and queries are its own."""
    devices: Annotated[Natural | None, PERFORMANCE] = None
    """Local devices to use; empty for all."""
    precision: Literal["default", "high", "highest"] = "default"
    """How exactly a TPU or GPU multiplies the network's float32 numbers: at the device's own
    precision where that is close enough, float32 where small differences count, or float32
    throughout (docs/reference/precision.md). On a CPU it changes nothing. Training is not
    affected."""
    compilation_cache: Annotated[Literal["auto", "none"] | Path, PERFORMANCE] = "auto"
    """Where compiled programs are kept for the next command: in the user's cache folder, nowhere,
    or in a folder of this name."""


class MeshConfig(Section):
    """How the devices of a process are laid out."""

    model: Annotated[Natural, PERFORMANCE] = 1
    """Devices that share one copy of the parameters, for networks that do not fit on one; samples
    are split over all devices either way."""


class StoreConfig(Section):
    """Features on disk."""

    chunk: Annotated[Natural, PERFORMANCE] = 64
    """Rows written at a time; a killed run computes at most these again."""
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    """Number format of stored features; int8 with one scale per row."""
    url: Annotated[str | None, PERFORMANCE] = None
    """Where the features of training images go instead of DIR/features: any URL that tensorstore
    opens, such as gs://bucket/folder or s3://bucket/folder."""
