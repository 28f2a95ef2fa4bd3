"""The concepts that the model is customised to: pictures of DiceBear styles that it never saw.

A style is several characters of one drawing style. An object is one character, seen again on other
backgrounds, mirrored, larger or smaller, and turned a little. No two concepts share a drawing
style, and none is one of the six that the portraits have. A picture is a function of its concept
and its number alone.
"""

import io
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from ctrak_jax.data.avatars import draw as avatars
from ctrak_jax.data.avatars.styles import COLORS
from ctrak_jax.store.files import write_atomically

SIZE = 32
COUNTS = (1, 2, 3, 4, 6, 8)
"""Exemplars of a concept, in turns."""
Kind = Literal["style", "object"]
DRAWN: dict[Kind, tuple[str, ...]] = {
    "style": (
        *("adventurer", "big-ears", "big-smile", "bottts", "clay", "critters"),
        *("croodles", "cutouts", "dylan", "fun-emoji", "initial-face", "lorelei"),
        *("open-peeps", "planets", "sprouts", "thumbs", "toon-head", "identicon"),
    ),
    "object": (
        *("cameo", "gaze", "glyphs", "icons", "line-face", "marbles"),
        *("moods", "notionists", "pixelbot", "rings", "shadows", "shapes"),
        *("slice", "stack", "squircles", "voxel-bot", "weave", "bottts-neutral"),
    ),
}
"""Drawing styles, each of one concept. All are CC0 1.0, or free to use with credit."""
PROMPTS = {
    "style": (
        *("a {token} portrait", "a {token} portrait with red hair"),
        "a {token} portrait on a mint background",
    ),
    "object": (
        *("{token} portrait", "{token} portrait with glasses"),
        "{token} portrait on a rose background",
    ),
}
"""The first is also the one that exemplars are trained under."""


class Drawn(NamedTuple):
    """A concept: its kind, the drawing style, its number of exemplars."""

    kind: Kind
    style: str
    exemplars: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.style}"


def concepts() -> Iterator[Drawn]:
    """All of them: styles, then objects."""
    for kind, styles in DRAWN.items():
        for number, style in enumerate(styles):
            yield Drawn(kind, style, COUNTS[number % len(COUNTS)])


def is_tuning(concept: Drawn) -> bool:
    """Is it one of the third that settings are chosen on, and that is not reported? As many of
    every number of exemplars."""
    return DRAWN[concept.kind].index(concept.style) // len(COUNTS) == 0


def options(concept: Drawn, number: int) -> dict[str, Any]:
    """What DiceBear is asked for, for a concept's picture."""
    if concept.kind == "style":
        return {"seed": f"exemplar {number}"}
    rng = np.random.default_rng((list(concepts()).index(concept), number))
    background = list(COLORS["background"].values())[number % 4]
    return {
        "seed": "exemplar 0",
        "backgroundColor": [background],
        "flip": str(rng.choice(["none", "horizontal"])),
        "scale": float(rng.uniform(0.8, 1.1)),
        "rotate": float(rng.uniform(-15, 15)),
    }


def draw(concept: Drawn, number: int) -> Image.Image:
    """A concept's picture, SIZE x SIZE, on white where it is transparent."""
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    svg = Avatar(_style(concept.style), options(concept, number)).to_string()
    png = svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def write_concepts(out: Path, wanted: list[Drawn]) -> Path:
    """The pictures, and the list that ``ctrak customise`` reads.

    Returns:
        The list.

    Raises:
        UsageError: the packages of the extra ``avatars`` are missing.
    """
    versions = {package: avatars.installed(package) for package in avatars.PACKAGES}
    rows = []
    for concept in wanted:
        names = [f"{concept.name}/{number}.png" for number in range(concept.exemplars)]
        for number, name in enumerate(names):
            if not (out / name).exists():
                content = io.BytesIO()
                draw(concept, number).save(content, "PNG")
                write_atomically(out / name, content.getvalue())
        train_prompt, *_ = prompts = PROMPTS[concept.kind]
        row = {"name": concept.name, "kind": concept.kind, "pictures": names}
        rows.append(row | {"train_prompt": train_prompt, "prompts": prompts})
    credits = {c.style: avatars.credit(c.style) for c in wanted}
    write_atomically(out / "meta.json", json.dumps({"drawn_by": versions, "credits": credits}))
    write_atomically(out / "concepts.json", json.dumps(rows, indent=1))
    return out / "concepts.json"


@lru_cache
def _style(name: str) -> Any:
    from dicebear import Style

    return Style(avatars.definition(name))
