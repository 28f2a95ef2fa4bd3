"""Scores of one query over the candidates."""

import jax
import numpy as np

from ctrak_jax.score import standardised


def test_scores_have_mean_zero_and_deviation_one_per_query():
    scores = np.random.default_rng(0).normal(3, 7, (4, 50)).astype(np.float32)
    expected = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    np.testing.assert_allclose(standardised(scores), expected, atol=1e-5)
    np.testing.assert_allclose(standardised(1e4 * scores - 5), expected, atol=1e-3)


def test_equal_scores_say_nothing_and_no_answer_stays_none():
    with jax.debug_nans(False):  # a method without an answer to a question scores NaN
        found = np.asarray(standardised(np.array([[2.0, 2.0], [np.nan, np.nan]], np.float32)))
    np.testing.assert_array_equal(found[0], 0)
    assert np.isnan(found[1]).all()
