"""Coding of conditions, and the other condition each training sample is guided against."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.data import Conditions, other_indices
from ctrak_jax.errors import UsageError

ABC = Conditions(
    {"shape": ("triangle", "circle", "star"), "color": ("red", "blue"), "size": ("big",)}
)

vocabularies = st.dictionaries(
    st.text(min_size=1, max_size=4),
    st.lists(st.text(max_size=4), min_size=1, max_size=4, unique=True).map(tuple),
    min_size=1,
    max_size=3,
)


def decode(conditions: Conditions, code: np.ndarray) -> dict[str, str]:
    """The values of a code; null attributes are left out."""
    values = {}
    for number, (name, known) in enumerate(conditions.vocabulary.items()):
        part = code[conditions.blocks == number]
        if part.any():
            values[name] = known[int(part.argmax())]
    return values


# Coding


@settings(max_examples=60, deadline=None)
@given(data=st.data(), vocabulary=vocabularies)
def test_values_come_back_from_their_code(data, vocabulary):
    conditions = Conditions(vocabulary)
    values = {
        name: data.draw(st.sampled_from(known))
        for name, known in vocabulary.items()
        if data.draw(st.booleans())
    }
    code = conditions.encode(values)
    assert code.shape == (conditions.size,)
    assert code.dtype == np.float32
    assert code.sum() == len(values)
    assert set(code.tolist()) <= {0.0, 1.0}
    assert decode(conditions, code) == values


def test_a_code_is_one_hots_attribute_by_attribute():
    code = ABC.encode({"color": "blue", "shape": "circle", "size": "big"})
    np.testing.assert_array_equal(code, [0, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(ABC.blocks, [0, 0, 0, 1, 1, 2])
    assert ABC.size == 6
    assert ABC.attributes == ("shape", "color", "size")


def test_null_is_zeros():
    np.testing.assert_array_equal(ABC.encode({}), np.zeros(6))
    np.testing.assert_array_equal(ABC.encode({"shape": None, "color": "red"}), [0, 0, 0, 1, 0, 0])


@pytest.mark.parametrize("values", [{"color": "green"}, {"shape": "red"}, {"size": ""}])
def test_an_unknown_value_is_named_with_the_known_ones(values):
    ((name, value),) = values.items()
    with pytest.raises(UsageError) as caught:
        ABC.encode(values)
    assert f"{name}={value!r}" in str(caught.value)
    assert all(known in str(caught.value) for known in ABC.vocabulary[name])


def test_combinations_are_all_and_different():
    found = [ABC.encode(values) for values in ABC.combinations()]
    assert len(np.unique(found, axis=0)) == len(found) == 3 * 2 * 1
    assert all(code.sum() == 3 for code in found)


# The other condition


def some_conditions(count: int, kinds: int, seed: int = 0) -> np.ndarray:
    """[count, kinds + 1]: every kind at least once, some often."""
    rng = np.random.default_rng(seed)
    kind = np.concatenate([np.arange(kinds), rng.integers(kinds, size=count - kinds) ** 2 % kinds])
    codes = np.concatenate([np.eye(kinds), np.ones((kinds, 1))], axis=1).astype(np.float32)
    return codes[rng.permutation(kind)]


@settings(max_examples=40, deadline=None)
@given(kinds=st.integers(2, 5), count=st.integers(5, 30), seed=st.integers(0, 9))
def test_the_other_condition_is_another(kinds, count, seed):
    conditions = some_conditions(count, kinds, seed)
    rows = other_indices(conditions, np.arange(count), seed)
    assert rows.shape == (count,)
    assert (conditions[rows] != conditions).any(axis=1).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_order_and_company_do_not_matter(data):
    """The same dataset index and the same set of conditions give the same other condition."""
    kinds, count = 4, 40
    conditions = some_conditions(count, kinds)
    index = np.random.default_rng(1).permutation(1000)[:count]
    whole = conditions[other_indices(conditions, index, 0)]
    # One sample of every condition must stay: they are what is chosen among.
    stays = np.unique(conditions, axis=0, return_index=True)[1].tolist()
    more = data.draw(st.lists(st.integers(0, count - 1), max_size=count))
    rows = np.array(data.draw(st.permutations(sorted({*stays, *more}))))
    part = conditions[rows]
    np.testing.assert_array_equal(part[other_indices(part, index[rows], 0)], whole[rows])


def test_the_dataset_index_decides_and_not_the_row():
    conditions = some_conditions(60, 5)
    by = [other_indices(conditions, np.arange(60) + shift, 0) for shift in (0, 0, 1000)]
    np.testing.assert_array_equal(by[0], by[1])
    assert (conditions[by[0]] != conditions[by[2]]).any(axis=1).mean() > 0.3
    assert (conditions[by[0]] != conditions[other_indices(conditions, np.arange(60), 1)]).any()


def test_the_other_conditions_are_equally_likely_however_rare_their_samples():
    """6000 samples under five conditions, one of them with a single sample: each of the other four
    is chosen by a quarter of a condition's samples (5 standard deviations)."""
    counts = [3000, 2000, 900, 99, 1]
    kind = np.random.default_rng(0).permutation(np.repeat(np.arange(5), counts))
    conditions = np.eye(5, dtype=np.float32)[kind]
    chosen = conditions[other_indices(conditions, np.arange(6000), 0)].argmax(1)
    for own in range(3):
        found = np.bincount(chosen[kind == own], minlength=5)
        expected = counts[own] / 4
        assert found[own] == 0
        others = np.delete(found, own)
        assert (np.abs(others - expected) < 5 * np.sqrt(expected * 0.75)).all(), found


