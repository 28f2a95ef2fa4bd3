"""Two folders of examples for ``ctrak reward fit``: training pictures that are red, and others.

    python -m benchmarks.example_folders configs/synthetic.yaml OUT

writes OUT/red and OUT/not-red, 60 pictures each, the first of a fixed random order of the training
set. Its questions, and the pictures they are about, play no part.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ctrak_jax import config, data

COUNT = 60
FOLDERS = {"red": "red", "blue": "not-red"}


def main() -> None:
    """Draw the pictures and save them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path, help="of drawn shapes")
    parser.add_argument("out", type=Path, help="gets the two folders")
    args = parser.parse_args()
    found = data.build(config.load(args.config, {}).data)
    order = np.random.default_rng(0).permutation(len(found.train_index))
    for color, name in FOLDERS.items():
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row for row in order if found.train_values[row]["color"] == color][:COUNT]
        for index in found.train_index[rows]:
            Image.fromarray(found.raw.images[index]).save(folder / f"{index:06d}.png")


if __name__ == "__main__":
    main()
