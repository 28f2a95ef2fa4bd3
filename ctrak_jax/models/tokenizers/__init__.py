"""Texts as token numbers: CLIP's byte pairs and T5's pieces, by the package tokenizers.

A text is cut to the length that an encoder takes, its end token kept, or padded to it. The numbers
are those of transformers' fast tokenizers.
"""

from ctrak_jax.models.tokenizers.files import TokenizerFiles, clips_own, tokenizer_files
from ctrak_jax.models.tokenizers.tokenizer import (
    Tokenizer,
    clip_tokenizer,
    encoder_tokenizer,
    load_t5_tokenizer,
)

__all__ = [
    "Tokenizer",
    "TokenizerFiles",
    "clip_tokenizer",
    "clips_own",
    "encoder_tokenizer",
    "load_t5_tokenizer",
    "tokenizer_files",
]
