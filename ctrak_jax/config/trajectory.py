"""Features of training samples: trajectories, gradients, and their projection."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ctrak_jax.config.base import (
    PERFORMANCE,
    Natural,
    NullByName,
    OneOrSeveral,
    Section,
    Seed,
)
from ctrak_jax.methods import StatePath

AllByNothing = BeforeValidator(lambda value: "all" if value is None else value)
"""Earlier runs say all timesteps by an empty value."""


class TrajectoryConfig(Section):
    """Trajectories of the training samples."""

    steps: int = Field(default=50, ge=2)
    """Grid steps S of the DDIM trajectories."""
    record_every: Natural = 5
    """Steps between recorded states, which are the attribution timesteps; a divisor of steps."""
    timesteps: Annotated[Natural | Literal["third", "all"], AllByNothing] = "third"
    """Attribution timesteps, those of the least noise: a third of the recorded ones, all, or so
    many."""
    path: StatePath = "forward"
    """States of Concept-TRAK's training samples: forward noise, or DDIM inversion as published."""
    condition: Annotated[Literal["unnamed", "null", "own"], NullByName] = "unnamed"
    """What Concept-TRAK's training samples are denoised under. unnamed: their own condition without
    the attribute asked about (unnamed.attributes, each with features of its own), and the null
    condition for any other concept; null: the null condition; own: as published."""
    guidance: float = Field(default=2.0, ge=0)
    """Guidance scale of the training samples' inversion; 1 for none, 7.5 as published."""
    negative: Annotated[Literal["attribute", "opposite", "other", "null", "prompt"], NullByName] = (
        "attribute"
    )
    """The negative condition of guidance, fixed by the sample's index. attribute: its condition
    with one attribute changed; opposite: with every attribute changed; other: another training
    condition; null; prompt: negative_prompt."""
    negative_prompt: str = ""
    """The negative prompt (negative: prompt)."""
    negatives: Natural = 2
    """Negative conditions per sample, one inversion each (negative: attribute, at most one per
    attribute; opposite, at most the product of their numbers of values less one; other)."""
    seed: Seed = 0
    """Seed of the forward noise, one draw per sample and timestep."""

    @property
    def recorded(self) -> int:
        """States that a trajectory records."""
        return self.steps // self.record_every - 1

    @property
    def kept(self) -> int:
        """Those of them that are attributed at."""
        if isinstance(self.timesteps, int):
            return self.timesteps
        return self.recorded if self.timesteps == "all" else -(-self.recorded // 3)

    def problems(self) -> Iterator[str]:
        if self.steps % self.record_every or self.recorded < 1:
            yield (
                f"trajectory.record_every={self.record_every} must divide "
                f"trajectory.steps={self.steps} at least twice; try 5 of 50"
            )
        if self.recorded < self.kept:
            yield (
                f"trajectory.timesteps={self.timesteps} of {self.recorded} recorded ones; "
                f"use at most {self.recorded}, or a smaller trajectory.record_every"
            )
        if (self.negative == "prompt") != bool(self.negative_prompt):
            yield (
                "trajectory.negative=prompt and trajectory.negative_prompt belong together; give "
                "both or neither"
            )


class GradientConfig(Section):
    """Per-sample gradients."""

    include: Annotated[tuple[str, ...], OneOrSeveral] = ("*",)
    """Patterns of the parameters whose gradients are taken. `cross-attention` stands for those by
    which words act: `attn2` of a UNet, the text's side of joint attention (`add_q_proj`,
    `add_k_proj`, `add_v_proj`, `to_add_out`) of Stable Diffusion 3 and FLUX.1."""
    exclude: Annotated[tuple[str, ...], OneOrSeveral] = ()
    """Patterns left out of them."""
    time_chunk: Annotated[Natural | None, PERFORMANCE] = None
    """Timesteps computed side by side, a divisor of their number; empty for all of them. Fewer take
    less memory."""
    batch: Annotated[Natural, PERFORMANCE] = 32
    """Samples computed side by side, over all devices."""


class ProjectionConfig(Section):
    """The random projection."""

    kind: Literal["rademacher", "gaussian", "sjlt", "srht", "mask", "factored"] = "rademacher"
    """The matrix: dense signs or normals, sparse signs, a subsampled Hadamard matrix with random
    signs, two small sign matrices per layer (all five Johnson-Lindenstrauss), or k coordinates at
    random as in the published code."""
    k: Natural = 4096
    """Columns, the length of a feature; a multiple of 32."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the matrix."""
    tile: Annotated[Natural | None, PERFORMANCE] = None
    """Rows of the matrix generated at a time; empty for 1,024, or on GPUs 8,192 (`rademacher`) and
    1,048,576 (`srht`)."""
    implementation: Annotated[Literal["auto", "xla", "pallas_tpu", "pallas_gpu"], PERFORMANCE] = (
        "auto"
    )
    """What generates the matrix: a kernel where the backend has one, or always the one named."""

    def problems(self) -> Iterator[str]:
        if self.k % 32:
            near = max(32, round(self.k / 32) * 32)
            yield f"projection.k={self.k} must be a multiple of 32; try {near}"
        if self.kind != "rademacher" and self.implementation not in ("auto", "xla"):
            yield (
                f"projection.implementation={self.implementation} makes rademacher signs alone, "
                f"got projection.kind={self.kind}; use auto or xla"
            )
