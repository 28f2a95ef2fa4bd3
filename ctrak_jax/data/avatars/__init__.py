"""The avatar benchmark: portraits in six styles with six attributes, drawn by DiceBear."""

from ctrak_jax.data.avatars.draw import draw_avatars
from ctrak_jax.data.avatars.styles import ATTRIBUTES, caption

__all__ = ["ATTRIBUTES", "caption", "draw_avatars"]
