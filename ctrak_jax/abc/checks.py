"""A look at what the benchmark is computed from, before anything is computed."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ctrak_jax.data.abc import ChannelsLast
from ctrak_jax.data.abc.squares import squares
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger

SAMPLED = 64
"""Latents looked at."""
SCALED = 2.0
"""Latents of Stable Diffusion as its network takes them have a standard deviation near 1, those
that lack the autoencoder's factor one near 5."""


def latent_factor(file: Path, latents: ChannelsLast, rows: np.ndarray, scaling: float) -> float:
    """What the latents have to be multiplied by: 1, or the autoencoder's factor where it is
    missing.

    Args:
        file: of the latents, for messages.
        latents: mapped.
        rows: those that are used.
        scaling: the autoencoder's factor.

    Raises:
        UsageError: values that are not finite, all alike, or of neither size.
    """
    places = np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(int))
    sample = latents[rows[places]].astype(np.float64)
    for place, row in zip(places, sample, strict=True):
        if not np.isfinite(row).all():
            raise UsageError(
                f"{file}: row {rows[place]} is not finite; unpack the AbC files again."
            )
    deviation = float(sample.std())
    if 0.0 < deviation < SCALED:
        return 1.0
    if SCALED / 4 < deviation * scaling < SCALED:
        logger.warning(
            "%s: a standard deviation of %.2f: latents without the autoencoder's factor, so they "
            "are multiplied by %g",
            *(file, deviation, scaling),
        )
        return scaling
    raise UsageError(
        f"{file}: latents of standard deviation {deviation:.3g}, expected about 1, or "
        f"{1 / scaling:.3g} where they lack the autoencoder's factor {scaling:g}; take those that "
        "this model's autoencoder gives."
    )


def require_pictures(files: Iterable[Path]) -> None:
    """Every picture can be decoded.

    Raises:
        UsageError: one cannot.
    """
    for file in dict.fromkeys(files):
        squares([file], 8)
