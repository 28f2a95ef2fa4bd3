"""Which damping is chosen: by validation questions alone, the largest as good as the best."""

import numpy as np
import pytest

from ctrak_jax.stages.score import choose_damping


@pytest.mark.parametrize(
    ("precision", "chosen"),
    [
        ([[0.2, 0.2], [0.9, 0.9], [0.5, 0.5]], 1),  # no error: the best
        ([[0.9, 0.9], [0.9, 0.9], [0.5, 0.5]], 1),  # of equals the largest
        ([[0.5, 1.0], [0.4, 0.9], [0.3, 0.8]], 1),  # one standard error is .25 / sqrt(2) = .18
        ([[0.5, 1.0], [0.4, 0.9], [0.4, 0.8]], 2),
        ([[0.0, 0.0], [0.0, 0.0]], 1),
    ],
)
def test_the_largest_within_one_standard_error_of_the_best(precision, chosen):
    assert choose_damping(np.array(precision)) == chosen


def test_other_questions_than_those_given_play_no_part():
    precision = np.random.default_rng(0).random((5, 20))
    assert choose_damping(precision) == choose_damping(precision[:, ::-1])
