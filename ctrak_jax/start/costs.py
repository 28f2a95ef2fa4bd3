"""How long a run takes, by the FLOPs of its network: within a factor of about two on a CPU.

Forward passes are counted, everything else in units of them, and products with dense projections.
The optimiser's own products, other projections and compilation are left out.
"""

from pathlib import Path
from typing import NamedTuple

from ctrak_jax.attribution.train import GRADIENT
from ctrak_jax.config import Config
from ctrak_jax.gradient import select
from ctrak_jax.methods import METHODS
from ctrak_jax.models.architecture import architecture_of, dit_of, model_files_of
from ctrak_jax.run.variants import feature_sets

EFFICIENCY = 0.35
"""Share of the matmul rate that training and featurizing reach on two cores. Shapes: 2,000 steps of
2.6 GFLOP in 65 s at 241 GFLOP/s, 0.33; avatars: 3,000 of 42 GFLOP in 14 min at 410, 0.37."""
BACKWARD = 2
"""A backward pass, in forward passes."""
UNET = 183e6
"""FLOPs of a forward pass of the small UNet on 32 x 32 pixels, counted by XLA (64 x 64: 809e6)."""
AUTOENCODER = 166e6
"""The same of its autoencoder, there and back."""
DENSE = ("rademacher", "gaussian")
"""Projections by a matrix whose every entry is multiplied."""


class Minutes(NamedTuple):
    """Minutes that the parts of a run take."""

    training: float
    featurizing: float
    questions: float

    @property
    def total(self) -> float:
        return sum(self)


def forward(config: Config, side: int) -> float:
    """FLOPs of a forward pass of one image of this side."""
    if config.model.kind == "text-to-image":
        return UNET * (side / 32) ** 2
    network = dit_of(config.model)
    tokens, width = (side // network.patch) ** 2, network.width
    # 12 width^2 weights (attention 4, SwiGLU 8), and q k^T and its product with v.
    block = 2 * 12 * width**2 + 4 * tokens * width
    ends = 2 * 2 * 3 * network.patch**2 * width
    return float(tokens * (network.depth * block + ends))


def step(config: Config, side: int) -> float:
    """FLOPs of a training step."""
    return config.train.batch * (1 + BACKWARD) * forward(config, side)


def training(config: Config, side: int) -> float:
    """FLOPs of the whole training."""
    found = config.train.steps * step(config, side)
    if config.model.kind == "text-to-image":
        autoencoder = AUTOENCODER * (side / 32) ** 2 * (1 + BACKWARD)
        found += config.autoencoder.steps * config.autoencoder.batch * autoencoder
    return found


def featurizing(config: Config, side: int, ranked: int) -> float:
    """FLOPs of all features of the candidates: the main ones, and those of every variant."""
    sets = feature_sets(config, ranked)
    if not sets:
        return 0.0
    passes = sum(one.samples * one.passes(config) for one in sets)
    features = sum(one.samples * len(one.specs(config)) for one in sets)
    return passes * forward(config, side) + features * projection_flops(config, side)


def projection_flops(config: Config, side: int) -> float:
    """FLOPs of projecting one gradient: 2 d k by a dense matrix, else left out. One product of a
    large matrix counts as the network's FLOPs that take as long, :data:`EFFICIENCY` of it."""
    if config.projection.kind not in DENSE or config.model.checkpoint is not None:
        return 0.0
    files = model_files_of(config.model, Path())
    network = architecture_of(
        config.model,
        config.schedule,
        files=files,
        image_shape=(side, side, 3),
        condition_size=1,
    )
    chosen = select(network.template, config.gradient.include, config.gradient.exclude)
    return EFFICIENCY * 2.0 * chosen.size * config.projection.k


def questions(config: Config, side: int, images: int, concepts: int) -> float:
    """FLOPs of generating images and of the features of the questions about them."""
    times, inverted = config.timesteps, config.timesteps * config.trajectory.record_every
    specs = [spec for name in config.methods if (spec := METHODS[name].query) is not None]
    passes = config.trajectory.steps
    for spec in specs:
        asked = concepts if spec.knows_concept else 1
        repeated = config.query.repetitions if spec.path == "inversion" else 1
        path = inverted if spec.path == "inversion" else 0
        passes += repeated * (path + asked * times * (GRADIENT + 1))
    return images * passes * forward(config, side)


def minutes(flops: float, gflops: float) -> float:
    """Minutes of so many FLOPs on a machine of a matmul rate."""
    return flops / (EFFICIENCY * gflops * 1e9 * 60)
