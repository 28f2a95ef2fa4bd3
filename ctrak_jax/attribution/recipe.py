"""What a featurization is made by: values alone, no config, no file, no device."""

from dataclasses import dataclass
from typing import Literal

from ctrak_jax.projection import Projection
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import Grid, Guidance
from ctrak_jax.typing import Cond


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How training samples become features.

    Attributes:
        schedule: the noise levels.
        grid: the timesteps of a trajectory and which of its states are recorded.
        projection: what makes a feature of a gradient.
        guidance: scale of the inversions' guidance against the negatives; 1 for none.
        time_chunk: timesteps side by side, a divisor of their number; None for all. It changes
            memory and speed alone.
        seed: of the forward noise, one draw per (sample, timestep).
    """

    schedule: Schedule
    grid: Grid
    projection: Projection
    guidance: float = 1.0
    time_chunk: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class QueryRecipe:
    """How questions become features.

    Attributes:
        schedule: the noise levels.
        grid: the timesteps of a trajectory and which of its states are recorded.
        projection: that of the training samples.
        scope: local, states of one image; global, the model's own sampling trajectories.
        path: where the local states on an ``inversion`` path come from, the image's inversion, or
            sampling it again from the noise that it was generated from.
        timesteps: gradients are summed over all, or taken at one of a member's, drawn at random.
        members: what a feature is the mean of: inversions of the image, or trajectories.
        guidance: scale, against the null condition, of the inversions or of the sampling.
        eta: share of fresh noise in the inversions.
        scale: of the slider's target shift.
        time_chunk: as in :class:`Recipe`.
        seed: of the members' noise.
    """

    schedule: Schedule
    grid: Grid
    projection: Projection
    scope: Literal["local", "global"] = "local"
    path: Literal["inversion", "resample"] = "inversion"
    timesteps: Literal["all", "one"] = "all"
    members: int = 1
    guidance: float = 1.0
    eta: float = 0.0
    scale: float = 1.0
    time_chunk: int | None = None
    seed: int = 0


def guidance_of(scale: float, negative: Cond) -> Guidance | None:
    """Guidance of scale 1 is no guidance, at half the price."""
    return None if scale == 1.0 else Guidance(scale, negative)
