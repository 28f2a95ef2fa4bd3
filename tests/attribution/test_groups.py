"""Influence of groups: against NumPy by hand, in pieces and at once, and what intervals cover."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from ctrak_jax.attribution import groups


class Drawn(NamedTuple):
    scores: np.ndarray
    groups: np.ndarray


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Three questions, 200 samples, five groups of different sizes, the last of one sample; scores
    are rounded, so that many are equal."""
    rng = np.random.default_rng(3)
    numbers = rng.choice(4, size=200, p=[0.6, 0.2, 0.15, 0.05])
    numbers[117] = 4
    scores = np.round(rng.normal(0.3, 1.0, (3, 200)) + 0.5 * numbers, 1)
    return Drawn(scores.astype(np.float32), numbers)


def influence(drawn: Drawn, block: int, depth: int = 20, first: int = 6) -> groups.GroupInfluence:
    queries, samples = drawn.scores.shape
    sums = groups.start(queries, int(drawn.groups.max()) + 1, depth=depth, first=first)
    for at in range(0, samples, block):
        part = slice(at, at + block)
        sums = groups.update(sums, drawn.scores[:, part], drawn.groups[part], at)
    return groups.finish(sums, drawn.groups)


def test_sums_means_and_shares_are_those_of_all_scores(drawn):
    found = influence(drawn, 200)
    for query, row in enumerate(drawn.scores.astype(float)):
        top = np.argsort(-row, kind="stable")[:20]
        for group in range(5):
            members = drawn.groups == group
            own = row[members]
            assert found.size[group] == len(own)
            assert found.base_rate[group] == len(own) / 200
            np.testing.assert_allclose(found.total[query, group], own.sum(), rtol=1e-12)
            np.testing.assert_allclose(found.mean[query, group], own.mean(), rtol=1e-12)
            assert found.share[query, group] == pytest.approx(members[top].mean())
            if len(own) > 1:
                low, high = stats.t.interval(
                    0.95, len(own) - 1, own.mean(), own.std(ddof=1) / np.sqrt(len(own))
                )
                assert found.reach[query, group] == pytest.approx((high - low) / 2, rel=1e-9)
    np.testing.assert_allclose(found.share.sum(1), 1)
    np.testing.assert_allclose(found.total.sum(1), drawn.scores.sum(1, dtype=float), rtol=1e-12)


def test_the_first_samples_of_a_group_are_its_best_and_the_earlier_of_equal_ones(drawn):
    found = influence(drawn, 33)
    for query, row in enumerate(drawn.scores):
        order = np.argsort(-row, kind="stable")
        for group in range(5):
            expected = order[drawn.groups[order] == group][:6]
            kept = found.first.samples[query, group]
            np.testing.assert_array_equal(kept[: len(expected)], expected)
            np.testing.assert_array_equal(kept[len(expected) :], -1)
            np.testing.assert_array_equal(
                found.first.score[query, group, : len(expected)], row[expected]
            )


@pytest.mark.parametrize("block", [1, 7, 64, 199])
def test_blocks_give_what_all_scores_at_once_do(drawn, block):
    for part, whole in zip(influence(drawn, block)[:6], influence(drawn, 200)[:6], strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-9, atol=1e-12)
    for part, whole in zip(influence(drawn, block).first, influence(drawn, 200).first, strict=True):
        np.testing.assert_array_equal(part, whole)


def test_a_group_of_one_sample_has_no_interval(drawn):
    found = influence(drawn, 200)
    assert np.isnan(found.reach[:, 4]).all()
    assert np.isfinite(found.reach[:, :4]).all()
    np.testing.assert_array_equal(found.total[:, 4], drawn.scores[:, 117])


@pytest.mark.parametrize(
    ("draw", "mean", "sizes", "least"),
    [
        ("normal", 1.0, (3, 10, 60), 0.938),
        ("exponential", 1.0, (60, 200), 0.91),
    ],
)
def test_intervals_cover_the_true_mean(draw, mean, sizes, least):
    """4,000 simulated data sets, one per query; the standard error of a coverage is 0.0034."""
    rng, trials = np.random.default_rng(0), 4000
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    sizes = (trials, sum(sizes))
    scores = rng.normal(mean, 2.0, sizes) if draw == "normal" else rng.exponential(mean, sizes)
    found = influence(Drawn(scores, numbers), 100, depth=1, first=1)
    coverage = (np.abs(found.mean - mean) <= found.reach).mean(0)
    assert (coverage >= least).all(), coverage
    assert (coverage <= 0.962).all(), coverage


def test_intervals_are_those_of_a_bootstrap_over_the_groups_samples():
    rng = np.random.default_rng(5)
    own = rng.gamma(2.0, 1.0, 400)
    found = influence(Drawn(own[None], np.zeros(400, int)), 128)
    means = own[rng.integers(400, size=(10_000, 400))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert 2 * found.reach[0, 0] == pytest.approx(high - low, rel=0.05)


def test_a_large_common_part_does_not_spoil_the_interval():
    rng = np.random.default_rng(6)
    own = rng.normal(size=(1, 500))
    numbers = np.zeros(500, int)
    plain = influence(Drawn(own, numbers), 100)
    shifted = influence(Drawn(own + 1e4, numbers), 100)
    np.testing.assert_allclose(shifted.reach, plain.reach, rtol=1e-5)


def test_sizes_that_cannot_be_are_refused(drawn):
    with pytest.raises(ValueError, match="depth=0"):
        groups.start(1, 1, depth=0, first=1)
    with pytest.raises(ValueError, match="k=201"):
        influence(drawn, 200, depth=201)
    sums = groups.start(1, 2, depth=1, first=1)
    sums = groups.update(sums, np.ones((1, 3)), np.zeros(3, int), 0)
    with pytest.raises(ValueError, match="0 to 3"):
        groups.finish(sums, np.zeros(3, int))


def test_the_state_takes_what_is_said():
    sums = groups.start(3, 50, depth=7, first=4)
    arrays = [sums.size, sums.total, sums.squares, *sums.first, *sums.top]
    said = groups.state_bytes(3, 50, depth=7, first=4)
    assert said == sum(array.nbytes for array in arrays)
