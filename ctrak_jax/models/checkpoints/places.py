"""Which file of a part's folder holds its weights: variants, shards, and what goes first.

A name is a stem, a variant (none, ``.fp16``, ``.non_ema`` ...), and ``.safetensors`` or ``.bin``;
of shards the list of their names is what counts, in the four spellings that versions of diffusers
and transformers have given it::

    <stem>.safetensors.index.json            <stem>.safetensors.index.fp16.json
    <stem>.safetensors.fp16.index.json       <stem>.fp16.safetensors.index.json
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger


class FileNames(NamedTuple):
    """A part's weight files: the stems of PyTorch's in safetensors and in pickles, and Flax's."""

    torch: str
    pickled: str
    flax: str


DIFFUSERS = FileNames(
    "diffusion_pytorch_model", "diffusion_pytorch_model", "diffusion_flax_model.msgpack"
)
TRANSFORMERS = FileNames("model", "pytorch_model", "flax_model.msgpack")

VARIANTS = ("", "ema", "fp16", "bf16", "non_ema")
"""The order in which they are taken: what the model's own scripts load first."""


def weights_in(folder: Path, names: FileNames) -> Path:
    """The file of a part's weights, or the list of its shards.

    Averaged weights go before others, of these full precision before half; safetensors go before
    pickles, and PyTorch's before Flax's.

    Raises:
        UsageError: none is there, or one cannot be told from another.
    """
    found = [folder / name for name in _expected(names) if (folder / name).is_file()]
    if found:
        return _taken(found)
    others = _other_variants(folder, names)
    if len(others) == 1:
        return _taken(others)
    if others:
        listed = ", ".join(file.name for file in others)
        raise UsageError(f"{folder} has {listed}; keep the one that is to be read there.")
    there = sorted(file.name for file in folder.glob("*")) if folder.is_dir() else []
    shards = [name for name in there if re.search(r"-\d+-of-\d+", name)]
    also = f" ({shards[0]} is one of several, their index.json is missing)" if shards else ""
    raise UsageError(
        f"{folder} has no weights{also}; expected {names.torch}.safetensors, {names.pickled}.bin "
        f"or {names.flax} there."
    )


def _taken(found: list[Path]) -> Path:
    if len(found) > 1:
        others = ", ".join(file.name for file in found[1:])
        logger.info("%s is read, not %s beside it", found[0], others)
    return found[0]


def _expected(names: FileNames) -> Iterator[str]:
    for variant in VARIANTS:
        yield from _spelled(names.torch, "safetensors", variant)
        yield from _spelled(names.pickled, "bin", variant)
        if variant == "ema":
            yield names.flax


def _spelled(stem: str, suffix: str, variant: str) -> Iterator[str]:
    if not variant:
        yield from (f"{stem}.{suffix}", f"{stem}.{suffix}.index.json")
        return
    yield f"{stem}.{variant}.{suffix}"
    yield f"{stem}.{suffix}.index.{variant}.json"
    yield f"{stem}.{suffix}.{variant}.index.json"
    yield f"{stem}.{variant}.{suffix}.index.json"


def _other_variants(folder: Path, names: FileNames) -> list[Path]:
    """Files of a variant by another name."""
    stems = "|".join(map(re.escape, {names.torch, names.pickled}))
    one = re.compile(rf"({stems})\.[\w.-]+\.(safetensors|bin)")
    index = re.compile(rf"({stems})\.[\w.-]*\.?index(\.[\w-]+)?\.json")
    there = sorted(folder.glob("*")) if folder.is_dir() else []
    return [
        file
        for file in there
        if file.is_file()
        and (one.fullmatch(file.name) or index.fullmatch(file.name))
        and not re.search(r"-\d+-of-\d+", file.name)
    ]
