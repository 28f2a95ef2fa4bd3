"""Rankings that cost nothing: closed forms, and random numbers that belong to a candidate."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ctrak_jax.attribution import references
from ctrak_jax.attribution.references import cosines, label_matches, negative_distances, untied

INDEX = np.random.default_rng(0).permutation(5000)[:600]
VECTORS = np.random.default_rng(1).standard_normal((40, 12)).astype(np.float32)


def places(index: np.ndarray = INDEX, *, seed: int = 0, question: str = "a") -> np.ndarray:
    return references.random_places(seed, question, index)


def test_random_places_are_evenly_spaced_whatever_the_question():
    wanted = (np.arange(len(INDEX)) + 0.5) / len(INDEX)
    for question in ("a", "b"):
        np.testing.assert_allclose(np.sort(places(question=question)), wanted, rtol=1e-6)


def test_the_order_of_the_candidates_changes_no_place():
    order = np.random.default_rng(2).permutation(len(INDEX))
    np.testing.assert_array_equal(places(INDEX[order]), places()[order])


def test_candidates_keep_their_order_among_others():
    kept = np.flatnonzero(np.random.default_rng(3).random(len(INDEX)) < 0.3)
    alone, among = places(INDEX[kept]), places()[kept]
    np.testing.assert_array_equal(np.argsort(alone), np.argsort(among))


@pytest.mark.parametrize("other", [{"seed": 1}, {"question": "b"}])
def test_orders_of_other_seeds_and_questions_are_unrelated(other):
    """A correlation of 600 independent pairs has a standard deviation of 1 / sqrt(599)."""
    assert abs(np.corrcoef(places(), places(**other))[0, 1]) < 5 / np.sqrt(599)


def test_a_random_order_does_not_follow_the_index():
    sorted_index = np.sort(INDEX)
    assert abs(np.corrcoef(places(sorted_index), sorted_index)[0, 1]) < 5 / np.sqrt(599)


def test_labels_put_every_match_before_every_other_candidate():
    named = np.eye(4, dtype=np.float32)[np.arange(600) % 4]
    found = label_matches(named, np.array([0, 0, 1, 0], np.float32), places())
    match = np.arange(600) % 4 == 2
    assert found[match].min() > 1 > references.SPACING > found[~match].max()
    np.testing.assert_allclose(found, match, atol=references.SPACING)
    np.testing.assert_array_equal(np.argsort(found[match]), np.argsort(places()[match]))


def test_labels_are_a_random_order_where_no_condition_names_the_attribute():
    found = label_matches(
        np.zeros((600, 4), np.float32), np.array([0, 0, 1, 0], np.float32), places()
    )
    np.testing.assert_array_equal(np.argsort(found), np.argsort(places()))


@pytest.mark.parametrize("count", [600, 2**17])
def test_no_two_candidates_of_one_label_are_equal(count):
    found = label_matches(
        np.ones((count, 1), np.float32), np.array([1], np.float32), places(np.arange(count))
    )
    assert len(np.unique(found)) == count


@pytest.mark.parametrize("offset", [-2.0, -0.5, 0.0, 0.3])
def test_ties_are_broken_by_the_places_and_no_other_order_changes(offset):
    steps = np.random.default_rng(4).integers(0, 5, 600)
    scores = (offset + 0.25 * steps).astype(np.float32)
    found = untied(scores, places())
    assert len(np.unique(found)) == 600
    np.testing.assert_array_equal(np.argsort(found), np.lexsort((places(), steps)))
    np.testing.assert_allclose(found, scores, atol=1e-4)


def test_scores_without_ties_stay_as_they_are():
    scores = np.random.default_rng(5).standard_normal(600).astype(np.float32)
    np.testing.assert_array_equal(untied(scores, places()), scores)


@pytest.mark.parametrize(
    ("measure", "metric", "sign"),
    [(negative_distances, "euclidean", -1), (lambda a, b: cosines(a, b) - 1, "cosine", -1)],
)
def test_measures_are_those_of_scipy(measure, metric, sign):
    found = measure(VECTORS[:7], VECTORS)
    np.testing.assert_allclose(found, sign * cdist(VECTORS[:7], VECTORS, metric), atol=1e-6)


def test_the_distance_of_equal_vectors_is_nothing():
    far = 1e3 + VECTORS
    assert np.abs(np.diag(negative_distances(far, far))).max() < 1e-3


def test_distances_in_small_groups_are_the_same(monkeypatch):
    whole = negative_distances(VECTORS, VECTORS)
    monkeypatch.setattr(references, "GROUP_BYTES", 8 * 12 * 3)
    np.testing.assert_allclose(negative_distances(VECTORS, VECTORS), whole, atol=1e-6)


def test_the_cosine_with_nothing_is_zero():
    assert cosines(np.zeros((1, 3), np.float32), np.ones((2, 3), np.float32)).tolist() == [[0, 0]]
