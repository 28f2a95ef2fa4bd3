"""The levers: scores and precisions by hand, sums that are kept apart, and which gradients."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import levers
from benchmarks.levers import DAMPINGS, DEPTH, LEVERS, WINDOWS, Features, precision
from ctrak_jax.methods import METHODS


def test_scores_are_those_of_the_matrix_at_every_damping():
    """By the kernel of the samples as by the second moments of the features."""
    rng = np.random.default_rng(0)
    features, queries = rng.normal(size=(12, 5)), rng.normal(size=(3, 5))
    gram = features.T @ features
    found = levers.scores(features, queries)
    assert found.shape == (len(DAMPINGS), 3, 12)
    for r, scores in zip(DAMPINGS, found, strict=True):
        damped = gram + r * 0.1 * np.trace(gram) / 5 * np.eye(5)
        np.testing.assert_allclose(scores, queries @ np.linalg.solve(damped, features.T), rtol=1e-8)
    product = queries @ features.T
    np.testing.assert_array_equal(np.argsort(found[-1]), np.argsort(product))


class Drawn:
    """Candidates with two attributes."""

    def __init__(self, **columns: Sequence[str]) -> None:
        self._columns = {name: np.array(values) for name, values in columns.items()}

    def carries(self, attribute: str, value: str) -> np.ndarray:
        return self._columns[attribute] == value


def asked(**condition: str) -> Any:
    attribute = next(iter(condition))
    return SimpleNamespace(
        attribute=attribute, value=condition[attribute], condition=condition, query="q"
    )


COUNT = 4 * DEPTH
SHAPES = ["circle", "circle", "square", "square"] * DEPTH
COLORS = ["red", "blue", "red", "blue"] * DEPTH
DATA: Any = Drawn(shape=SHAPES, color=COLORS)


def test_a_hold_out_leaves_out_who_carries_both_values():
    """Red circles first, then what is not red: all is right, and nothing once they are left out."""
    red, circle = np.array(COLORS) == "red", np.array(SHAPES) == "circle"
    scores = np.where(red & circle, 2.0, np.where(red, 0.0, 1.0))
    found = precision(DATA, [asked(color="red", shape="circle")], scores[None])
    assert found == (1.0, 0.0)
    found = precision(DATA, [asked(color="red", shape="circle")], -scores[None])
    assert found == (1.0, 1.0)


def test_a_hold_out_with_too_few_carriers_is_none():
    few: Any = Drawn(shape=["circle"] * COUNT, color=COLORS)
    found = precision(few, [asked(color="red", shape="circle")], np.zeros((1, COUNT)))
    assert np.isnan(found.held_out)


def test_of_equal_dampings_the_smallest_counts_and_the_last_is_the_plain_product():
    question, good = asked(color="red", shape="circle"), (np.array(COLORS) == "red") * 1.0
    held_out_too, not_there = good, np.where(np.array(SHAPES) == "circle", good, -good)
    found = np.stack([-good, not_there, held_out_too, -good])[:, None]
    best, plain = levers.at_dampings(DATA, [question], found)
    assert best == (1.0, 0.0), "the second one is as good on validation as the third"
    assert plain == (0.0, 0.0)


def test_sums_are_found_by_what_they_are_of():
    kinds, windows = ["a", "b"], ["early", "late"]
    order = [(k, normalise, w) for k in kinds for normalise in (True, False) for w in windows]
    rows = np.arange(len(order), dtype=np.float32)[:, None, None] * np.ones((1, 3, 4), np.float32)
    features = Features(kinds, windows, rows)
    for place, (kind, normalise, window) in enumerate(order):
        assert (features.of(kind, [window], normalise=normalise) == place).all()
    assert (features.of("b", windows, normalise=False) == 6 + 7).all()


@pytest.mark.parametrize("count", [1, levers.BATCH, 2 * levers.BATCH + 3])
def test_batches_are_filled_up_and_every_row_comes_once(count):
    sizes = []

    def step(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return np.asarray(rows, float)[None, :, None]

    np.testing.assert_array_equal(levers.in_batches(step, count)[0, :, 0], np.arange(count))
    assert {*sizes} == {levers.BATCH}


def test_every_timestep_is_in_one_window():
    for t in range(1000):
        assert sum(low <= t < high for low, high in WINDOWS.values()) == 1


@pytest.mark.parametrize("name", ["d-trak", "trak"])
def test_the_levers_of_other_methods_are_their_gradients(name):
    lever, method = LEVERS[name.upper()], METHODS[name]
    assert method.train is not None
    assert method.query is not None
    assert (lever.loss, lever.query) == (method.train.loss, method.query.loss)
    assert (lever.guidance, lever.query_path) == (None, "forward")
    assert lever.normalise == method.train.normalise
