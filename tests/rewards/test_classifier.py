"""A classifier's log-probabilities as a reward, and what a fit of it tells apart."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ctrak_jax.config import Config, load
from ctrak_jax.data import build
from ctrak_jax.errors import UsageError
from ctrak_jax.rewards.base import Concept, RewardRequest
from ctrak_jax.rewards.classifier import examples, file, reward
from ctrak_jax.rewards.classifier.fitting import (
    UNKNOWN,
    Examples,
    FitSettings,
    accuracy,
    degrade,
    fit,
    split,
    steps_for,
)
from ctrak_jax.rewards.classifier.network import (
    AttributeHead,
    Classifier,
    centred_square,
    classifier_of,
    log_probabilities,
)
from ctrak_jax.stages.ask.classifier import values_of

HEADS = {"shape": ("triangle", "circle"), "color": ("red", "blue")}
SHORT = FitSettings(steps=120, batch=32)
RNG = np.random.default_rng(0)


def drawn(**data):
    """Shapes of 16 x 16, none held out."""
    given = {"data.size": "400", **{f"data.{name}": value for name, value in data.items()}}
    return build(load(None, given).data)


@pytest.fixture(scope="module")
def fitted():
    data, classifier = drawn(), classifier_of(HEADS, 16)
    values = values_of(data, classifier)
    found = examples.of_pictures(lambda rows: data.raw.images[rows], values, 16, 0)
    return fit(classifier, found, SHORT)


@pytest.fixture(scope="module")
def kept(fitted, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("classifier") / "c.safetensors"
    file.write(place, fitted, {"data": "shapes"})
    return place


def test_shapes_and_colours_held_out_are_told_apart(fitted):
    assert set(accuracy(fitted.sharp)) == set(HEADS)
    assert min(accuracy(fitted.sharp).values()) >= 0.95
    assert sum(one.total for one in fitted.sharp) == 2 * 80  # a fifth, of two attributes


def test_the_reward_of_a_picture_is_higher_for_what_it_shows(fitted):
    data = drawn(seed="7")
    fn, places = fitted.classifier.log_probability, fitted.classifier.places
    picture = data.train_images(slice(20))
    for value, other in HEADS.values():
        name = "shape" if value == "triangle" else "color"
        shown = data.carries(name, value)[:20]
        at = [
            jax.vmap(fn, (None, 0, None))(fitted.params, picture, places[name, v])
            for v in (value, other)
        ]
        assert np.mean((at[0] > at[1]) == shown) >= 0.9


def test_a_layer_is_normalised_over_the_whole_picture():
    """Not row by row: the network is that of a batch of one picture."""
    classifier = Classifier((AttributeHead("a", ("x", "y")),), 8)
    params: Any = classifier.init(jax.random.key(0))
    picture = jnp.asarray(RNG.uniform(-1, 1, (8, 8, 3)) * np.linspace(0, 2, 8)[:, None, None])
    x = picture.astype(jnp.float32)[None]
    for number, width in enumerate((32, 64)):
        x = nn.Conv(width, (3, 3), number + 1).apply({"params": params[f"Conv_{number}"]}, x)
        x = nn.GroupNorm(8).apply({"params": params[f"GroupNorm_{number}"]}, x)
        x = nn.silu(jnp.asarray(x))
    hidden, last = params["Dense_0"], params["Dense_1"]
    x = nn.silu(x.mean((0, 1, 2)) @ hidden["kernel"] + hidden["bias"])
    found = classifier.logits(params, picture.astype(jnp.float32))
    np.testing.assert_allclose(found, x @ last["kernel"] + last["bias"], atol=1e-5)


def test_log_probabilities_are_those_of_a_softmax_of_each_head():
    logits, starts = 5 * RNG.standard_normal(7).astype(np.float32), [0, 2, 5, 7]
    found = np.asarray(log_probabilities(jnp.asarray(logits), starts), np.float64)
    for first, last in pairwise(starts):
        part = logits[first:last].astype(np.float64)
        wanted = part - np.log(np.exp(part).sum())
        np.testing.assert_allclose(found[first:last], wanted, atol=1e-5)
        np.testing.assert_allclose(np.exp(found[first:last]).sum(), 1.0, atol=1e-5)


def test_the_gradient_of_a_certain_answer_is_not_lost_to_rounding():
    """1 - p is 2 e^-60 here, and p is 1 in float32."""
    gradient = jax.grad(lambda z: log_probabilities(z, [0, 3])[0])(jnp.array([60.0, 0.0, 0.0]))
    np.testing.assert_allclose(gradient, np.exp(-60.0) * np.array([2, -1, -1]), rtol=1e-4)


def test_the_gradient_is_that_of_finite_differences(fitted):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), fitted.params)
        picture, direction = jnp.asarray(RNG.uniform(-1, 1, (2, 16, 16, 3)))

        def at(move):
            return fitted.classifier.log_probability(params, picture + move * direction, 1)

        difference = (at(1e-5) - at(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(at)(0.0), difference, rtol=1e-5)
        assert difference != 0


def test_a_picture_is_seen_by_its_centred_square():
    picture = jnp.asarray(RNG.uniform(-1, 1, (8, 12, 3)), jnp.float32)
    np.testing.assert_array_equal(centred_square(picture, 8), picture[:, 2:10])
    np.testing.assert_allclose(centred_square(jnp.full((30, 20, 3), 0.3), 8), 0.3, rtol=1e-6)
    halved = centred_square(picture, 4)
    assert halved.shape == (4, 4, 3)
    np.testing.assert_allclose(halved.mean(), picture[:, 2:10].mean(), atol=0.05)


def test_degrading_by_nothing_changes_nothing_and_a_blur_keeps_the_colour():
    picture = jnp.asarray(RNG.uniform(-1, 1, (8, 8, 3)), jnp.float32)
    key = jax.random.key(1)
    np.testing.assert_allclose(degrade(picture, key, 0.0, 0.0), picture, atol=1e-6)
    np.testing.assert_allclose(degrade(jnp.full((8, 8, 3), 0.4), key, 0.5, 0.0), 0.4, rtol=1e-5)
    assert degrade(picture, key, 0.5, 0.0).std() < 0.7 * picture.std()
    assert degrade(picture, key, 0.0, 0.5).std() > picture.std()


def test_a_fifth_of_every_combination_is_held_out():
    values = np.array([[0, 0]] * 50 + [[0, 1]] * 20 + [[1, 1]] * 2 + [[1, 0]])
    ours, rest = split(values, 3)
    assert sorted([*ours, *rest]) == list(range(73))
    np.testing.assert_array_equal(np.bincount(values[rest] @ [2, 1], minlength=4), [10, 4, 0, 1])
    np.testing.assert_array_equal(split(values, 3)[1], rest)
    assert set(split(values, 4)[1]) != set(rest)


@pytest.mark.parametrize(("count", "steps"), [(10, 400), (4000, 400), (10_000, 1000)])
def test_a_fit_sees_every_picture_eight_times_and_has_400_steps_at_least(count, steps):
    assert steps_for(count) == steps


def test_an_attribute_of_one_value_has_no_head():
    """Its log-probability is 0 whatever the picture, and so is the gradient."""
    found = classifier_of({"kind": ("drawing",), **HEADS}, 16)
    assert [head.attribute for head in found.heads] == list(HEADS)
    assert values_of(drawn(), found).shape == (400, 2)
    with pytest.raises(UsageError, match="each of kind, place has one value"):
        classifier_of({"kind": ("drawing",), "place": ("here",)}, 16)


def few(values: np.ndarray, side: int = 8) -> Examples:
    return Examples(RNG.integers(0, 256, (len(values), side, side, 3), np.uint8), values)


def test_a_fit_is_the_same_again_and_another_by_another_seed():
    classifier, found = (
        Classifier((AttributeHead("a", ("x", "y")),), 8),
        few(np.arange(12)[:, None] % 2),
    )

    def leaves(seed: int) -> list[np.ndarray]:
        return jax.tree.leaves(fit(classifier, found, FitSettings(2, 4, seed=seed)).params)

    first, again, other = leaves(0), leaves(0), leaves(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_unknown_value_teaches_nothing():
    """With all of an attribute unknown its logits get no gradient but the decay of weights."""
    heads = (AttributeHead("a", ("x", "y")), AttributeHead("b", ("u", "v")))
    values = np.stack([np.arange(12) % 2, np.full(12, UNKNOWN)], axis=1)
    settings = FitSettings(2, 4, weight_decay=0.0)
    found = fit(Classifier(heads, 8), few(values), settings).params["Dense_1"]
    np.testing.assert_array_equal(found["bias"][2:], 0.0)
    assert np.abs(found["bias"][:2]).min() > 0


def test_values_that_the_model_is_not_told_are_unknown():
    data = drawn(unlabelled="{color: 0.5}")
    found = values_of(data, classifier_of(HEADS, 16))
    assert (found[:, 0] != UNKNOWN).all()
    np.testing.assert_array_equal(found[:, 1] == UNKNOWN, ~data.named("color"))
    assert 0.4 < (found[:, 1] == UNKNOWN).mean() < 0.6


def test_a_loss_that_is_no_number_stops_the_fit():
    classifier, found = (
        Classifier((AttributeHead("a", ("x", "y")),), 8),
        few(np.arange(12)[:, None] % 2),
    )
    diverging = FitSettings(2, 4, learning_rate=float("nan"))
    with jax.debug_nans(False), pytest.raises(UsageError, match=r"became nan.*another --seed"):
        fit(classifier, found, diverging)
    with jax.debug_nans(False), pytest.raises(UsageError, match=r"try another run\.seeds"):
        fit(classifier, found, diverging, seed_setting="run.seeds")


def test_a_file_gives_back_the_classifier(fitted, kept):
    found = file.read(kept)
    assert found.classifier == fitted.classifier
    for mine, theirs in zip(
        jax.tree.leaves(fitted.params), jax.tree.leaves(found.params), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert found.about["made_from"] == {"data": "shapes"}
    assert found.about["held_out"]["right"]["shape=circle"][1] == 40


def wanted(*concepts: Concept) -> RewardRequest:
    return RewardRequest(Config(), concepts, (16, 16, 3), Path())


def test_concepts_are_the_heads_values(fitted, kept):
    red, none = Concept("color", "red"), Concept("color", "green")
    found = reward.load(str(kept), wanted(red, none, Concept("shape=circle")))
    assert found.targets == {red: 2, Concept("shape=circle"): 1}
    picture = RNG.uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    logits = np.asarray(fitted.classifier.logits(fitted.params, picture), np.float64)[2:]
    said = float(found.fn(found.params, jnp.asarray(picture), jnp.asarray(found.targets[red])))
    np.testing.assert_allclose(said, logits[0] - np.log(np.exp(logits).sum()), rtol=1e-4)


def write_examples(place: Path, name: str) -> str:
    """A classifier of two folders, hardly fitted."""
    classifier = Classifier((AttributeHead(name, examples.VALUES),), 8)
    file.write(place, fit(classifier, few(np.arange(12)[:, None] % 2), FitSettings(1, 4)), {})
    return str(place)


def test_the_name_of_two_folders_means_that_it_is_shown(tmp_path):
    place, other = write_examples(tmp_path / "hat.safetensors", "hat"), Concept("scarf")
    for asked in (Concept("hat"), Concept("hat", "yes"), Concept("reward")):
        assert reward.load(place, wanted(asked, other)).targets == {asked: 1}


def test_a_name_may_be_an_attribute_and_its_value(tmp_path):
    place, red = write_examples(tmp_path / "c.safetensors", "color=red"), Concept("color", "red")
    assert reward.load(place, wanted(red, Concept("color", "blue"))).targets == {red: 1}


def test_what_a_classifier_does_not_know_is_refused(kept, tmp_path):
    with pytest.raises(UsageError, match=r"knows hat, and nothing of what .*\(scarf\)"):
        reward.load(write_examples(tmp_path / "h.safetensors", "hat"), wanted(Concept("scarf")))
    with pytest.raises(UsageError, match=r"knows shape=triangle.*nothing of what.*\(hat=yes\)"):
        reward.load(str(kept), wanted(Concept("hat", "yes")))


def test_bad_files_are_refused_by_one_line(kept, tmp_path):
    with pytest.raises(UsageError, match="is missing; fit a classifier by"):
        file.read(tmp_path / "none.safetensors")
    for name, content in {
        "cut": kept.read_bytes()[:200],
        "text": b"no classifier",
        "other": kept.read_bytes().replace(b'\\"side\\": 16', b'\\"side\\": 99'),
    }.items():
        bad = tmp_path / f"{name}.safetensors"
        bad.write_bytes(content)
        with pytest.raises(UsageError, match="is no classifier of"):
            file.read(bad)


def test_a_file_of_another_network_is_refused(kept, tmp_path):
    old, entry = tmp_path / "old.safetensors", b'\\"network\\": '
    content = kept.read_bytes()
    assert entry + b"2" in content
    old.write_bytes(content.replace(entry + b"2", entry + b"1"))
    with pytest.raises(UsageError, match=r"version 1 of the network, not 2.*fit it again"):
        file.read(old)


def test_the_key_is_the_file_s_content(kept, fitted, tmp_path):
    copy, other = tmp_path / "copy.safetensors", tmp_path / "other.safetensors"
    file.write(copy, fitted, {"data": "shapes"})
    file.write(other, fitted._replace(params=jax.tree.map(lambda x: x + 1, fitted.params)), {})
    keys = [reward.key(str(place), Config(), tmp_path) for place in (kept, copy, other)]
    assert keys[0] == keys[1] != keys[2]
