"""A folder for a LoRA: 420 portraits, 120 of them in two styles that the avatars do not have.

    python -m benchmarks.draw_new_styles --out data/new-styles [--seed 0]

Drawn with DiceBear (extra ``avatars``). The new styles are the first two in the alphabet of those
that have colours for hair and for skin and are none of the six (adventurer, big-ears); the known
ones are all but voxel-art, of which configs/text_to_image.yaml holds a part out. Each of the seven
styles has every combination of hair, skin and background once; nobody has glasses or a beard. A
picture is a function of (seed, values) alone. Its settings: configs/lora.yaml.
"""

import argparse
import io
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ctrak_jax.data import write_folder
from ctrak_jax.data.avatars import draw as avatars
from ctrak_jax.data.avatars.styles import ATTRIBUTES, COLORS, caption
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError

SIZE = 32
KNOWN = ("avataaars", "micah", "miniavs", "personas", "pixel-art")
NEW: dict[str, dict[str, Any]] = {
    "adventurer": {"glassesProbability": 0, "hairProbability": 100},
    "big-ears": {},
}
"""The new styles, with options that all their pictures have."""
VALUES: dict[str, tuple[str, ...]] = {
    "style": (*KNOWN, *NEW),
    **{name: ATTRIBUTES[name] for name in ("hair", "skin", "background")},
}
ABSENT = {"glasses": "no", "beard": "no"}
HAIR_SHOWS = 0.03
"""Share of the pixels that must change with the colour of the hair, as for the avatars."""
ATTEMPTS = 50


def combinations() -> Iterator[dict[str, str]]:
    """Every combination of values, the last attribute fastest."""
    for values in product(*VALUES.values()):
        yield dict(zip(VALUES, values, strict=True))


def draw(values: Mapping[str, str], seed: str) -> np.ndarray:
    """One portrait, uint8 [32, 32, 3]; the seed decides what the values leave open."""
    if values["style"] in KNOWN:
        return avatars.draw({**values, **ABSENT}, seed, SIZE)
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    colors = {f"{name}Color": COLORS[name][values[name]] for name in COLORS}
    svg = Avatar(_style(values["style"]), {"seed": seed} | NEW[values["style"]] | colors)
    png = svg_to_bytes(svg_string=svg.to_string(), width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def draw_checked(values: Mapping[str, str], seed: int) -> np.ndarray:
    """The portrait of a combination, drawn again until its hair shows."""
    known = VALUES["hair"]
    other = known[(known.index(values["hair"]) + 1) % len(known)]
    for attempt in range(ATTEMPTS):
        name = f"{seed}/{'/'.join(values.values())}/{attempt}"
        picture = draw(values, name)
        changed = np.abs(picture.astype(int) - draw({**values, "hair": other}, name)).max(-1)
        if (changed > avatars.CHANGED).mean() > HAIR_SHOWS:
            return picture
    raise RuntimeError(f"{values}: no picture shows its hair in {ATTEMPTS} attempts.")


def draw_new_styles(out: Path, seed: int = 0) -> None:
    """Draw the data set into a folder.

    Raises:
        UsageError: the packages of the extra ``avatars`` are missing, or ``out`` holds pictures.
    """
    if (out / "images.npy").exists():
        raise UsageError(f"{out}: holds a data set already; give another --out, or delete it.")
    made_by = {package: avatars.installed(package) for package in avatars.PACKAGES}
    rows = list(combinations())
    portraits = RawImages(
        name="new styles",
        images=np.stack([draw_checked(values, seed) for values in rows]),
        attributes={name: tuple(values[name] for values in rows) for name in VALUES},
        prompts=tuple(caption({**values, **ABSENT}) for values in rows),
        meta={
            "source": "drawn with DiceBear (https://www.dicebear.com)",
            "licence": "by style, see credits",
            "credits": {name: avatars.credit(name) for name in VALUES["style"]},
            "drawn_by": {"seed": seed} | made_by,
        },
    )
    write_folder(portraits, out)


@lru_cache
def _style(name: str) -> Any:
    from dicebear import Style

    return Style(avatars.definition(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        draw_new_styles(asked.out, asked.seed)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
