"""How fast ``ctrak data check`` decodes small JPEGs, beside Pillow alone on the same cores.

    python -m benchmarks.check_pictures OUT [--pictures 100000] [--side 64] [--rounds 3]

OUT gets the pictures, blurred noise at quality 90 in folders of 1,000, and ``result.json``. Each
round times one after the other: Pillow alone (``Image.open(file).load()`` in one process per core,
and nothing else), then the command's look without and with its record. The best round counts.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ctrak_jax.data.folder.listing import list_pictures
from ctrak_jax.data.folder.names import walk
from ctrak_jax.data.looking import Record, look


def draw(out: Path, count: int, side: int) -> None:
    """Blurred noise: as hard to decode as a photograph of that size."""
    for first in range(0, count, 1000):
        folder = out / "images" / f"{first // 1000:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(first, min(first + 1000, count)):
            noise = np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)
            blurred = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5))
            blurred.save(folder / f"{i:06d}.jpg", quality=90)


def decode(files: Sequence[str]) -> int:
    for file in files:
        with Image.open(file) as picture:
            picture.load()
    return len(files)


def pillow(files: Sequence[str], cores: int) -> float:
    """Seconds that Pillow takes, from the first process to the last picture."""
    start = time.perf_counter()
    chunks = [files[first : first + 500] for first in range(0, len(files), 500)]
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        done = sum(pool.imap(decode, chunks))
    assert done == len(files)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if not (args.out / "images").exists():
        draw(args.out, args.pictures, args.side)
    folder = args.out / "images"
    encoded = list_pictures(folder, walk(folder), by_place=False).encoded
    files = [encoded.name(row) for row in range(len(encoded))]
    cores = len(os.sched_getaffinity(0))
    seconds: dict[str, list[float]] = {"pillow": [], "look": [], "look with record": []}
    decode(files)  # all files are in the page cache
    for _ in range(args.rounds):
        seconds["pillow"].append(pillow(files, cores))
        for name in ("look", "look with record"):
            record = Record(args.out / "record.jsonl") if "record" in name else None
            (args.out / "record.jsonl").unlink(missing_ok=True)
            start = time.perf_counter()
            found = look(encoded, decode=True, record=record, workers=cores)
            seconds[name].append(time.perf_counter() - start)
            assert not found.faults
    rates = {name: len(files) / min(times) for name, times in seconds.items()}
    result = {
        "pictures": len(files),
        "side": args.side,
        "cores": cores,
        "seconds": seconds,
        "pictures_per_second": rates,
        "share_of_pillow": {n: rate / rates["pillow"] for n, rate in rates.items()},
    }
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
