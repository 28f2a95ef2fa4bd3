"""A data set of photographs: 10,080 toned patches of the pictures that scikit-image ships.

    pip install --no-deps scikit-image        (its files are read, nothing of it is imported)
    python -m benchmarks.photographs --out data/photographs [--per-combination 42] [--seed 0]

Attributes: motif (which photograph), tint (one colour cast over its lightness, since some of the
photographs are gray), style (plain, framed, blurred, posterized). A patch is cut at random in
place, scale and mirror, so that no two are alike; patches with too little in them are cut again.
A picture is a function of (seed, index) alone. Its settings: benchmarks/photographs.yaml.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.drawing import command
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError, pip_install

SIZE = 32
LEAST_CONTRAST = 18.0
"""Standard deviation of a patch's lightness, of 255, below which it is cut again."""
ATTEMPTS = 1000
LEVELS = 3
"""Of a posterized picture."""
BLUR = 1.4
"""Radius in pixels."""
FRAME = 3
"""Width in pixels."""


class Photograph(NamedTuple):
    """A file of scikit-image: its caption, the sides of patches in pixels, whose it is."""

    file: str
    caption: str
    sides: tuple[float, float]
    credit: str


MOTIFS = {
    "astronaut": Photograph(
        "astronaut.png", "an astronaut", (150, 260), "NASA (Eileen Collins), public domain"
    ),
    "brick": Photograph("brick.png", "brick", (90, 180), "CC0Textures, Bricks25, CC0"),
    "cat": Photograph("chelsea.png", "a cat", (110, 200), "Stefan van der Walt, CC0"),
    "coffee": Photograph("coffee.png", "coffee", (150, 280), "Rachel Michetti, CC0"),
    "coins": Photograph(
        "coins.png", "coins", (80, 140), "Brooklyn Museum, no known copyright restrictions"
    ),
    "galaxies": Photograph(
        "hubble_deep_field.jpg", "galaxies", (70, 140), "NASA (HubbleSite), public domain"
    ),
    "grass": Photograph("grass.png", "grass", (50, 100), "linolafett (DeviantArt), CC0"),
    "gravel": Photograph("gravel.png", "gravel", (50, 100), "CC0Textures, Gravel04, CC0"),
    "rocket": Photograph("rocket.jpg", "a rocket", (150, 300), "SpaceX (DSCOVR), public domain"),
    "tissue": Photograph(
        "ihc.png", "tissue", (110, 220), "CMMI, FHL2 staining, no known copyright restrictions"
    ),
}

TINTS = {
    "red": (230, 60, 50),
    "amber": (235, 170, 40),
    "green": (60, 180, 80),
    "blue": (50, 110, 230),
    "violet": (165, 70, 220),
    "gray": (150, 150, 150),
}

STYLES = ("plain", "framed", "blurred", "posterized")


def cut(photo: Image.Image, sides: tuple[float, float], rng: np.random.Generator) -> Image.Image:
    """A patch of a gray photograph, 32x32, mirrored or not, its lightness stretched to 0..255.

    Raises:
        RuntimeError: no patch has enough contrast.
    """
    for _ in range(ATTEMPTS):
        side = rng.uniform(*sides)
        left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
        box = (left, top, left + side, top + side)
        small = photo.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)
        light = np.asarray(small, float)[:, :: rng.choice((-1, 1))]
        if light.std() >= LEAST_CONTRAST:
            low, high = np.percentile(light, (1, 99))
            stretched = np.clip((light - low) / (high - low), 0, 1)
            return Image.fromarray(np.rint(255 * stretched).astype(np.uint8))
    raise RuntimeError(f"no patch of sides {sides} has contrast {LEAST_CONTRAST}.")


def develop(patch: Image.Image, tint: str, style: str) -> np.ndarray:
    """A gray patch in a style and a tint: uint8 [32, 32, 3]."""
    if style == "blurred":
        patch = patch.filter(ImageFilter.GaussianBlur(BLUR))
    light = np.asarray(patch, float)[..., None] / 255
    if style == "posterized":
        light = np.minimum(np.floor(light * LEVELS), LEVELS - 1) / (LEVELS - 1)
    cast = np.array(TINTS[tint], float)
    dark, bright = 0.2 * cast, 0.6 * cast + 0.4 * 255
    image = dark + light * (bright - dark)
    if style == "framed":
        inner = image[FRAME:-FRAME, FRAME:-FRAME].copy()
        image[:] = bright
        image[FRAME:-FRAME, FRAME:-FRAME] = inner
    return np.rint(image).astype(np.uint8)


def caption(values: Mapping[str, str]) -> str:
    """``a plain blue photograph of a cat``."""
    shown = MOTIFS[values["motif"]].caption
    return f"a {values['style']} {values['tint']} photograph of {shown}"


def draw_photographs(out: Path, per_combination: int = 42, seed: int = 0) -> None:
    """Cut the data set into a folder.

    Raises:
        UsageError: scikit-image is missing.
    """
    try:
        package = distribution("scikit-image")
    except PackageNotFoundError:
        raise UsageError(
            "photographs are cut from those of scikit-image, which is not installed; "
            f"run {pip_install('--no-deps', 'scikit-image')}."
        ) from None
    photos = {
        motif: Image.open(str(package.locate_file(f"skimage/data/{photo.file}"))).convert("L")
        for motif, photo in MOTIFS.items()
    }
    rows = [
        {"motif": motif, "tint": tint, "style": style}
        for motif, tint, style, _ in product(MOTIFS, TINTS, STYLES, range(per_combination))
    ]
    images = np.empty((len(rows), SIZE, SIZE, 3), np.uint8)
    for index, values in enumerate(rows):
        motif, rng = values["motif"], np.random.default_rng((seed, index))
        patch = cut(photos[motif], MOTIFS[motif].sides, rng)
        images[index] = develop(patch, values["tint"], values["style"])
    raw = RawImages(
        name="photographs",
        images=images,
        attributes={name: tuple(values[name] for values in rows) for name in rows[0]},
        prompts=tuple(caption(values) for values in rows),
        meta={
            "source": "patches of the pictures of scikit-image (https://scikit-image.org)",
            "licence": "by photograph, see credits; all public domain or without restrictions",
            "credits": {photo.file: photo.credit for photo in MOTIFS.values()},
            "drawn_by": {
                "per_combination": per_combination,
                "seed": seed,
                "scikit-image": package.version,
            },
        },
    )
    write_folder(raw, out)


if __name__ == "__main__":
    command(__doc__, draw_photographs)
