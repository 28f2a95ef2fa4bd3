"""Recall@k and average precision of exemplars among candidates, by hand and by brute force."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.retrieval import (
    Places,
    Retrieval,
    TaskResult,
    places_by_score,
    retrieval,
    summarise,
)
from ctrak_jax.terminal.abc import benchmark_table


def test_recall_and_average_precision_worked_out_by_hand():
    """Three exemplars, nine candidates. By falling score: 9 (exemplar 1), 8, 7 (exemplar 0, which
    goes before its equal), 7, 6, 5, 4 (exemplar 2), 3, 2: the exemplars are at 1, 3 and 7."""
    exemplars = np.array([7.0, 9.0, 4.0])
    others = np.array([2.0, 7.0, 8.0, 3.0, 6.0, 5.0])
    places = places_by_score(exemplars, others)
    np.testing.assert_array_equal(places.ranks, [1, 3, 7])
    assert places.candidates == 9
    found = retrieval(places, (1, 2, 3, 6, 7, 9))
    assert found.found == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 2 / 3, 6: 2 / 3, 7: 1.0, 9: 1.0})
    assert found.recall == pytest.approx({1: 1.0, 2: 1 / 2, 3: 2 / 3, 6: 2 / 3, 7: 1.0, 9: 1.0})
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 7) / 3)


def test_recall_is_of_what_fits_and_found_of_all():
    """21 exemplars on top of 200: five of them fit into the first five."""
    places = places_by_score(np.full(21, 1.0), np.zeros(179))
    found = retrieval(places)
    assert found.found == pytest.approx({5: 5 / 21, 10: 10 / 21, 100: 1.0})
    assert found.recall == {5: 1.0, 10: 1.0, 100: 1.0}
    assert found.average_precision == 1.0


scores_of = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(exemplars=scores_of, others=scores_of, cut=st.integers(0, 12))
def test_places_are_those_of_the_stable_ranking(exemplars, others, cut):
    """Ties by index, as everywhere; however the others are cut into blocks and ordered."""
    every = np.array(exemplars + others)
    relevant = np.argsort(-every, kind="stable") < len(exemplars)
    ranks = np.flatnonzero(relevant) + 1
    rest = np.array(others)
    for given_others in (rest, [rest[cut:], rest[:cut]], (block for block in (rest,))):
        places = places_by_score(np.array(exemplars), given_others)
        np.testing.assert_array_equal(places.ranks, ranks)
        depths = tuple(range(1, len(every) + 1))
        found = retrieval(places, depths)
        for k in depths:
            assert found.found[k] == pytest.approx(relevant[:k].sum() / len(exemplars))
            fitting = min(k, len(exemplars))
            assert found.recall[k] == pytest.approx(relevant[:k].sum() / fitting)
        precisions = [relevant[:rank].mean() for rank in ranks]
        assert found.average_precision == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_scores_on_the_device_and_of_small_types_are_compared_exactly(dtype):
    values = jnp.linspace(-1.0, 1.0, 40).astype(dtype)
    exemplars, others = values[::7], values
    exact = places_by_score(
        np.asarray(exemplars.astype("float32")), np.asarray(others.astype("float32"))
    )
    found = places_by_score(exemplars, others)
    np.testing.assert_array_equal(found.ranks, exact.ranks)
    assert found.candidates == 46


def test_a_million_candidates_are_streamed():
    """Their scores as one list of Python numbers would take 32 MB, their order as much again."""
    exemplars = np.random.default_rng(0).normal(2.0, 1.0, 21).astype(np.float32)

    def blocks():
        for seed in range(10):
            yield np.random.default_rng(seed + 1).normal(size=100_000).astype(np.float32)

    tracemalloc.start()
    try:
        places = places_by_score(exemplars, blocks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6
    others = np.concatenate(list(blocks()))
    expected = [np.sum(others > s) + np.sum(exemplars > s) + 1 for s in exemplars]
    np.testing.assert_array_equal(places.ranks, np.sort(expected))
    np.testing.assert_array_equal(places_by_score(exemplars, others).ranks, places.ranks)
    assert places.candidates == 1_000_021


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: places_by_score(np.zeros(0), np.ones(3)), "no exemplar"),
        (lambda: places_by_score(np.array([np.nan]), np.ones(3)), "NaN"),
        (lambda: places_by_score(np.ones(1), [np.ones(2), np.array([np.nan])]), "NaN"),
        (lambda: places_by_score(np.ones((2, 2)), np.ones(3)), r"shape \(2, 2\)"),
        (lambda: places_by_score(np.ones(1), np.array(1.0)), r"shape \(\)"),
        (lambda: retrieval(Places(np.array([1]), 99)), "recall@100 needs at least 100"),
        (lambda: retrieval(Places(np.array([1]), 9), (0,)), "recall@0"),
    ],
)
def test_scores_and_rankings_that_cannot_be_judged_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# Summary and tables


def result(method: str, case: str, category: str, recall: float, ap: float) -> TaskResult:
    values = {5: recall / 2, 10: recall, 100: 1.0}
    found = Retrieval(values, {k: value / 4 for k, value in values.items()}, ap)
    return TaskResult(method, {"test_case": case, "category": category}, found)


RESULTS = [
    result("trak", "test_bamfg", "art", 0.0, 0.1),
    result("trak", "test_artchive", "art", 0.5, 0.3),
    result("trak", "test_observed_imagenet", "fish", 0.4, 0.2),
    result("concept-trak", "test_bamfg", "art", 1.0, 0.9),
    result("concept-trak", "test_artchive", "art", 1.0, 0.7),
    result("concept-trak", "test_observed_imagenet", "fish", 0.7, 0.5),
]


def test_means_by_group_and_over_all_worked_out_by_hand():
    rows = {(r.method, r.group, r.value): r for r in summarise(RESULTS, 500)}
    assert len(rows) == 2 * (1 + 3 + 2)
    every = rows["trak", "all", "all"]
    assert every.tasks == 3
    assert every.recall[10].mean == pytest.approx((0.0 + 0.5 + 0.4) / 3)
    assert every.recall[5].mean == pytest.approx(0.15)
    assert every.found[10].mean == pytest.approx(0.9 / 12)
    assert every.mean_average_precision.mean == pytest.approx(0.2)
    art = rows["concept-trak", "category", "art"]
    assert (art.tasks, art.recall[10].mean) == (2, 1.0)
    assert art.mean_average_precision.mean == pytest.approx(0.8)
    assert rows["concept-trak", "test_case", "test_artchive"].mean_average_precision == (
        pytest.approx((0.7, 0.7, 0.7))
    )


def test_intervals_are_over_tasks():
    """Of two tasks with 0 and 1 a quarter of the draws has only one of them, twice."""
    tasks = [result("trak", "test_bamfg", "art", value, value) for value in (0.0, 1.0)]
    (row,) = (r for r in summarise(tasks, 2000) if r.group == "all")
    assert row.recall[10] == (0.5, 0.0, 1.0)
    assert row.recall[100] == (1.0, 1.0, 1.0)


def test_results_of_differing_depths_are_refused():
    other = TaskResult("trak", {}, Retrieval({5: 1.0}, {5: 1.0}, 1.0))
    with pytest.raises(ValueError, match="trak: results of differing depths"):
        summarise([RESULTS[0], other], 10)
    rows = summarise([RESULTS[3], other], 10)
    with pytest.raises(ValueError, match="differing depths"):
        benchmark_table(rows)
    with pytest.raises(ValueError, match="'scene'; the groups are: all, category, test_case"):
        benchmark_table(rows, "scene")
