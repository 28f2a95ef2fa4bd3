"""The linear datamodeling score against SciPy, closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ctrak_jax.attribution import lds
from ctrak_jax.attribution.lds import Correlations, Place

few = st.integers(-2, 2).map(float)
pairs = st.integers(2, 9).flatmap(lambda n: arrays(np.float64, (2, n), elements=few))


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return np.asarray(stats.spearmanr(a, b))[0].item()


@settings(max_examples=150, deadline=None)
@given(pair=pairs)
def test_spearman_is_that_of_scipy_with_ties(pair):
    a, b = pair
    np.testing.assert_allclose(lds.spearman(a[None], b[None]), [by_scipy(a, b)], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(pair=pairs, seed=st.integers(0, 100))
def test_a_replicate_is_spearman_of_the_subsets_it_drew(pair, seed):
    a, b = pair
    drawn = lds.draws(len(a), 5, seed)
    found = lds.resampled_spearman(a[None], b[None], drawn)[0]
    expected = [by_scipy(np.repeat(a, n), np.repeat(b, n)) for n in drawn]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_replicates_draw_as_many_subsets_as_there_are():
    drawn = lds.draws(7, 4000)
    assert (drawn.sum(1) == 7).all()
    np.testing.assert_allclose(drawn.mean(0), 1.0, atol=0.07)


def halves(samples: int, subsets: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(samples)[: samples // 2] for _ in range(subsets)]
    return np.stack([np.isin(np.arange(samples), subset) for subset in drawn])


def test_the_scores_of_a_linear_model_predict_it_exactly():
    """Any increasing function of the sums has LDS 1, its opposite -1."""
    weights, members = np.random.default_rng(1).normal(size=(3, 20)), halves(20, 12)
    outputs = np.array([[w[subset].sum() for subset in members] for w in weights])
    g = lds.predicted(weights, members)
    np.testing.assert_allclose(lds.spearman(g, np.exp(outputs)), 1.0)
    np.testing.assert_allclose(lds.spearman(-g, outputs), -1.0)
    np.testing.assert_allclose(lds.spearman(3.0 * g + 5.0, outputs), 1.0)


def test_predictions_add_up_over_disjoint_parts():
    rng = np.random.default_rng(2)
    scores, owner = rng.normal(size=(4, 30)), rng.integers(3, size=30)
    thirds = np.stack([owner == which for which in range(3)])
    first, second, third = lds.predicted(scores, thirds).T
    both = lds.predicted(scores, np.stack([thirds[0] | thirds[1]]))[:, 0]
    np.testing.assert_allclose(first + second, both)
    np.testing.assert_allclose(first + second + third, scores.sum(1))


def test_what_does_not_vary_or_is_missing_has_no_score():
    varying, same = np.arange(5.0)[None], np.ones((1, 5))
    hole = np.array([[0.0, 1.0, np.nan, 3.0, 4.0]])
    for other in (same, hole):
        assert np.isnan(lds.spearman(varying, other)).all()
        assert np.isnan(lds.spearman(other, varying)).all()


def made_up(questions: int, subsets: int, noise: float, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(questions, subsets))
    return truth, truth + noise * rng.normal(size=truth.shape)


def test_the_mean_is_over_seeds_then_images_then_questions():
    values = np.array([0.0, 1.0, 0.5, 0.9, np.nan])
    found = Correlations(values, np.repeat(values[:, None], 50, axis=1))
    places = [Place(0, "a"), Place(0, "a"), Place(0, "b"), Place(1, "c"), Place(1, "d")]
    summary = lds.summarise(found, places, 100)
    assert summary is not None
    expected = (0.5 + 0.9) / 2
    assert summary.mean == pytest.approx(expected)
    # The replicates over subsets are all alike here, so they have the mean and no width.
    np.testing.assert_allclose(summary.over_subsets, expected)


def test_nothing_defined_is_no_mean():
    nothing = np.full(2, np.nan)
    found = Correlations(nothing, np.full((2, 10), np.nan))
    assert lds.summarise(found, [Place(0, "a"), Place(0, "b")], 100) is None


def test_the_interval_over_subsets_narrows_with_more_of_them():
    def width(subsets: int) -> float:
        found = lds.correlations(*made_up(1, subsets, 1.0), replicates=1000)
        summary = lds.summarise(found, [Place(0, "a")], 100)
        assert summary is not None
        return summary.over_subsets.high - summary.over_subsets.low

    assert width(400) < 0.75 * width(100) < 0.75**2 * width(25)


def test_about_95_of_100_intervals_over_subsets_hold_the_truth():
    """Two normal variables of correlation rho: Spearman's is 6 asin(rho / 2) / pi."""
    rho = 1 / np.sqrt(2.0)
    truth, held = 6 / np.pi * np.arcsin(rho / 2), []
    for seed in range(120):
        found = lds.correlations(*made_up(1, 50, 1.0, seed), replicates=200)
        summary = lds.summarise(found, [Place(0, "a")], 100)
        assert summary is not None
        held.append(summary.over_subsets.low <= truth <= summary.over_subsets.high)
    assert np.mean(held) == pytest.approx(0.94, abs=0.06)


