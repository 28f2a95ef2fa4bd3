"""Precision, percentiles and intervals against brute force, closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ctrak_jax.metrics import (
    bootstrap_mean,
    hidden_found,
    label_shift,
    precision_at_k,
    rank_percentiles,
    recall_at_k,
)

# precision@k


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(1, 12))
def test_precision_is_the_share_of_relevant_ones_counted_by_hand(data, n):
    ranked = data.draw(st.permutations(range(n)))
    relevant = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    hits = 0
    for sample in ranked[:k]:
        if relevant[sample]:
            hits += 1
    assert precision_at_k(np.array(ranked), np.array(relevant), k) == pytest.approx(hits / k)


def test_all_ranked_gives_the_base_rate():
    relevant = np.random.default_rng(0).random(40) < 0.3
    ranked = np.random.default_rng(1).permutation(40)
    assert precision_at_k(ranked, relevant, 40) == pytest.approx(relevant.mean())


def test_ranked_numbers_are_samples_not_places():
    relevant = np.zeros(100, bool)
    relevant[[7, 93]] = True
    assert precision_at_k(np.array([93, 1, 7]), relevant, 1) == 1.0
    assert precision_at_k(np.array([1, 93, 7]), relevant, 1) == 0.0


@pytest.mark.parametrize("k", [0, -1, 4])
def test_a_depth_that_is_not_ranked_is_refused(k):
    with pytest.raises(ValueError, match=f"precision@{k}"):
        precision_at_k(np.arange(3), np.ones(3, bool), k)


# recall@k and hidden carriers


def test_recall_is_the_share_of_the_relevant_ones_found():
    relevant = np.array([True, False, True, False, True])
    ranked = np.array([4, 1, 0, 3, 2])
    assert [recall_at_k(ranked, relevant, k) for k in (1, 2, 3, 5)] == [1 / 3, 1 / 3, 2 / 3, 1.0]
    with pytest.raises(ValueError, match="recall@6"):
        recall_at_k(ranked, relevant, 6)
    with pytest.raises(ValueError, match="needs a relevant sample"):
        recall_at_k(ranked, np.zeros(5, bool), 1)


def test_hidden_carriers_are_counted_by_hand():
    """Ranked: a hidden carrier, a named one, a hidden other, a named one, a named other, a hidden
    carrier."""
    carries = np.array([True, True, False, True, False, True])
    named = np.array([False, True, False, True, True, False])
    order = [3, 0, 5, 1, 4, 2]  # where each of those stands in the arrays
    carries, named = carries[order], named[order]
    scores = -np.array(order, float)
    found = {(f.among, f.k): f[2:] for f in hidden_found(scores, carries, named, [1, 3, 4])}
    assert found == {
        ("all", 1): (1.0, 1 / 2, 2 / 6),
        ("all", 3): (1 / 3, 1 / 2, 2 / 6),
        ("all", 4): (1 / 4, 1 / 2, 2 / 6),
        ("unlabelled", 1): (1.0, 1 / 2, 2 / 3),
        ("unlabelled", 3): (2 / 3, 1.0, 2 / 3),
        ("labelled", 1): (1.0, 1 / 2, 2 / 3),
        ("labelled", 3): (2 / 3, 1.0, 2 / 3),
    }


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**16), k=st.integers(1, 30))
def test_looking_the_label_up_finds_no_hidden_carrier_before_the_named_ones_are_used_up(seed, k):
    rng = np.random.default_rng(seed)
    carries, named = rng.random((2, 60)) < 0.5
    scores = (carries & named) + 0.01 * rng.random(60)
    found = {f.among: f for f in hidden_found(scores, carries, named, [k])}
    sure = (carries & named).sum()
    if "all" in found and k <= sure:
        assert found["all"].precision == found["all"].recall == 0
    if "labelled" in found:
        assert found["labelled"].precision == min(k, sure) / k


def test_a_part_without_a_relevant_candidate_has_nothing_to_find():
    carries, named = np.array([True, False, False]), np.array([True, True, False])
    assert {f.among for f in hidden_found(np.arange(3.0), carries, named, [1])} == {"labelled"}


# rank percentiles


@settings(max_examples=60, deadline=None)
@given(scores=arrays(np.float64, st.integers(1, 15), elements=st.integers(-3, 3).map(float)))
def test_percentiles_count_the_samples_below(scores):
    """1 minus the number of samples ahead (greater, or equal with a lower index) over n - 1."""
    n = len(scores)
    expected = [
        1 - sum(b > a or (b == a and j < i) for j, b in enumerate(scores)) / max(n - 1, 1)
        for i, a in enumerate(scores)
    ]
    np.testing.assert_allclose(rank_percentiles(scores), expected, atol=1e-12)


def test_top_is_one_and_bottom_is_zero_in_every_row():
    scores = np.random.default_rng(0).normal(size=(2, 3, 20))
    found = rank_percentiles(scores)
    np.testing.assert_array_equal(found.argmax(-1), scores.argmax(-1))
    np.testing.assert_array_equal(found.argmin(-1), scores.argmin(-1))
    np.testing.assert_allclose(np.sort(found, -1), np.broadcast_to(np.arange(20) / 19, (2, 3, 20)))
    np.testing.assert_array_equal(found[1, 2], rank_percentiles(scores[1, 2]))


def test_wrong_labels_are_told_from_pictures():
    """Five candidates in order: the second has the value in its picture alone, the last in its
    label alone."""
    scores = np.arange(5.0)[::-1]
    picture = np.array([True, True, False, False, False])
    label = np.array([True, False, False, False, True])
    assert label_shift(scores, picture, label) == (0.75, 0.0)
    assert label_shift(scores, picture, picture) is None


def test_percentiles_see_only_the_order():
    scores = np.random.default_rng(0).normal(size=30)
    np.testing.assert_array_equal(rank_percentiles(scores), rank_percentiles(np.exp(scores)))


# bootstrap

groups_of_values = st.lists(
    arrays(np.float64, st.integers(1, 6), elements=st.floats(-10, 10)), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None)
@given(groups=groups_of_values)
def test_the_mean_is_that_of_the_groups_and_lies_inside(groups):
    mean, low, high = bootstrap_mean(groups, replicates=300)
    assert mean == pytest.approx(np.mean([g.mean() for g in groups]), abs=1e-9)
    assert low - 1e-9 <= mean <= high + 1e-9
    every = np.concatenate(groups)
    assert every.min() - 1e-9 <= low
    assert high <= every.max() + 1e-9


def test_clusters_count_by_their_mean():
    clusters = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert bootstrap_mean([clusters], 500) == bootstrap_mean([clusters.mean(1)], 500)


@pytest.mark.parametrize(
    "groups", [[np.full(7, 0.3)], [np.full(3, 0.3), np.full(5, 0.3)], [np.array([0.3])]]
)
def test_values_that_do_not_vary_have_no_width(groups):
    np.testing.assert_allclose(bootstrap_mean(groups, 200), 0.3, rtol=1e-12)


def test_groups_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.0, 0.1, 30), rng.normal(1.0, 0.1, 30)
    apart, pooled = bootstrap_mean([a, b], 2000), bootstrap_mean([np.concatenate([a, b])], 2000)
    assert apart.high - apart.low > 2 * (pooled.high - pooled.low)
    # A quarter of the replicates draw the same group twice: the interval reaches both means.
    assert apart.low < 0.1
    assert apart.high > 0.9


def test_equal_groups_add_up_like_more_queries():
    """Two seeds with the same spread and mean: the width falls as the square root of the values."""
    values = np.random.default_rng(0).normal(size=200)
    values -= values.mean()
    one, two = bootstrap_mean([values], 4000), bootstrap_mean([values, values], 4000)
    assert (one.high - one.low) / (two.high - two.low) == pytest.approx(np.sqrt(2), rel=0.1)


def test_the_width_of_one_group_is_the_standard_error():
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap_mean([values], 4000)
    expected = 2 * 1.96 * values.std() / np.sqrt(len(values))
    assert found.high - found.low == pytest.approx(expected, rel=0.08)


def test_the_order_of_groups_does_not_matter_beyond_chance():
    rng = np.random.default_rng(2)
    groups = [rng.normal(m, 0.2, 12) for m in (0.0, 0.3, 0.5)]
    forth, back = bootstrap_mean(groups, 4000), bootstrap_mean(groups[::-1], 4000)
    np.testing.assert_allclose(forth, back, atol=0.03)


def test_the_same_seed_gives_the_same_interval():
    values = [np.random.default_rng(3).normal(size=20)]
    assert bootstrap_mean(values, 300, seed=1) == bootstrap_mean(values, 300, seed=1)
    assert bootstrap_mean(values, 300, seed=1) != bootstrap_mean(values, 300, seed=2)


def test_about_95_of_100_intervals_hold_the_truth():
    """One group of 30 normal values. Percentile intervals of 30 values fall a little short (about
    93.5%), and 400 data sets know the share to 1.2 points."""
    rng = np.random.default_rng(4)
    held = []
    for number in range(400):
        found = bootstrap_mean([rng.normal(2.0, 3.0, 30)], replicates=300, seed=number)
        held.append(found.low <= 2.0 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("groups", [[], [np.array([])], [np.ones(3), np.array([])]])
def test_nothing_to_draw_from_is_refused(groups):
    with pytest.raises(ValueError, match="bootstrap"):
        bootstrap_mean(groups)
