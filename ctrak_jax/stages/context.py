"""What every stage of one training seed works with."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ctrak_jax import mesh as devices
from ctrak_jax import schedule as schedules
from ctrak_jax import trajectory
from ctrak_jax.config import Config, ScheduleConfig
from ctrak_jax.data import Conditions, Dataset
from ctrak_jax.errors import StoreError
from ctrak_jax.models import SIZES, Denoiser, DiT
from ctrak_jax.models.denoiser import eps_fn_of, layers_fn_of
from ctrak_jax.schedule import Schedule
from ctrak_jax.stages.inputs import Inputs, Pixels
from ctrak_jax.trajectory import Grid
from ctrak_jax.typing import EpsFn, Params


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

    @cached_property
    def network(self) -> DiT:
        model = self.config.model
        size = SIZES[model.size]._asdict()
        chosen = {name: getattr(model, name) or default for name, default in size.items()}
        return DiT(**chosen)

    @cached_property
    def schedule(self) -> Schedule:
        with jax.ensure_compile_time_eval():  # cached: values, also when first asked for in a trace
            return make_schedule(self.config.schedule)

    @cached_property
    def eps_fn(self) -> EpsFn:
        return eps_fn_of(self.network, self.schedule, self.config.schedule.prediction)

    def denoiser(self, params: Params) -> Denoiser:
        """The network with parameters, which a mesh may hold in parts."""
        layers_fn = layers_fn_of(self.network, self.schedule, self.config.schedule.prediction)
        shapes = jax.eval_shape(lambda: params)
        eps_fn, layers_fn = (
            devices.gathering(fn, shapes, self.mesh) for fn in (self.eps_fn, layers_fn)
        )
        return Denoiser(eps_fn, layers_fn, params)

    @cached_property
    def grid(self) -> Grid:
        t = self.config.trajectory
        return trajectory.grid(self.schedule.steps, t.steps, t.record_every)

    @property
    def conditions(self) -> Conditions:
        return self.dataset.conditions

    @cached_property
    def inputs(self) -> Inputs:
        return Pixels(self.dataset, self.config.trajectory)

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


def make_schedule(config: ScheduleConfig) -> Schedule:
    """The noise schedule of a config."""
    if config.kind == "cosine":
        return schedules.cosine(config.steps)
    make = schedules.linear if config.kind == "linear" else schedules.scaled_linear
    return make(steps=config.steps)


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def read_json(path: Path, made_by: str) -> Any:
    """Read a result of another stage.

    Raises:
        StoreError: missing or damaged; names the command that makes it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run `ctrak {made_by}` first.") from None
    except ValueError as error:  # no JSON, or no text
        raise StoreError(
            f"{path} is damaged ({error}); delete it and run `ctrak {made_by}` again."
        ) from None
