"""The condition without the concept, and the combinations that are asked about."""

from pathlib import Path
from typing import Literal

import numpy as np

from ctrak_jax import config as cfg
from ctrak_jax.attribution import mixtures
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.inputs.questions import Alternative
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import combinations

COLORS = ("red", "blue", "green", "yellow")


def context(
    root: Path,
    minus: Literal["others", "other", "null"],
    query: dict[str, int] | None = None,
    **data,
) -> Context:
    sections = {"colors": COLORS, "size": 16, "image_size": 8} | data
    asked = cfg.QueryConfig(minus=minus, **(query or {}))  # type: ignore[arg-type]
    config = cfg.Config(data=cfg.DataConfig(**sections), query=asked)
    data_set, mesh = build(config.data), local_mesh(1)
    return Context(
        config=config,
        folder=RunFolder(root=root),
        seed=0,
        training_set=data_set,
        dataset=data_set,
        mesh=mesh,
    )


def alternatives(ctx: Context, values: dict[str, str], attribute: str) -> list[Alternative]:
    """The conditions without a concept."""
    return ctx.question_inputs.alternatives(values, attribute)


def test_null_leaves_the_attribute_out(tmp_path):
    ctx = context(tmp_path, "null")
    for values in ctx.dataset.conditions.combinations():
        for attribute in values:
            ((minus, _),) = alternatives(ctx, values, attribute)
            assert minus == {k: v for k, v in values.items() if k != attribute}
            block = ctx.dataset.conditions.encode(minus)[
                ctx.dataset.conditions.blocks == ctx.dataset.conditions.attributes.index(attribute)
            ]
            assert not block.any()


def test_other_changes_the_attribute_and_nothing_else(tmp_path):
    ctx = context(tmp_path, "other")
    for values in ctx.dataset.conditions.combinations():
        for attribute in values:
            ((minus, _),) = alternatives(ctx, values, attribute)
            assert list(minus) == list(values), "in the order of the condition"
            assert minus[attribute] in ctx.dataset.conditions.vocabulary[attribute]
            assert [k for k in values if minus[k] != values[k]] == [attribute]
            ((again, _),) = alternatives(ctx, dict(values), attribute)
            assert again == minus, "fixed by the combination"


def test_other_values_are_all_chosen_by_some_combination(tmp_path):
    """Over 8 shapes x 4 colours every ordered pair of colours occurs but by bad luck: a fixed
    choice (always the first other) would give 4 or 6 of the 12."""
    shapes = ("triangle", "circle", "square", "star", "pentagon", "hexagon", "diamond", "cross")
    ctx = context(tmp_path, "other", shapes=shapes)
    pairs = {
        (values["color"], alternatives(ctx, values, "color")[0].values["color"])
        for values in ctx.dataset.conditions.combinations()
    }
    assert len(pairs) >= 10


def test_an_attribute_of_one_value_has_no_other_and_becomes_null(tmp_path):
    ctx = context(tmp_path, "other", colors=("red",))
    found = alternatives(ctx, {"shape": "circle", "color": "red"}, "color")
    assert found == [({"shape": "circle"}, "")]


def test_the_values_given_are_left_alone(tmp_path):
    values = {"shape": "circle", "color": "red"}
    for minus in ("other", "null"):
        alternatives(context(tmp_path, minus), values, "color")
        assert values == {"shape": "circle", "color": "red"}


# The combinations asked about


def test_no_more_combinations_than_wanted_are_asked_about_in_either_scenario(tmp_path):
    """Of six shapes in four colours all reds but one are held out."""
    shapes = ("triangle", "circle", "square", "star", "diamond", "cross")
    out = tuple({"shape": shape, "color": "red"} for shape in shapes[1:])
    data = {"shapes": shapes, "size": 48, "hold_out": out}

    def asked(limit: int, seed: int = 0) -> list[dict[str, str]]:
        ctx = context(tmp_path, "other", {"combinations": limit, "seed": seed}, **data)
        return combinations(ctx)

    assert len(asked(100)) == 24
    chosen = asked(3)
    assert chosen == asked(3)
    assert len(chosen) == 6
    assert [values in out for values in chosen] == [False] * 3 + [True] * 3
    assert all(values in asked(100) for values in chosen)
    assert len({tuple(c.items()) for c in chosen}) == 6
    assert len({str(asked(3, seed)) for seed in range(8)}) > 4, "the seed decides which"
    assert len(asked(10)) == 10 + 5


def test_the_condition_without_a_concept_is_every_other_value(tmp_path):
    ctx = context(tmp_path, "others")
    values = {"shape": "circle", "color": "red"}
    found = [one.values for one in alternatives(ctx, values, "color")]
    assert found == [{"shape": "circle", "color": c} for c in ("blue", "green", "yellow")]
    (one,) = alternatives(ctx, values, "shape")
    assert one.values == {"shape": "triangle", "color": "red"}


def test_fewer_alternatives_are_filled_up_without_weight():
    three, one = np.arange(6.0).reshape(3, 2), np.full((1, 2), 7.0)
    mixture = mixtures([[three, one]])
    assert mixture.conditions.shape == (1, 2, 3, 2)
    np.testing.assert_allclose(mixture.weights, [[[1 / 3] * 3, [1, 0, 0]]], rtol=1e-6)
    mean = np.einsum("qca,qcav->qcv", mixture.weights, mixture.conditions)
    np.testing.assert_allclose(mean[0], [three.mean(0), one[0]], rtol=1e-6)
