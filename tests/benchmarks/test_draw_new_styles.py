"""The portraits for a LoRA: what their labels say is what their pictures show."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from benchmarks import draw_new_styles as portraits
from benchmarks.draw_new_styles import NEW, VALUES
from ctrak_jax.data.avatars import draw as avatars

for package in ("dicebear", "dicebear_styles", "resvg_py"):
    pytest.importorskip(package, reason="needs the extra avatars")

VISIBLE = {"hair": 0.02, "skin": 0.02, "background": 0.2}
"""Share of the pixels that must change with the label."""


def test_every_combination_is_there_once():
    rows = list(portraits.combinations())
    assert len(rows) == 420 == len({tuple(values.values()) for values in rows})
    assert set(Counter(values["style"] for values in rows).values()) == {60}


def test_the_new_styles_are_the_first_that_have_both_colours():
    """In the alphabet, of those that are not the avatars'."""
    from importlib.resources import files

    names = sorted(f.name.removesuffix(".json") for f in files("dicebear_styles").iterdir())
    names = [name for name in names if name not in avatars.STYLES and "_" not in name]
    has = [name for name in names if _colors(name) >= {"hair", "skin"}]
    assert has[:2] == list(NEW)


def _colors(name: str) -> set[str]:
    try:
        return set(avatars.definition(name).get("colors", {}))
    except FileNotFoundError:
        return set()


@pytest.mark.parametrize("style", NEW)
@pytest.mark.parametrize("attribute", VISIBLE)
def test_a_label_changed_under_the_same_seed_shows(style, attribute):
    values = {"style": style, "hair": "black", "skin": "light", "background": "sky"}
    for one, other in combinations(VALUES[attribute], 2):
        first, second = (
            portraits.draw(values | {attribute: value}, "seed").astype(int)
            for value in (one, other)
        )
        share = (np.abs(first - second).max(-1) > avatars.CHANGED).mean()
        assert share > VISIBLE[attribute], (one, other)


def test_a_picture_is_the_same_again_and_varies_with_the_seed():
    values = next(v for v in portraits.combinations() if v["style"] in NEW)
    first = portraits.draw_checked(values, 0)
    assert (first == portraits.draw_checked(values, 0)).all()
    assert (first != portraits.draw_checked(values, 1)).any()
