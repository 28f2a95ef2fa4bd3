"""One damping value in float64: the scores that the spectrum gives, without diagonalising."""

import numpy as np
import pytest

from ctrak_jax import fisher

MULTIPLES = (1e-3, 1.0, 1e4)


@pytest.mark.parametrize("shape", [(30, 64), (64, 30), (40, 40)], ids=["dual", "primal", "square"])
@pytest.mark.parametrize("place", range(len(MULTIPLES)))
def test_the_scores_are_those_of_the_spectrum(shape, place):
    random = np.random.default_rng(3)
    features = random.normal(size=shape).astype(np.float32)
    queries = random.normal(size=(5, shape[1])).astype(np.float32)
    rows = fisher.Matrix(features)

    def scores(multiples) -> np.ndarray:
        solution = fisher.solve(rows, queries, multiples, solver="spectrum")
        assert solution.solver == "spectrum"
        assert solution.shape == (len(multiples), len(queries))
        return np.concatenate([np.asarray(b.features) for b in solution.scores(rows)], axis=2)

    found = scores(MULTIPLES[place : place + 1])
    np.testing.assert_allclose(found[0], scores(MULTIPLES)[place], rtol=1e-6)


def test_features_of_zero_are_refused():
    rows = fisher.Matrix(np.zeros((4, 32), np.float32))
    with pytest.raises(ArithmeticError, match="All features are zero"):
        fisher.solve(rows, np.ones((1, 32), np.float32), [1.0], solver="spectrum")
