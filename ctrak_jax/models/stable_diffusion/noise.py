"""The noise schedule of a pretrained model: ``scheduler/scheduler_config.json``.

Samplers differ in their steps, not in the noise levels a model was trained on; only the levels and
what the network predicts are read here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax import schedule as schedules
from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion.config_file import read_config
from ctrak_jax.schedule import Prediction, Schedule

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


class Noise(NamedTuple):
    """The noise levels a network was trained on, and what it predicts."""

    schedule: Schedule
    prediction: Prediction


def read_noise(folder: Path) -> Noise:
    """Read ``folder/scheduler_config.json``. Betas rescaled to zero terminal signal are refused: an
    inversion would have no last step."""
    file = folder / "scheduler_config.json"
    config = read_config(file)
    name = str(config.get("_class_name", "")).removeprefix("Flax")
    if name not in SCHEDULERS:
        raise UsageError(
            f"{file}: scheduler {config.get('_class_name')!r} is not known; use the model's file "
            f"for one of {', '.join(SCHEDULERS)}."
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise UsageError(
            f"{file}: prediction_type {prediction!r} is not known; expected one of "
            f"{', '.join(PREDICTIONS)}."
        )
    if config.get("rescale_betas_zero_snr"):
        raise UsageError(
            f"{file}: rescale_betas_zero_snr is true, which leaves no signal at the last timestep "
            "and is not supported; use a model trained without it."
        )
    return Noise(_schedule(file, config), PREDICTIONS[prediction])


def _schedule(file: Path, config: Mapping[str, Any]) -> Schedule:
    if config.get("trained_betas") is not None:
        return schedules.from_betas(np.asarray(config["trained_betas"], np.float64))
    kind = config.get("beta_schedule", "linear")
    steps = config.get("num_train_timesteps", 1000)
    makers = {"linear": schedules.linear, "scaled_linear": schedules.scaled_linear}
    if kind == "squaredcos_cap_v2":
        return schedules.cosine(steps)
    if kind in makers:
        missing = {"beta_start", "beta_end"} - config.keys()
        if missing:  # the classes that read such files do not agree on defaults
            raise UsageError(f"{file} lacks {', '.join(sorted(missing))}; add the model's own.")
        return makers[kind](config["beta_start"], config["beta_end"], steps)
    raise UsageError(
        f"{file}: beta_schedule {kind!r} is not known; expected linear, scaled_linear or "
        "squaredcos_cap_v2."
    )
