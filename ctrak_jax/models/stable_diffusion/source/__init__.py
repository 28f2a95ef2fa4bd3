"""A model's parts under diffusers' names, whichever form they are passed around in.

:class:`ModelFiles` says where they are; the other modules know the names of other tools.
"""

from ctrak_jax.models.stable_diffusion.source.files import (
    ModelFiles,
    Part,
    model_files,
    part_in,
)
from ctrak_jax.models.stable_diffusion.source.tokenizer import TokenizerFiles, tokenizer_files

__all__ = ["ModelFiles", "Part", "TokenizerFiles", "model_files", "part_in", "tokenizer_files"]