@settings(max_examples=40, deadline=None)
@given(vocabulary=vocabularies, count=st.integers(1, 4), seed=st.integers(0, 9))
def test_one_attribute_is_changed_and_each_in_turn(vocabulary, count, seed):
    """Every condition differs from its sample's in one attribute; no attribute comes twice; an
    attribute with other values gets one of them and not the null."""
    conditions = Conditions(vocabulary)
    own = conditions.combinations()
    codes = np.stack([conditions.encode(values) for values in own])
    changed = conditions.with_one_changed(codes, np.arange(len(own)), seed=seed, count=count)
    assert changed.shape == (len(own), min(count, len(vocabulary)), conditions.size)
    for values, row in zip(own, changed, strict=True):
        differ = []
        for code in row:
            found = decode(conditions, code)
            names = [name for name in vocabulary if found.get(name) != values[name]]
            assert len(names) == 1
            assert (names[0] in found) == (len(vocabulary[names[0]]) > 1)
            differ += names
        assert len(set(differ)) == len(differ)


@settings(max_examples=40, deadline=None)
@given(vocabulary=vocabularies, count=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_attribute_is_changed(vocabulary, count, seed):
    """No value is kept, none is null where there is another, no condition comes twice, and those of
    a sample do not depend on its batch."""
    conditions = Conditions(vocabulary)
    own = conditions.combinations()
    codes = np.stack([conditions.encode(values) for values in own])
    index = np.arange(len(own))
    changed = conditions.with_all_changed(codes, index, seed=seed, count=count)
    there_are = np.prod([max(len(values) - 1, 1) for values in vocabulary.values()])
    assert changed.shape == (len(own), min(count, there_are), conditions.size)
    for values, row in zip(own, changed, strict=True):
        assert len(np.unique(row, axis=0)) == len(row)
        for code in row:
            found = decode(conditions, code)
            for name, known in vocabulary.items():
                assert found.get(name) != values[name]
                assert (name in found) == (len(known) > 1)
    last = conditions.with_all_changed(codes[-1:], index[-1:], seed=seed, count=count)
    np.testing.assert_array_equal(last, changed[-1:])


def test_the_changed_attributes_and_values_are_fixed_by_the_dataset_index_and_equally_likely():
    """2000 stars under three shapes, two colours, one size: a third of the samples each changes
    shape, colour or size, half of the first to a triangle (5 standard deviations)."""
    star = ABC.encode({"shape": "star", "color": "red", "size": "big"})
    index = np.random.default_rng(0).permutation(2000)
    changed = ABC.with_one_changed(np.tile(star, (2000, 1)), index, seed=0, count=1)[:, 0]
    part = ABC.with_one_changed(np.tile(star, (7, 1)), index[40:47], seed=0, count=1)[:, 0]
    np.testing.assert_array_equal(part, changed[40:47])
    found = [decode(ABC, code) for code in changed]
    shapes = [v["shape"] for v in found if v["shape"] != "star"]
    colours = sum(v["color"] == "blue" for v in found)
    assert abs(len(shapes) - 2000 / 3) < 5 * np.sqrt(2000 * 2 / 9)
    assert abs(colours - 2000 / 3) < 5 * np.sqrt(2000 * 2 / 9)
    assert abs(shapes.count("triangle") - len(shapes) / 2) < 5 * np.sqrt(len(shapes) / 4)


@settings(max_examples=40, deadline=None)
@given(vocabulary=vocabularies, count=st.integers(1, 4), hidden=st.integers(0, 2))
def test_what_is_null_stays_null(vocabulary, count, hidden):
    """A null attribute is never changed; the others are, and come again in turn where they are
    fewer than is wanted; where all are null nothing is changed."""
    conditions = Conditions(vocabulary)
    null = list(vocabulary)[hidden % len(vocabulary)]
    own = [{k: v for k, v in values.items() if k != null} for values in conditions.combinations()]
    codes = np.stack([conditions.encode(values) for values in own])
    named = conditions.named(codes)
    assert named.tolist() == [[name != null for name in vocabulary]] * len(own)
    index = np.arange(len(own))
    for what in ("attribute", "opposite"):
        changed = conditions.changed(what, codes, index, seed=0, count=count)
        for values, row in zip(own, changed, strict=True):
            for number, code in enumerate(row):
                found = decode(conditions, code)
                assert null not in found
                differ = [name for name in values if found.get(name) != values[name]]
                wanted = len(values) if what == "opposite" else min(1, len(values))
                assert len(differ) == wanted
                if what == "attribute" and number >= len(values) > 0:
                    before = decode(conditions, row[number - len(values)])
                    assert differ == [n for n in values if before.get(n) != values[n]]


def test_one_condition_has_no_other():
    with pytest.raises(UsageError, match=r"trajectory\.negative: null"):
        other_indices(np.ones((4, 2), np.float32), np.arange(4), 0)
