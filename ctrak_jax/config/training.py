"""Training, and what is computed before it."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ctrak_jax.config.base import FILLED, PERFORMANCE, Natural, OneOrSeveral, Positive, Section


class TrainConfig(Section):
    """Training of the network."""

    steps: Natural = 3000
    """Optimiser steps."""
    batch: Natural = 128
    """Images per step, over all devices."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for matrices with Adam for embeddings and vectors, or AdamW."""
    learning_rate: Positive = 1e-2
    """Peak learning rate."""
    adam_learning_rate: Positive = 3e-3
    """Peak learning rate of the parameters that Muon leaves to Adam."""
    warmup: int = Field(default=100, ge=0)
    """Steps of linear warm-up; a cosine to zero follows."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    clip: Positive = 1.0
    """Global norm at which gradients are clipped."""
    ema: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the averaged parameters, which are the model afterwards."""
    attribute_dropout: float = Field(default=0.02, ge=0, lt=1)
    """Probability that an attribute of a condition becomes null, independently of the others
    (class-conditional)."""
    condition_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability that the whole condition becomes null, the caption empty: what trains the null
    condition, under which candidates are featurized."""
    scan: Annotated[Natural, PERFORMANCE] = 50
    """Steps compiled into one call."""
    checkpoint_every: Annotated[Natural, PERFORMANCE] = 1000
    """Steps between checkpoints; a multiple of scan."""

    def problems(self) -> Iterator[str]:
        if self.checkpoint_every % self.scan:
            yield (
                f"train.checkpoint_every={self.checkpoint_every} must be a multiple of "
                f"train.scan={self.scan}"
            )


class AutoencoderConfig(Section):
    """Training of the autoencoder, before the network of a text-to-image model trained here."""

    steps: Natural = 1200
    """Optimiser steps; the optimiser is that of train."""
    batch: Natural = 32
    """Images per step, over all devices."""
    learning_rate: Positive = 5e-3
    """Peak learning rate."""
    adam_learning_rate: Positive = 1e-3
    """Peak learning rate of the parameters that Muon leaves to Adam."""
    kl: float = Field(default=1e-3, ge=0)
    """Weight of the divergence of the latents from a unit normal."""


class TuneConfig(Section):
    """The LoRA that `ctrak tune` trains on a text-to-image model.checkpoint."""

    steps: Natural = 1000
    """Optimiser steps (AdamW)."""
    batch: Natural = 8
    """Images per step, over all devices."""
    learning_rate: Positive = 1e-4
    """Peak learning rate, after a linear warm-up of a tenth of the steps; a cosine to zero
    follows."""
    rank: Natural = 8
    """Rank of the matrices A and B."""
    alpha: Positive | None = None
    """The product A B is multiplied by alpha / rank; empty for the rank."""
    include: Annotated[tuple[str, ...], OneOrSeveral, FILLED] = ("*attn?*",)
    """Patterns of the network's linear layers that get an adapter, or `cross-attention` as in
    gradient.include; by default those of all attention: queries, keys, values and outputs."""
    text_encoder: bool = False
    """Also adapters on the attention of the text encoder (Stable Diffusion 1.x and 2.x)."""
    condition_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability that a caption becomes empty, as train.condition_dropout."""
    scan: Annotated[Natural, PERFORMANCE] = 10
    """Steps per compiled call; the loss is logged after each."""
    checkpoint_every: Annotated[Natural, PERFORMANCE] = 100
    """Steps between checkpoints; a multiple of scan."""

    def problems(self) -> Iterator[str]:
        if self.checkpoint_every % self.scan:
            yield (
                f"tune.checkpoint_every={self.checkpoint_every} must be a multiple of "
                f"tune.scan={self.scan}"
            )


class EncodeConfig(Section):
    """Latents and text embeddings of a data set (text-to-image)."""

    flip: bool = False
    """Also encode every image mirrored; unlearning takes the larger score of the two."""
    dtype: Literal["float32", "float16"] = "float32"
    """Number format of both on disk."""
