"""Encode a data set for a text-to-image model: images into latents, captions into embeddings.

A data set folder that brings the arrays (:mod:`ctrak_jax.inputs.arrays`) is taken as it is.
Every process writes its own share of the rows; a chunk that is finished is not computed again.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ctrak_jax import hosts
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.arrays import LATENTS, Encoded, has_arrays, names_of
from ctrak_jax.inputs.captions import cut_captions, require_classes
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.inputs.latents import require_captions
from ctrak_jax.log import deadline, logger, meter, stage
from ctrak_jax.run import model_file
from ctrak_jax.run.keys import settings_of
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import digest, write_atomically

CHUNK = 256
"""Images encoded, and after a kill encoded again, at a time."""


def run(ctx: Context) -> None:
    """Complete the arrays of a text-to-image model; another kind of model needs none.

    Raises:
        UsageError: the data set has no captions, some that are no class of a model of classes, or
            pictures of another size than the model's.
        StoreError: the arrays are of something else.
    """
    if ctx.config.model.kind != "text-to-image":
        return
    condition = ctx.architecture.condition
    if has_arrays(ctx.config.data.path, condition):
        return
    require_captions(ctx.dataset)
    out, wanted = ctx.folder.encoded, key(ctx)
    files = [out / name for name in (LATENTS, *names_of(condition))]
    if ctx.folder.fresh("encode", wanted, *files):
        return
    require_classes(ctx.model_source, ctx.dataset.captions)
    encoder = BatchEncoder(ctx.model_source, ctx.mesh, ctx.config.gradient.batch)
    _require_size(ctx, encoder)
    if hosts.is_first():
        if cut := cut_captions(ctx.model_source, ctx.dataset.captions):
            logger.warning("%s", cut)
        _begin(ctx, files, wanted)
    hosts.barrier("encoding begins")
    latents, *text = (np.lib.format.open_memmap(_latest(file), "r+") for file in files)
    arrays = Encoded(latents, jax.tree.unflatten(jax.tree.structure(condition), text))
    count = len(ctx.dataset.raw.images)
    chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    todo = [chunk for chunk in chunks if not _mark(out, chunk).exists()]
    hosts.barrier("encoding agreed")
    with stage(ctx.folder.root, "encode", ctx.mesh.size) as record:
        mine = hosts.share(todo)
        with meter("encode", sum(map(len, mine))) as bar:
            for chunk in mine:
                if record.samples:
                    deadline.check()
                _write(ctx, encoder, arrays, chunk)
                _mark(out, chunk).touch()
                record.samples += len(chunk)
                bar.advance(len(chunk))
    hosts.barrier("encoded")
    if hosts.is_first():
        for file in files:
            _latest(file).replace(file)
        ctx.folder.finish("encode", wanted)
        shutil.rmtree(out / "done")
    hosts.barrier("encoding ends")


def _latest(file: Path) -> Path:
    """An array in the making, or the finished one."""
    part = file.with_name(f"{file.name}.part")
    return part if part.exists() else file


def _require_size(ctx: Context, encoder: BatchEncoder) -> None:
    """Refuse pictures whose latents are not as large as the network's."""
    shrink, sides = encoder.codecs.image.network.shrink, ctx.dataset.image_shape[:2]
    wanted = tuple(side * shrink for side in ctx.architecture.sample[:2])
    if sides != wanted:
        raise UsageError(
            f"the model is of pictures of {wanted[0]} x {wanted[1]}, those of the data set are "
            f"{sides[0]} x {sides[1]}; use data.resize: true and data.image_size: {wanted[0]}."
        )


def key(ctx: Context) -> dict[str, Any]:
    """What the arrays depend on."""
    said = model_file.about(ctx.folder.model)
    return {
        "model": said["codecs"],
        "checkpoint": said["made_from"].get("checkpoint"),
        "dataset": ctx.training_set.fingerprint,
        "captions": digest(ctx.dataset.captions),
        **{name: said["made_from"][name] for name in ("t5_tokens",) if name in said["made_from"]},
        **settings_of(ctx.config, "encoded"),
    }


def _begin(ctx: Context, files: Sequence[Path], wanted: dict[str, Any]) -> None:
    """Make the arrays, unless they have been begun from the same inputs."""
    out = ctx.folder.encoded
    claim = out / "inputs.json"
    if claim.exists() and json.loads(claim.read_text()) == digest(wanted):
        if (out / "done").exists():
            return
    elif any(file.exists() for file in files):
        raise StoreError(
            f"{out} was encoded from another model, data set or other settings; use another --out, "
            "or delete it to encode anew."
        )
    shutil.rmtree(out, ignore_errors=True)
    (out / "done").mkdir(parents=True)
    count, network = len(ctx.dataset.raw.images), ctx.architecture
    height, width, channels = network.sample
    rows = count * (1 + ctx.config.encode.flip)
    forms = [(np.dtype(np.float32), (rows, channels, height, width))]
    forms += [(leaf.dtype, (count, *leaf.shape)) for leaf in jax.tree.leaves(network.condition)]
    for file, (dtype, shape) in zip(files, forms, strict=True):
        kept = ctx.config.encode.dtype if np.issubdtype(dtype, np.floating) else dtype
        part = file.with_name(f"{file.name}.part")
        np.lib.format.open_memmap(part, "w+", np.dtype(kept), shape).flush()
    write_atomically(claim, json.dumps(digest(wanted)))


def _mark(out: Path, chunk: range) -> Path:
    return out / "done" / f"{chunk.start:09d}"


def _write(ctx: Context, encoder: BatchEncoder, arrays: Encoded, chunk: range) -> None:
    """Compute a chunk whole, then write it."""
    raw, rows, total = ctx.dataset.raw, slice(chunk.start, chunk.stop), len(ctx.dataset.raw.images)
    images, dtype = np.asarray(raw.images[rows]), arrays.latents.dtype
    copies = [images, images[:, :, ::-1]] if ctx.config.encode.flip else [images]
    latents = [_finite(encoder.encode(copy).astype(dtype), chunk, "latent") for copy in copies]

    def as_kept(found: np.ndarray, array: np.ndarray) -> np.ndarray:
        return _finite(found.astype(array.dtype), chunk, "text embedding")

    text = jax.tree.map(as_kept, encoder.texts(ctx.dataset.captions[rows]), arrays.text)
    for number, found in enumerate(latents):
        first = chunk.start + number * total
        arrays.latents[first : first + len(chunk)] = np.moveaxis(found, -1, 1)
    for array, found in zip(*map(jax.tree.leaves, (arrays.text, text)), strict=True):
        array[rows] = found
    for array in jax.tree.leaves(arrays):
        array.flush()


def _finite(values: np.ndarray, chunk: range, what: str) -> np.ndarray:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
    if bad.any():
        raise StoreError(
            f"image {chunk[int(np.argmax(bad))]}: its {what} holds NaN or infinity as "
            f"{values.dtype}, nothing of its chunk was written; fix or remove the image, use "
            "another model, or encode.dtype: float32."
        )
    return values
