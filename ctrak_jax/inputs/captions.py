"""Captions that a model cannot read, or not to their end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax.models.pretrained import longest_tokenizer, token_reader
from ctrak_jax.models.stable_diffusion import ModelFiles

FARTHEST = 16
"""So many times the encoder's length is counted to."""


class CutCaptions(NamedTuple):
    """Captions whose end is cut off.

    Attributes:
        cut: how many of ``total``.
        limit: tokens that the encoder reads, those of beginning and end included.
        longest: tokens of the longest, counted likewise; at most ``FARTHEST`` times the limit.
        first: the first of them.
    """

    cut: int
    total: int
    limit: int
    longest: int
    first: str

    def __str__(self) -> str:
        return (
            f"{self.cut:,} of {self.total:,} captions ({100 * self.cut / self.total:.1f}%) are "
            f"longer than the {self.limit} tokens that the text encoder reads, the longest has "
            f"{self.longest}; the rest is cut off. The first: {self.first!r}"
        )


def require_classes(model: ModelFiles | Path, captions: Sequence[str]) -> None:
    """Refuse captions that are no classes of a model that is conditioned on classes.

    Raises:
        UsageError: the first of them.
    """
    if longest_tokenizer(model) is None:
        class_of = token_reader(model)
        for caption in dict.fromkeys(captions):
            class_of(caption)


def cut_captions(model: ModelFiles | Path, captions: Sequence[str]) -> CutCaptions | None:
    """The captions that the text encoder of a model does not read to their end.

    Raises:
        UsageError: there is no tokenizer.
    """
    tokenizer = longest_tokenizer(model)
    if tokenizer is None:
        return None
    whole = replace(tokenizer, length=FARTHEST * tokenizer.length)
    end = tokenizer.end
    lengths: dict[str, int] = {}
    for caption in dict.fromkeys(captions):
        if end not in tokenizer(caption)[:-1]:  # full: it ends with its last token, or is cut
            ends = np.flatnonzero(whole(caption) == end)
            lengths[caption] = int(ends[0]) + 1
    long = {caption: tokens for caption, tokens in lengths.items() if tokens > tokenizer.length}
    if not long:
        return None
    uses = Counter(captions)
    return CutCaptions(
        cut=sum(uses[caption] for caption in long),
        total=len(captions),
        limit=tokenizer.length,
        longest=max(long.values()),
        first=next(iter(long)),
    )
