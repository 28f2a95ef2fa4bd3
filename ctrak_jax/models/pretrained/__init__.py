"""A published latent diffusion model out of its folder, whichever it is: its network and noise, and
what turns images and texts into its latents and conditions.

``model_index.json`` says which one; a single file is of Stable Diffusion 1.x or 2.x.
"""

from ctrak_jax.models.pretrained.families import (
    Described,
    Network,
    codecs_of,
    describe,
    load_network,
    load_text,
    longest_tokenizer,
    pipeline_of,
    token_reader,
)
from ctrak_jax.models.pretrained.texts import ClassNames, OneText, Reader

__all__ = [
    "ClassNames",
    "Described",
    "Network",
    "OneText",
    "Reader",
    "codecs_of",
    "describe",
    "load_network",
    "load_text",
    "longest_tokenizer",
    "pipeline_of",
    "token_reader",
]