def test_methods_are_compared_on_the_same_replicates():
    """A method minus itself is 0 in every replicate; one that is plainly better stays above 0,
    with a narrower interval than two methods drawn apart would have."""
    truth, near = made_up(6, 40, 0.2)
    far = truth + 2.0 * np.random.default_rng(9).normal(size=truth.shape)
    places = [Place(0, str(i)) for i in range(6)]
    good, bad = (lds.correlations(g, truth, replicates=500) for g in (near, far))
    np.testing.assert_array_equal(good.minus(good).replicates, 0.0)
    apart = lds.summarise(good.minus(bad), places, 500)
    assert apart is not None
    assert apart.mean == pytest.approx((good.value - bad.value).mean())
    assert apart.over_subsets.low > 0
    assert apart.over_questions.low > 0


@pytest.mark.parametrize("trainings", [2, 4])
@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_the_expected_output_reaches_the_bound_and_nothing_more(noise, trainings):
    """A value of the subset plus noise of each training, of known variances."""
    rng = np.random.default_rng(trainings)
    truth = rng.normal(size=(60, 400))
    trained = truth + noise * rng.normal(size=(trainings, *truth.shape))
    r = float(lds.reliability(trained, replicates=1).value.mean())
    assert r == pytest.approx(1 / (1 + noise**2), abs=0.03)
    bound, outputs = lds.best_possible(r, trainings), trained.mean(0)
    assert bound == pytest.approx((1 + noise**2 / trainings) ** -0.5, abs=0.03)
    assert lds.spearman(truth, outputs).mean() == pytest.approx(bound, abs=0.03)
    other = truth + 0.5 * rng.normal(size=truth.shape)
    assert lds.spearman(other, outputs).mean() < bound


def test_the_bound_rises_from_nothing_to_one():
    for trainings in (1, 2, 10):
        assert lds.best_possible(-0.3, trainings) == lds.best_possible(0.0, trainings) == 0.0
        assert lds.best_possible(1.0, trainings) == 1.0
    assert lds.best_possible(0.25, 1) == 0.5
    more = [lds.best_possible(0.1, n) for n in (1, 2, 8, 10**6)]
    assert more == sorted(more)
    assert more[-1] == pytest.approx(1.0, abs=1e-4)


def test_reliability_is_the_mean_over_pairs_of_trainings():
    trained = np.random.default_rng(3).normal(size=(3, 2, 9))
    expected = [
        np.mean([by_scipy(trained[j, q], trained[k, q]) for j, k in ((0, 1), (0, 2), (1, 2))])
        for q in range(2)
    ]
    found = lds.reliability(trained, replicates=20)
    np.testing.assert_allclose(found.value, expected, atol=1e-12)
    turned = lds.reliability(trained[::-1], replicates=20)
    np.testing.assert_allclose(found.replicates, turned.replicates, atol=1e-12)
    same = lds.reliability(np.repeat(trained[:1], 3, axis=0), replicates=20)
    np.testing.assert_allclose(same.value, 1.0)
    np.testing.assert_allclose(same.replicates, 1.0)


def test_chunks_of_replicates_change_nothing(monkeypatch):
    g, f = made_up(2, 8, 1.0)
    whole = lds.correlations(g, f, replicates=50)
    monkeypatch.setattr(lds, "CHUNK", 7)
    np.testing.assert_array_equal(
        lds.correlations(g, f, replicates=50).replicates, whole.replicates
    )
