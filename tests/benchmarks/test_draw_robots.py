"""The robots: what their labels say is what their pictures show."""

from itertools import combinations, product

import numpy as np
import pytest

from benchmarks import draw_robots as robots
from benchmarks.draw_robots import VALUES

for package in ("dicebear", "dicebear_styles", "resvg_py"):
    pytest.importorskip(package, reason="needs the extra avatars")

VISIBLE = {"color": 0.1, "head": 0.01, "eyes": 0.01, "top": 0.008, "background": 0.2}
"""Share of the pixels that must change with the label."""
CHANGED = 24


def test_options_are_ones_the_style_knows():
    """An unknown variant would be left out without a word."""
    components = robots._definition()["components"]
    for name in VALUES.keys() - robots.OPTIONS.keys():
        assert set(VALUES[name].values()) <= set(components[name]["variants"])


@pytest.mark.parametrize("attribute", VALUES)
def test_a_label_changed_under_the_same_seed_shows(attribute):
    rng = np.random.default_rng(0)
    for number, (one, other) in enumerate(combinations(VALUES[attribute], 2)):
        values = {name: str(rng.choice(list(known))) for name, known in VALUES.items()}
        first, second = (
            robots.draw(values | {attribute: value}, f"seed {number}").astype(int)
            for value in (one, other)
        )
        share = (np.abs(first - second).max(-1) > CHANGED).mean()
        assert share > VISIBLE[attribute], (values, one, other)


def test_pictures_are_the_same_again_and_vary_with_the_seed():
    values = next(robots.combinations())
    first = robots.draw(values, "1")
    assert (first == robots.draw(values, "1")).all()
    assert any((first != robots.draw(values, str(seed))).any() for seed in range(2, 5))


def test_captions_say_every_value():
    captions = set()
    for values in robots.combinations():
        words = robots.caption(values).replace(",", "").split()
        assert all(words.count(value) == 1 for value in values.values())
        captions.add(" ".join(words))
    assert len(captions) == len(list(product(*VALUES.values())))
