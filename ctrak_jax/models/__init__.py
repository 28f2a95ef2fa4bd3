"""Denoisers behind one noise prediction of one sample."""

from ctrak_jax.models.denoiser import Denoiser, create, load_published
from ctrak_jax.models.dit import SIZES, DiT, DiTSize

__all__ = ["SIZES", "Denoiser", "DiT", "DiTSize", "create", "load_published"]
