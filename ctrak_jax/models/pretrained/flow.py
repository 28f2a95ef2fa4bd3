"""The levels of a rectified flow that a published network was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion.config_file import refuse_others
from ctrak_jax.models.stable_diffusion.noise import Noise
from ctrak_jax.schedule import flux_shift, rectified_flow

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
SUPPORTED = "the scheduler of a Stable Diffusion 3, 3.5 or FLUX.1 model"
ONLY = {"invert_sigmas": False, "shift_terminal": None, "time_shift_type": "exponential"}
"""How steps are sampled may differ; these change what a level is."""
PUBLISHED = 1000
"""Timesteps of published networks, which are told so many of the level 1."""


def flow_of(
    config: Mapping[str, Any], file: Path, tokens: int, *, timesteps: int | None = PUBLISHED
) -> Noise:
    """The levels that a ``scheduler_config.json`` describes; errors name ``file``.

    Args:
        config: its settings.
        file: where they are from.
        tokens: of an image; a dynamic shift depends on them.
        timesteps: the only number of timesteps that is taken; None: any.
    """
    name = config.get("_class_name")
    if name != SCHEDULER:
        raise UsageError(
            f"{file}: scheduler {name!r} is not one of a rectified flow, expected {SCHEDULER}; use "
            f"{SUPPORTED}."
        )
    told = {} if timesteps is None else {"num_train_timesteps": timesteps}
    refuse_others(file, config, {**ONLY, **told}, SUPPORTED)
    steps = config.get("num_train_timesteps", 1000)
    if type(steps) is not int or steps < 2:
        raise UsageError(
            f"{file}: num_train_timesteps is {steps!r}, expected at least 2; use {SUPPORTED}."
        )
    shift = config.get("shift", 1.0)
    if config.get("use_dynamic_shifting"):
        at = (config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096))
        shift = flux_shift(
            tokens, (config.get("base_shift", 0.5), config.get("max_shift", 1.15)), at
        )
    if not isinstance(shift, int | float) or not shift > 0:
        raise UsageError(f"{file}: shift is {shift!r}, expected a number above 0; use {SUPPORTED}.")
    return Noise(rectified_flow(float(shift), steps), "flow")
