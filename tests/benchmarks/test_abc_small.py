"""AbC on a small model: what it is made of, and its measures."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.abc_small import frontier
from benchmarks.abc_small.__main__ import SETTINGS, SHOWN
from benchmarks.abc_small.concepts import COUNTS, DRAWN, concepts, draw, is_tuning
from benchmarks.abc_small.measures import (
    MEASURES,
    Customisation,
    Found,
    best_damping,
    measured,
)
from benchmarks.abc_small.report import NAMES, RIVALS
from ctrak_jax import config
from ctrak_jax.config.rules import OF_ABC
from ctrak_jax.data.avatars.styles import STYLES


def test_what_the_model_is_customised_to():
    """A third is for the settings, of either kind and every number of exemplars alike."""
    every = list(concepts())
    kept = [concept for concept in every if not is_tuning(concept)]
    assert (len(every), len(kept)) == (36, 24)
    assert len({concept.style for concept in every}) == 36
    assert not {concept.style for concept in every} & set(STYLES)
    assert set(Counter((c.kind, c.exemplars) for c in kept).values()) == {2}
    assert {c.exemplars for c in kept} == set(COUNTS)


@pytest.mark.parametrize("kind", DRAWN)
def test_pictures_of_a_concept_differ_and_are_drawn_again_alike(kind):
    pytest.importorskip("dicebear", reason="needs the extra avatars")
    concept = next(one for one in concepts() if one.kind == kind)
    first, second, again = (np.asarray(draw(concept, number)) for number in (0, 1, 0))
    assert first.shape == (32, 32, 3)
    assert (first == again).all()
    assert (first != second).any()


def test_the_settings_name_what_the_tables_show():
    found = config.load(SETTINGS)
    assert {*found.compared, "default", "unlearning"} == set(NAMES)
    assert {*RIVALS, *SHOWN} <= set(found.methods)
    assert found.controls == OF_ABC
    assert frontier.CENTRE.of(found.trajectory) == found.trajectory


def test_points_of_the_frontier_differ_from_the_centre():
    found = config.load(SETTINGS).trajectory
    points = list(frontier.points())
    assert len({point.name for point in points}) == len(points)
    for point in points:
        made = point.of(found)
        assert (made.recorded, made.kept) == (9, point.timesteps)
        differing = [a for a, b in zip(point, frontier.CENTRE, strict=True) if a != b]
        assert len(differing) <= 2


def test_questions_about_one_customisation_are_one_value():
    """Two questions about the first: its exemplar is the second of four, then the first."""
    one, two = Customisation("one", "style", 1), Customisation("two", "object", 2)
    own = [np.array([2.0]), np.array([9.0]), np.array([1.0, 2.0, 3.0])]  # the last has a decoy
    others = np.tile(np.concatenate([[3.0, 0.0], np.full(98, -1.0)]), (3, 1))
    found = measured([one, one, two], own, others)
    assert found.customisations == (one, two)
    np.testing.assert_allclose(found.of("recall@5"), [1.0, 1.0])
    # Ranks 2 and 1; then 3 and 4, behind the decoy and one of the others.
    np.testing.assert_allclose(found.of("mAP"), [0.75, (1 / 3 + 2 / 4) / 2])


def test_the_damping_is_the_best_by_recall_then_precision_then_the_largest():
    def found(recall: float, precision: float) -> Found:
        values = np.zeros((1, len(MEASURES)))
        values[0, MEASURES.index("recall@10")] = recall
        values[0, MEASURES.index("mAP")] = precision
        return Found((Customisation("one", "style", 1),), values)

    assert best_damping({1.0: found(0.5, 0.9), 2.0: found(0.6, 0.1)}) == 2.0
    assert best_damping({1.0: found(0.5, 0.9), 2.0: found(0.5, 0.1)}) == 1.0
    assert best_damping({1.0: found(0.5, 0.1), 3.0: found(0.5, 0.1), 2.0: found(0.5, 0.1)}) == 3.0
