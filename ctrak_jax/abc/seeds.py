"""The noise that a generated image came from: PyTorch's normal numbers by the image's seed.

The number in the file's name is the seed of ``torch.Generator().manual_seed(seed)`` on the CPU; a
generator on a GPU gives other noise.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ctrak_jax.errors import UsageError

BLOCK = 16
"""Numbers that PyTorch makes of as many uniform ones, eight pairs side by side."""
SEEDS = 2**32
"""A seed is below."""


def seed_of(image: Path) -> int:
    """The seed that an image was generated with.

    Raises:
        UsageError: the file is not named by a number below 2^32.
    """
    if not (image.stem.isascii() and image.stem.isdecimal()):
        raise UsageError(
            f"{image}: the name is no number, which would be the seed that query.path=resample "
            "samples from; use query.path: inversion."
        )
    if len(image.stem.lstrip("0")) > 10 or int(image.stem) >= SEEDS:
        raise UsageError(f"{image}: {image.stem} is no seed below 2^32; use query.path: inversion.")
    return int(image.stem)


def require_noise(shape: tuple[int, ...], advice: str) -> None:
    """Latents [h, w, c] of a shape can be drawn by seed.

    Raises:
        UsageError: :func:`noise_of` cannot make as many numbers; ``advice`` says what to do.
    """
    count = math.prod(shape)
    if count % BLOCK:
        raise UsageError(
            f"a latent of the model has {count} numbers, and noise by seed is made of multiples of "
            f"{BLOCK}; {advice}."
        )


def noise_of(seed: int, shape: tuple[int, ...]) -> Float[np.ndarray, "h w c"]:
    """``torch.randn`` of float32 [1, c, h, w] as [h, w, c], by Box and Muller in blocks of 16.

    Args:
        seed: of PyTorch's CPU generator, below 2^32.
        shape: (h, w, c), a multiple of 16 numbers.

    Raises:
        ValueError: another count of numbers, which PyTorch makes in another way.
    """
    height, width, channels = shape
    count = height * width * channels
    if count % BLOCK:
        raise ValueError(f"{count} numbers are no multiple of {BLOCK}.")
    words = np.random.RandomState(seed).randint(0, 2**32, count, np.uint32)
    uniform = (words & (2**24 - 1)).astype(np.float64) / 2**24
    first, second = np.moveaxis(uniform.reshape(-1, 2, BLOCK // 2), 1, 0)
    radius, angle = np.sqrt(-2.0 * np.log1p(-first)), 2.0 * np.pi * second
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return normal.reshape(channels, height, width).transpose(1, 2, 0).astype(np.float32)
