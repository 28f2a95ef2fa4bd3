"""Transformers of image and text that predict the velocity of a rectified flow, for ONE sample.

Read from folders in diffusers' format, by NumPy and JAX alone; PyTorch, diffusers and transformers
are not needed. Arrays are channels last.
"""

from ctrak_jax.models.mmdit.flux import FluxDenoiser, flux_from, flux_of, load_flux
from ctrak_jax.models.mmdit.sd3 import SD3Denoiser, load_sd3, sd3_from, sd3_of

__all__ = [
    "FluxDenoiser",
    "SD3Denoiser",
    "flux_from",
    "flux_of",
    "load_flux",
    "load_sd3",
    "sd3_from",
    "sd3_of",
]
