"""How large the images are that a model is trained on."""

from typing import NamedTuple

from ctrak_jax.errors import UsageError
from ctrak_jax.start.look import Facts

LARGEST = 32
"""Side in pixels that a CPU can train on; 64 pixels have four times as many tokens."""
SMALLEST = 8
PATCH = 4
"""Side of a patch: 16 tokens for shapes, 64 for avatars."""
ROWS = range(4, 17)
"""Patches along a side, where the side is given; 8 are best known."""
HALVED = 8
"""Sides of a text-to-image model are multiples of this."""


class Frame(NamedTuple):
    """The side of the images as the network sees them, whether they are resized to it, and the
    patches they are cut into."""

    side: int
    resize: bool
    why: str
    patch: int
    why_patch: str


def frame_of(facts: Facts, kind: str) -> Frame:
    """Images of at most 32 pixels; no image is made larger.

    Raises:
        UsageError: images are too small, or an array of them is not square or cannot be cut into
            patches.
    """
    multiple = HALVED if kind == "text-to-image" else PATCH
    smallest = min(map(min, facts.sizes))
    if smallest < SMALLEST:
        raise UsageError(
            f"{facts.folder}: an image has {smallest} pixels along a side, too few for a model; "
            f"give images of at least {SMALLEST}."
        )
    if not facts.resizable:
        return _given(facts, kind)
    side = min(LARGEST, smallest // multiple * multiple)
    why = (
        f"The largest side that a CPU trains in the time; the smallest image has {smallest}."
        if side == LARGEST
        else f"The smallest image has {smallest} pixels, a side is a multiple of {multiple}, and "
        "none is made larger."
    )
    return Frame(
        side=side,
        resize=facts.kind == "celeba" or set(facts.sizes) != {(side, side)},
        why=why,
        patch=PATCH,
        why_patch=f"Side of a patch: {(side // PATCH) ** 2} tokens per image.",
    )


def _given(facts: Facts, kind: str) -> Frame:
    """The side of an array of images, which is what it is."""
    ((width, height),) = facts.sizes
    advice = "write its images as files (images/*.png), which are cropped and resized"
    array = facts.folder / "images.npy"
    if width != height:
        raise UsageError(f"{array}: {width} x {height} pixels, expected squares; {advice}.")
    patches = [p for p in range(1, width + 1) if width % p == 0 and width // p in ROWS]
    if PATCH in patches and width <= LARGEST:
        patches = [PATCH]
    if not patches or (kind == "text-to-image" and width % HALVED):
        raise UsageError(
            f"{array}: {width} x {height} pixels, expected a multiple of {HALVED}; {advice}."
        )
    patch = min(patches, key=lambda p: abs(width // p - ROWS[-1] // 2))
    return Frame(
        side=width,
        resize=False,
        why="",
        patch=patch,
        why_patch=f"Side of a patch: {(width // patch) ** 2} tokens per image of {width} pixels.",
    )
