"""Files of weights, whoever wrote them: arrays by the names that the file has.

A pretrained model is read in four steps, each in one place:

1. which file: :mod:`ctrak_jax.models.checkpoints.places` (variants, shards, precedence);
2. open it: :mod:`ctrak_jax.models.checkpoints.container` (safetensors, PyTorch's pickles without
   running them, Flax's msgpack), arrays in the dtype they are stored in;
3. its names to diffusers' names: :mod:`ctrak_jax.models.stable_diffusion.source`;
4. diffusers' names to the network's paths, layouts and float32:
   :mod:`ctrak_jax.models.stable_diffusion.weights`.

This package knows no network. What it reads is not trusted: no code of a file runs, no file outside
its folder is read, and a size that a file claims is compared with its own before it is believed.
"""

from ctrak_jax.models.checkpoints.container import Opened, open_file
from ctrak_jax.models.checkpoints.places import DIFFUSERS, TRANSFORMERS, FileNames, weights_in

__all__ = ["DIFFUSERS", "TRANSFORMERS", "FileNames", "Opened", "open_file", "weights_in"]
