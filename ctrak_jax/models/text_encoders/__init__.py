"""Encoders of ONE text that newer text-to-image models read, by NumPy and JAX alone."""

from ctrak_jax.models.text_encoders.clip import (
    CLIPTextEncoder,
    CLIPTextOutput,
    clip_text_of,
    load_clip_text,
)
from ctrak_jax.models.text_encoders.t5 import T5Text, load_t5, t5_of

__all__ = [
    "CLIPTextEncoder",
    "CLIPTextOutput",
    "T5Text",
    "clip_text_of",
    "load_clip_text",
    "load_t5",
    "t5_of",
]
