"""A map over its picture: orange where the parts of a score are positive, blue where negative."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

from ctrak_jax.report.contact import picture_scale

POSITIVE, NEGATIVE = (213, 94, 0), (0, 114, 178)
"""Told apart by readers who see few colours (Okabe and Ito 2008)."""
PALE = 0.45
"""How much of the grey picture is left below a map."""
FULL = 0.99
"""The share of a map's values that the scale of its colours covers."""
BLUR = 0.6
"""Of a map for display, in its own pixels; its numbers stay as they are."""


def overlaid(
    picture: UInt8[np.ndarray, "height width 3"], found: Float[np.ndarray, "rows columns"]
) -> Image.Image:
    """The picture, pale and grey, under a map of any resolution, enlarged by a whole number."""
    smooth = gaussian_filter(found, BLUR)
    limit = float(np.quantile(np.abs(smooth), FULL)) or 1.0
    height, width = picture.shape[:2]
    scale = picture_scale(height, width)
    size = (scale * width, scale * height)
    coarse = found.shape != picture.shape[:2]  # latents
    resample = Image.Resampling.BILINEAR if coarse else Image.Resampling.NEAREST
    share = np.asarray(Image.fromarray((smooth / limit).astype(np.float32)).resize(size, resample))
    strength = np.clip(np.abs(share), 0.0, 1.0)[..., None]
    colour = np.where((share > 0)[..., None], np.array(POSITIVE), np.array(NEGATIVE))
    grey = Image.fromarray(picture).convert("L").resize(size, Image.Resampling.NEAREST)
    below = 255.0 - PALE * (255.0 - np.asarray(grey, np.float32))[..., None]
    mixed = (1.0 - strength) * below + strength * colour
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def enlarged(picture: UInt8[np.ndarray, "height width 3"]) -> Image.Image:
    """The picture at the size of :func:`overlaid`."""
    height, width = picture.shape[:2]
    scale = picture_scale(height, width)
    return Image.fromarray(picture).resize(
        (scale * width, scale * height), Image.Resampling.NEAREST
    )
