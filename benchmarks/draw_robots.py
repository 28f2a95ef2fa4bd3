"""A data set of robots: 8,640 drawings with five attributes, in a style the avatars do not have.

    python -m benchmarks.draw_robots --out data/robots [--per-combination 3] [--seed 0]

Drawn with DiceBear's style bottts (extra ``avatars``): color of the body, shape of the head, eyes,
what is on top, background. Every combination is drawn equally often; mouth, sides and texture vary.
A picture is a function of (seed, values, number) alone. Its settings: benchmarks/robots.yaml.
"""

import io
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.drawing import command
from ctrak_jax.data import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError, pip_install

STYLE = "bottts"
SIZE = 32
PACKAGES = ("dicebear-core", "dicebear-styles", "resvg-py")

VALUES: dict[str, dict[str, str]] = {
    "color": {
        "red": "b3261e",
        "yellow": "e2b420",
        "green": "3fa447",
        "blue": "2b6fdc",
        "purple": "8d4fc9",
        "gray": "8c8f96",
    },
    "head": {"round": "round02", "square": "square01", "tapered": "square03", "domed": "square04"},
    "eyes": {
        "googly": "bulging",
        "goggle": "eva",
        "heart": "hearts",
        "visor": "shade01",
        "screen": "frame2",
        "crossed": "dizzy",
    },
    "top": {
        "antenna": "antenna",
        "bulb": "glowingBulb01",
        "horns": "horns",
        "spike": "pyramid",
        "dish": "radar",
    },
    "background": {"mint": "8fd8bd", "sand": "f0dfbd", "lilac": "cdbbf2", "night": "1f2747"},
}
"""By attribute, each value with the RRGGBB or the variant of DiceBear that shows it."""

OPTIONS = {"color": "baseColor", "background": "backgroundColor"}
"""Attributes that are colours; the others are variants of the component of their name."""


def combinations() -> Iterator[dict[str, str]]:
    """Every combination of values, the last attribute fastest."""
    for values in product(*VALUES.values()):
        yield dict(zip(VALUES, values, strict=True))


def draw(values: Mapping[str, str], seed: str) -> np.ndarray:
    """One robot, uint8 [32, 32, 3]; the seed decides mouth, sides and texture."""
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    shown = {OPTIONS.get(name, f"{name}Variant"): VALUES[name][values[name]] for name in VALUES}
    svg = Avatar(_style(), {"seed": seed} | shown).to_string()
    png = svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def caption(values: Mapping[str, str]) -> str:
    """``a red robot with a round head, googly eyes and an antenna on a sand background``."""
    top = values["top"]
    article = {"horns": "", "antenna": "an "}.get(top, "a ")
    return (
        f"a {values['color']} robot with a {values['head']} head, {values['eyes']} eyes and "
        f"{article}{top} on a {values['background']} background"
    )


def draw_robots(out: Path, per_combination: int = 3, seed: int = 0) -> None:
    """Draw the data set into a folder, on all cores.

    Raises:
        UsageError: the packages of the extra ``avatars`` are missing.
    """
    made_by = {package: _installed(package) for package in PACKAGES}
    rows = [(values, number) for values in combinations() for number in range(per_combination)]
    seeds = [f"{seed}/{'/'.join(values.values())}/{number}" for values, number in rows]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        images = list(pool.map(draw, [values for values, _ in rows], seeds, chunksize=64))
    licence = _definition()["meta"]["license"]
    robots = RawImages(
        name="robots",
        images=np.stack(images),
        attributes={name: tuple(values[name] for values, _ in rows) for name in VALUES},
        prompts=tuple(caption(values) for values, _ in rows),
        meta={
            "source": "drawn with DiceBear (https://www.dicebear.com)",
            "licence": licence["name"],
            "credits": {STYLE: {key: licence[key] for key in ("name", "url", "text")}},
            "drawn_by": {"per_combination": per_combination, "seed": seed} | made_by,
        },
    )
    write_folder(robots, out)


@lru_cache
def _style() -> Any:
    from dicebear import Style

    return Style(_definition())


def _definition() -> dict[str, Any]:
    return json.loads(files("dicebear_styles").joinpath(f"{STYLE}.json").read_text("utf-8"))


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise UsageError(
            f"drawing robots needs the package {package}, which is not installed; "
            f"run {pip_install('ctrak-jax[avatars]')}."
        ) from None


if __name__ == "__main__":
    command(__doc__, draw_robots)
