"""CLIP's byte-pair vocabulary: where it is found, and the tokenizer files made from it.

A text becomes the bytes of its words, each written as a character, and pairs of neighbours are
merged in the order of a list. The list is CLIP's, as the package open-clip-torch (MIT licence)
carries it. The numbers of the tokens follow from it (Radford et al. 2021)::

    0 ...           the 256 bytes, in the order of their characters below
    256 ...         the same at the end of a word, "x</w>"
    512 ...         what each merge makes, in order
    49406, 49407    <|startoftext|>, <|endoftext|>
"""

import gzip
import importlib.util
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.errors import UsageError, pip_install

FILE = "bpe_simple_vocab_16e6.txt.gz"
SIZE = 49_408
START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
MERGES = SIZE - 2 * 256 - 2
"""Merges in use, 48,894; the file has more of them."""


class Vocabulary(NamedTuple):
    """Token -> number, and the merges in their order, each as ``"left right"``."""

    numbers: dict[str, int]
    merges: tuple[str, ...]


def library() -> Path:
    """The list of merges: named by CLIP_VOCABULARY_PATH, in ``.venv/clip``, or beside an installed
    ``open_clip`` (which is not imported: it would need PyTorch)."""
    named = os.environ.get("CLIP_VOCABULARY_PATH")
    spec = None if named else importlib.util.find_spec("open_clip")
    places = [Path(named)] if named else [Path(sys.prefix) / "clip" / "open_clip" / FILE]
    if spec is not None and spec.origin is not None:
        places.append(Path(spec.origin).with_name(FILE))
    for place in places:
        if place.is_file():
            return place
    raise UsageError(
        f"CLIP's vocabulary is not at {places[0]} and open_clip is not installed; run "
        f"make vocabulary in a checkout, or {pip_install('--no-deps', 'open-clip-torch')}."
    )


def read(file: Path) -> Vocabulary:
    """CLIP's vocabulary out of its list of merges (text, compressed by gzip)."""
    try:
        lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UsageError(
            f"{file}: cannot be read ({error}); delete it and run make vocabulary."
        ) from None
    merges = lines[1 : MERGES + 1]  # the first line is a version
    if len(merges) < MERGES or any(len(merge.split()) != 2 for merge in merges):
        raise UsageError(
            f"{file} is not the list of {MERGES:,} pairs that CLIP merges; delete it and run "
            "make vocabulary."
        )
    return derive(merges)


def derive(merges: Sequence[str]) -> Vocabulary:
    """The numbers of all tokens that a list of merges makes."""
    # Bytes that Latin-1 prints are themselves; the others, in order, the characters from 256 on.
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(code) for code in (*printed, *range(256, 512 - len(printed)))]
    made = ["".join(merge.split()) for merge in merges]
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *made, START, END]
    return Vocabulary({token: number for number, token in enumerate(tokens)}, tuple(merges))
