"""What an avatar can be, and how each style of DiceBear is configured for it.

Only parts that show are allowed: hair cuts that cover enough of the picture for their colour to be
seen, and beards larger than stubble.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "style": ("avataaars", "micah", "miniavs", "personas", "pixel-art", "voxel-art"),
    "hair": ("black", "blond", "red", "blue", "white"),
    "skin": ("light", "medium", "dark"),
    "glasses": ("no", "yes"),
    "beard": ("no", "yes"),
    "background": ("sky", "cream", "rose", "mint"),
}
"""The attributes with their values, in the order of the table and of the images."""

COLORS: dict[str, dict[str, str]] = {
    "hair": {
        "black": "1c1a1a",
        "blond": "f0c648",
        "red": "c8321e",
        "blue": "2f62d9",
        "white": "f4f4f4",
    },
    "skin": {"light": "f7d0b2", "medium": "c98a4b", "dark": "6b3f27"},
    "background": {"sky": "b9dcff", "cream": "fff0b8", "rose": "ffc6d6", "mint": "bdeccb"},
}
"""RRGGBB of the values that are colours."""


class Style(NamedTuple):
    """How a style takes the attributes."""

    fixed: dict[str, Any]
    """Options that every picture of the style has."""
    hair_colors: tuple[str, ...] = ("hair", "facialHair")
    skin_color: str = "skin"
    glasses: str | None = "glasses"
    """The component that is drawn or left out; ``None``: variants of another component."""
    beard: str = "facialHair"
    fix: tuple[str, str] | None = None
    """(text, replacement) in the SVG, where the renderer would hide a label."""


STYLES: dict[str, Style] = {
    "avataaars": Style(
        glasses="accessories",
        fixed={
            "topVariant": [
                *("bigHair", "bob", "bun", "curly", "curvy", "dreads", "dreads01", "dreads02"),
                *("frizzle", "fro", "longButNotTooLong", "miaWallace", "shaggy", "shaggyMullet"),
                *("shortCurly", "shortFlat", "shortRound", "shortWaved", "straight01"),
                *("straight02", "straightAndStrand"),
            ],
            "accessoriesVariant": [
                *("kurt", "prescription01", "prescription02"),
                *("round", "sunglasses", "wayfarers"),
            ],
            "facialHairVariant": [
                *("beardMajestic", "beardMedium", "moustacheFancy", "moustacheMagnum"),
            ],
        },
    ),
    "micah": Style(
        skin_color="base",
        fixed={
            "hairVariant": ["dannyPhantom", "fonze", "full", "mrT", "pixie"],
            "facialHairVariant": "beard",
            "earringsProbability": 0,
        },
    ),
    "miniavs": Style(
        hair_colors=("hair",),
        beard="mustache",
        fixed={
            "hairVariant": [
                *("classic01", "classic02", "curly", "elvis", "long", "ponyTail", "stylish"),
            ],
        },
    ),
    "personas": Style(
        glasses=None,
        fixed={
            "hairVariant": [
                *("bobBangs", "bobCut", "bunUndercut", "curly", "curlyBun", "curlyHighTop"),
                *("extraLong", "long", "mohawk", "pigtails", "shortCombover"),
                *("shortComboverChops", "sideShave", "straightBun"),
            ],
            "facialHairVariant": ["beardMustache", "goatee", "pyramid", "walrus"],
            "mouthVariant": ["bigSmile", "frown", "lips", "smile", "smirk", "surprise"],
        },
        # In a masked group the light on the face is laid over the skin in white instead of blended
        # with it: dark skin would be gray.
        fix=('<g mask="url(#personas-a)">', "<g>"),
    ),
    "pixel-art": Style(
        hair_colors=("hair",),
        beard="beard",
        fixed={"hatProbability": 0, "accessoriesProbability": 0},
        # A dark beard in a luminance mask would be invisible.
        fix=("mask-type:luminance", "mask-type:alpha"),
    ),
    "voxel-art": Style(
        hair_colors=("hair",),
        beard="beard",
        fixed={
            "topVariant": [
                *("short", "spiky", "bowl", "sideSwept", "curly", "buns", "ponytail", "bob"),
                *("shoulderLength", "longStraight", "longWavy", "partedLong", "braids"),
                *("twinTails", "afro"),
            ],
            "topProbability": 100,
            "beardVariant": ["full", "goatee", "mustache"],
            "animationProbability": 0,
        },
    ),
}

PERSONAS_EYES = {"no": ["happy", "open", "sleep", "wink"], "yes": ["glasses", "sunglasses"]}
"""Eye variants of personas without and with glasses."""


def options(values: Mapping[str, str], seed: str) -> dict[str, Any]:
    """DiceBear's options of one avatar, by a value of every attribute.

    ``seed`` decides what they leave open (cut, eyes, mouth, clothes); the same seed with one value
    changed keeps the rest.
    """
    style = STYLES[values["style"]]
    colors = {f"{name}Color": COLORS["hair"][values["hair"]] for name in style.hair_colors}
    colors[f"{style.skin_color}Color"] = COLORS["skin"][values["skin"]]
    colors["backgroundColor"] = COLORS["background"][values["background"]]
    if style.glasses is None:
        glasses: dict[str, Any] = {"eyesVariant": PERSONAS_EYES[values["glasses"]]}
    else:
        glasses = {f"{style.glasses}Probability": _percent(values["glasses"])}
    beard = {f"{style.beard}Probability": _percent(values["beard"])}
    return {"seed": seed} | style.fixed | colors | glasses | beard


def _percent(value: str) -> int:
    return 100 if value == "yes" else 0


def caption(values: Mapping[str, str]) -> str:
    """``a pixel-art portrait with red hair, dark skin, glasses and a beard on a mint background``.

    What is absent (no glasses, no beard) is not mentioned.
    """
    parts = [f"{values['hair']} hair", f"{values['skin']} skin"]
    parts += ["glasses"] * (values["glasses"] == "yes") + ["a beard"] * (values["beard"] == "yes")
    article = "an" if values["style"][0] in "aeiou" else "a"
    shown = f"{', '.join(parts[:-1])} and {parts[-1]}"
    return (
        f"{article} {values['style']} portrait with {shown} on a {values['background']} background"
    )
