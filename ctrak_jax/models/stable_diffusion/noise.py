"""The noise schedule of a pretrained model: ``scheduler/scheduler_config.json``.

Samplers differ in their steps, not in the noise levels a model was trained on; only the levels and
what the network predicts are read here.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.stable_diffusion.config_file import refuse_others
from ctrak_jax.schedule import Prediction, Schedule, from_powers

SCHEDULERS = (
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverSDEScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "SASolverScheduler",
)
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}

FAINTEST = 2.0**-24
"""Signal power that stands for none: a clean image can still be told from the velocity and the
state, in float32. Diffusers' Euler scheduler has the same floor."""
SUPPORTED = "the scheduler of a Stable Diffusion 1.x, 2.x, XL or DiT model"
ONLY = {"timestep_type": "discrete"}
"""``continuous`` timesteps are logarithms of the noise, which these networks are not told."""
NO_SIGNAL = 1e-12
"""Rounding aside."""
LONGEST = 100_000
"""Timesteps."""


class Noise(NamedTuple):
    """The noise levels a network was trained on, and what it predicts."""

    schedule: Schedule
    prediction: Prediction


def read_noise(folder: Path) -> Noise:
    """Read ``folder/scheduler_config.json``."""
    file = folder / "scheduler_config.json"
    return noise_of(read_config(file), file)


def noise_of(config: Mapping[str, Any], file: Path, prediction: Prediction | None = None) -> Noise:
    """The noise of a scheduler's settings; errors name ``file``.

    Args:
        prediction: what the network predicts; ``None``: what the settings say, and the noise where
            they say nothing, as diffusers reads them.
    """
    name = str(config.get("_class_name", "")).removeprefix("Flax")
    if name not in SCHEDULERS:
        raise UsageError(
            f"{file}: scheduler {config.get('_class_name')!r} is not known; use the model's file "
            f"for one of {', '.join(SCHEDULERS)}."
        )
    if config.get("use_flow_sigmas"):
        raise UsageError(
            f"{file}: use_flow_sigmas is true, the noise of a flow model, which is not supported; "
            f"use {SUPPORTED}."
        )
    refuse_others(file, config, ONLY, SUPPORTED)
    found = prediction or _prediction(file, config)
    return Noise(_schedule(file, config, found), found)


def _prediction(file: Path, config: Mapping[str, Any]) -> Prediction:
    if "prediction_type" not in config:
        _say_nothing_is_said(file)
    said = config.get("prediction_type", "epsilon")
    if said not in PREDICTIONS:
        raise UsageError(
            f"{file}: prediction_type {said!r} is not known; expected one of "
            f"{', '.join(PREDICTIONS)}."
        )
    return PREDICTIONS[said]


@cache
def _say_nothing_is_said(file: Path) -> None:
    logger.info(
        "%s has no prediction_type, so the network is taken to predict the noise; where it does "
        "not, set model.prediction",
        file,
    )


def _schedule(file: Path, config: Mapping[str, Any], prediction: Prediction) -> Schedule:
    betas = _betas(file, config)
    if not (betas.ndim == 1 and len(betas) > 1 and ((betas > 0) & (betas <= 1)).all()):
        raise UsageError(
            f"{file}: its betas are not numbers above 0 and at most 1, one per timestep; use the "
            "model's own file."
        )
    levels = np.cumprod(1.0 - betas)
    if config.get("rescale_betas_zero_snr"):
        levels = _rescaled(levels)
    silent = levels < NO_SIGNAL
    if silent.any() and prediction == "eps":
        raise UsageError(
            f"{file}: no signal is left at timestep {int(np.argmax(silent))}, where a network that "
            "predicts the noise says nothing of the image; use the scheduler that the model was "
            "trained with, or set model.prediction: v where it predicts the velocity."
        )
    return from_powers(np.where(silent, FAINTEST, levels))


def _rescaled(levels: np.ndarray) -> np.ndarray:
    """Noise levels of which the last has no signal: their square roots, shifted and scaled so that
    the first stays (Lin et al. 2024)."""
    root = np.sqrt(levels)
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def _betas(file: Path, config: Mapping[str, Any]) -> np.ndarray:
    steps = config.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 1 < steps <= LONGEST:
        raise UsageError(f"{file}: num_train_timesteps is {steps!r}, expected 2 to {LONGEST}.")
    if config.get("trained_betas") is not None:
        try:
            return np.asarray(config["trained_betas"], np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"{file}: trained_betas is no list of numbers.") from None
    kind = config.get("beta_schedule", "linear")
    if kind == "squaredcos_cap_v2":
        return schedules.cosine_betas(steps)
    if kind in ("linear", "scaled_linear"):
        missing = {"beta_start", "beta_end"} - config.keys()
        if missing:  # the classes that read such files do not agree on defaults
            raise UsageError(f"{file} lacks {', '.join(sorted(missing))}; add the model's own.")
        ends = float(config["beta_start"]), float(config["beta_end"])
        power = 2.0 if kind == "scaled_linear" else 1.0
        return np.linspace(ends[0] ** (1 / power), ends[1] ** (1 / power), steps) ** power
    raise UsageError(
        f"{file}: beta_schedule {kind!r} is not known; expected linear, scaled_linear or "
        "squaredcos_cap_v2."
    )
