"""The network, and the noise it was trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ctrak_jax.config.base import PERFORMANCE, Natural, Section


class ModelConfig(Section):
    """The network."""

    kind: Literal["dit", "text-to-image"] = "dit"
    """A class-conditional diffusion transformer of images, or Stable Diffusion."""
    size: Literal["tiny", "paper"] = "tiny"
    """Named size of the diffusion transformer."""
    width: int | None = Field(default=None, ge=8)
    """Channels per token; overrides the size's."""
    depth: Natural | None = None
    """Blocks; overrides the size's."""
    heads: Natural | None = None
    """Attention heads; overrides the size's."""
    patch: Natural | None = None
    """Side of a patch in pixels; overrides the size's."""
    checkpoint: Path | None = None
    """Used instead of training: a published checkpoint (safetensors; dit), or the folder of a
    Stable Diffusion 1.x or 2.x model in diffusers' format (text-to-image)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format the network computes in (text-to-image); parameters, gradients and guidance
    stay float32."""
    remat: Annotated[bool, PERFORMANCE] = False
    """Keep only the blocks' outputs for the backward pass: less memory, more work
    (text-to-image)."""
    efficient_attention: Annotated[bool, PERFORMANCE] = False
    """Attention over chunks of its queries: less memory (text-to-image)."""

    def problems(self) -> Iterator[str]:
        settings = (self.dtype, self.remat, self.efficient_attention)
        if self.kind == "dit" and settings != ("float32", False, False):
            yield (
                "model.dtype, model.remat and model.efficient_attention are of a text-to-image "
                "network; leave them out for model.kind=dit"
            )


class ScheduleConfig(Section):
    """The noise schedule and what the network predicts."""

    kind: Literal["linear", "scaled-linear", "cosine"] = "linear"
    """Noise schedule."""
    steps: int = Field(default=1000, ge=10)
    """Timesteps of the schedule."""
    prediction: Literal["eps", "v", "x0"] = "eps"
    """What the network predicts: the noise, the velocity or the clean image."""
