"""Networks of convolutions and attention for ONE sample: the denoiser of Stable Diffusion 1, 2 and
XL, and the autoencoder of all Stable Diffusions and FLUX.1.

A parameter's path is its published name, numbers joined by an underscore. Arrays are channels last.
"""

from ctrak_jax.models.unet.autoencoder import KLModule
from ctrak_jax.models.unet.network import LayerSettings, UNetLevel, UNetModule

__all__ = ["KLModule", "LayerSettings", "UNetLevel", "UNetModule"]
