"""What every stage of one training seed works with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import devices, trajectory
from ctrak_jax import schedule as schedules
from ctrak_jax.config import Config, ModelConfig, ScheduleConfig
from ctrak_jax.data import Conditions, Dataset
from ctrak_jax.inputs.arrays import brought
from ctrak_jax.inputs.base import Inputs, Pixels, Shapes
from ctrak_jax.inputs.encoder import Coder
from ctrak_jax.inputs.latents import Latents
from ctrak_jax.models import SIZES, Denoiser, DiT
from ctrak_jax.models.denoiser import denoiser_of
from ctrak_jax.models.stable_diffusion import (
    Compute,
    Noise,
    UNet,
    denoiser_for,
    read_config,
    read_noise,
    text_length,
    unet_of,
)
from ctrak_jax.models.stable_diffusion.small import Size, unet_config
from ctrak_jax.schedule import Schedule
from ctrak_jax.store.files import digest, write_atomically
from ctrak_jax.trajectory import Grid
from ctrak_jax.typing import Params


@dataclass(frozen=True, kw_only=True)
class Context:
    """One training seed of a run.

    Attributes:
        root: the folder of this seed's results. place: its name below DIR where there are several.
        training_set: what the model is trained on. dataset: the part of it that is attributed
            over (all of it unless ``data.candidates`` says otherwise). mesh: the devices in use.
    """

    config: Config
    root: Path
    seed: int
    place: str = ""
    training_set: Dataset
    dataset: Dataset
    mesh: Mesh

    @property
    def model_folder(self) -> Path:
        """Where a text-to-image model is: the folder given, or the one that training leaves."""
        return self.config.model.checkpoint or self.root / "model"

    @property
    def compute(self) -> Compute:
        """How a text-to-image network computes."""
        model = self.config.model
        return Compute(model.dtype, model.remat, model.efficient_attention)

    @cached_property
    def network(self) -> DiT | UNet:
        model = self.config.model
        if model.kind == "dit":
            return dit_of(model)
        file = self.model_folder / "unet" / "config.json"
        config = unet_config(self.small) if model.checkpoint is None else read_config(file)
        return unet_of(config, file, self.compute)

    @property
    def small(self) -> Size:
        """The parts of a text-to-image model that is trained here."""
        return Size(image=self.training_set.image_shape[0])

    @cached_property
    def noise(self) -> Noise:
        """The noise schedule, and what the network predicts."""
        with jax.ensure_compile_time_eval():  # cached: values, also when first asked for in a trace
            if self.config.model.kind == "text-to-image" and self.config.model.checkpoint:
                return read_noise(self.model_folder / "scheduler")
            config = self.config.schedule
            return Noise(make_schedule(config), config.prediction)

    @property
    def schedule(self) -> Schedule:
        return self.noise.schedule

    def denoiser(self, params: Params) -> Denoiser:
        """The network with parameters, which a mesh may hold in parts."""
        if isinstance(self.network, UNet):
            whole = denoiser_for(self.network, params, self.noise, self.compute)
        else:
            whole = denoiser_of(self.network, params, *self.noise, remat=False)
        shapes = jax.eval_shape(lambda: params)
        gathered = {
            name: devices.gathering(getattr(whole, name), shapes, self.mesh)
            for name in ("eps_fn", "layers_fn", "exact_fn")
        }
        return whole._replace(**gathered)

    @cached_property
    def grid(self) -> Grid:
        t = self.config.trajectory
        return trajectory.grid(self.schedule.steps, t.steps, t.record_every, t.timesteps)

    @property
    def conditions(self) -> Conditions:
        return self.dataset.conditions

    @cached_property
    def shapes(self) -> Shapes:
        """What the network takes: of a text-to-image network whatever the data set."""
        if isinstance(self.network, UNet):
            given = self.config.model.checkpoint
            tokens = self.small.tokens if given is None else text_length(given)
            return Shapes(self.network.latent_shape, (tokens, self.network.text_width))
        return Shapes(self.dataset.image_shape, (self.conditions.size,))

    @property
    def opponents(self) -> int:
        """Conditions a sample is guided against: for a text-to-image network as many as the config
        asks for, which holds for every data set that has so many."""
        if isinstance(self.network, UNet):
            return self.config.negatives
        rows = np.arange(len(self.dataset.train_index))
        return self.inputs.against(rows[:1], rows).shape[1]

    @cached_property
    def inputs(self) -> Inputs:
        if not isinstance(self.network, UNet):
            return Pixels(self.dataset, self.config.trajectory)
        path = self.config.data.path
        return Latents(
            self.dataset,
            self.config.trajectory,
            Coder(self.model_folder, self.mesh, self.config.gradient.batch),
            path if path is not None and brought(path) else self.root / "encoded",
            self.shapes,
        )

    def fresh(self, stage: str, inputs: Mapping[str, Any], *outputs: Path) -> bool:
        """Has ``stage`` been finished from the same inputs, with its outputs still there?"""
        stamp = self._stamp(stage)
        return (
            stamp.exists()
            and all(output.exists() for output in outputs)
            and json.loads(stamp.read_text()) == {"inputs": digest(inputs)}
        )

    def finish(self, stage: str, inputs: Mapping[str, Any]) -> None:
        """Record that ``stage`` is finished."""
        write_atomically(self._stamp(stage), json.dumps({"inputs": digest(inputs)}))

    def _stamp(self, stage: str) -> Path:
        return self.root / ".stages" / f"{stage}.json"


def dit_of(model: ModelConfig) -> DiT:
    """The diffusion transformer of a config."""
    size = SIZES[model.size]._asdict()
    return DiT(**{name: getattr(model, name) or default for name, default in size.items()})


def make_schedule(config: ScheduleConfig) -> Schedule:
    """The noise schedule of a config."""
    if config.kind == "cosine":
        return schedules.cosine(config.steps)
    make = schedules.linear if config.kind == "linear" else schedules.scaled_linear
    return make(steps=config.steps)
