"""Encoders of ONE text that newer text-to-image models read, by NumPy and JAX alone."""

from ctrak_jax.models.text_encoders.clip import (
    CLIPTextOutput,
    ProjectedCLIP,
    clip_text_of,
    load_clip_text,
)
from ctrak_jax.models.text_encoders.t5 import T5Text, load_t5, t5_of

__all__ = [
    "CLIPTextOutput",
    "ProjectedCLIP",
    "T5Text",
    "clip_text_of",
    "load_clip_text",
    "load_t5",
    "t5_of",
]
