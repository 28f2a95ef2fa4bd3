"""A data set's pictures and captions as AbC's LAION files: the candidates beside the exemplars."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ctrak_jax.config import DataConfig
from ctrak_jax.data import Dataset, build
from ctrak_jax.data.abc import EMBEDDINGS, LATENTS
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.inputs.latents import require_captions
from ctrak_jax.log import meter, stage
from ctrak_jax.store.files import plain, read_json, write_atomically

CHUNK = 64
"""Pictures encoded between two signs of progress."""
RECORD = "laion_subset/customise.json"


def open_candidates(path: Path, side: int) -> Dataset:
    """A folder of pictures with captions; pictures are cropped and resized to ``side``.

    Raises:
        UsageError: it is none, or an array of pictures has another size.
    """
    resize = not (path / "images.npy").exists()
    data = build(
        DataConfig(
            kind="folder", path=path, condition_on=(), resize=resize, image_size=max(side, 8)
        ),
        by_caption=True,
    )
    require_captions(data)
    if data.image_shape[:2] != (side, side):
        raise UsageError(
            f"customise.candidates={path}: pictures of {data.image_shape[0]} x "
            f"{data.image_shape[1]}, the model takes {side} x {side}; give picture files, which "
            "are resized."
        )
    return data


def key_of(data: Dataset, model: Mapping[str, Any]) -> dict[str, Any]:
    """What the files depend on; ``model`` has the hashes of the encoders."""
    said = {"dataset": data.fingerprint, "captions": list(data.captions)}
    return plain({**said, "text": model["text"], "vae": model["vae"]})


def are_there(root: Path, key: Mapping[str, Any]) -> bool:
    """Are the files those of a key?

    Raises:
        UsageError: they are there, and this command has not written them.
    """
    record, arrays = root / RECORD, [root / name for name in (LATENTS, EMBEDDINGS)]
    there = [file for file in arrays if file.exists()]
    if there and not record.exists():
        raise UsageError(
            f"{there[0]} was not written by `ctrak customise`, which would replace it; leave out "
            "customise.candidates, or give another folder (data.path or --out)."
        )
    return len(there) == 2 and read_json(record, "customise") == {"made_from": key}


def write_candidates(
    root: Path, data: Dataset, encoder: BatchEncoder, key: Mapping[str, Any]
) -> None:
    """Pictures, captions, latents [2N, c, h, w] (plain, then mirrored) and text embeddings
    [N, token, width], in the order of the data set; all anew where it was interrupted."""
    images, captions = data.raw.images, [" ".join(text.split()) for text in data.captions]
    count, arrays = len(images), dict[str, np.memmap]()
    (root / "laion_subset" / "images").mkdir(parents=True, exist_ok=True)
    write_atomically(root / RECORD, json.dumps({"made_from": None}))  # ours, and not complete
    with stage(root, "candidates") as record, meter("candidates", count) as bar:
        for first in range(0, count, CHUNK):
            rows = slice(first, min(first + CHUNK, count))
            part = np.asarray(images[rows])
            copies = [encoder.encode(copy) for copy in (part, part[:, :, ::-1])]
            latents = [np.moveaxis(found, -1, 1) for found in copies]
            text = encoder.texts(captions[rows])
            if not arrays:
                shapes = {
                    LATENTS: (2 * count, *latents[0].shape[1:]),
                    EMBEDDINGS: (count, *text.shape[1:]),
                }
                begin = partial(np.lib.format.open_memmap, mode="w+", dtype=np.float32)
                arrays = {n: begin(root / f"{n}.part", shape=s) for n, s in shapes.items()}
            arrays[LATENTS][rows] = latents[0]
            arrays[LATENTS][rows.start + count : rows.stop + count] = latents[1]
            arrays[EMBEDDINGS][rows] = text
            for number, image in enumerate(part, first):
                Image.fromarray(image).save(root / "laion_subset" / "images" / f"{number:09d}.png")
            bar.advance(len(part))
        for name, array in arrays.items():
            array.flush()
            (root / f"{name}.part").replace(root / name)
        lines = "".join(f"{caption}\n" for caption in captions)
        write_atomically(root / "laion_subset" / "captions.txt", lines)
        write_atomically(root / RECORD, json.dumps({"made_from": key}))
        record.samples = count
