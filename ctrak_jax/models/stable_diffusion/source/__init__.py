"""A model's parts under diffusers' names, whichever form they are passed around in.

:class:`ModelFiles` says where they are; the other modules know the names of other tools.
"""

from ctrak_jax.models.stable_diffusion.source.files import (
    ModelFiles,
    Part,
    model_files,
    part_in,
)

__all__ = ["ModelFiles", "Part", "model_files", "part_in"]
