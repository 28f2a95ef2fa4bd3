"""A whole config: its defaults, and that what is written reads back."""

from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax import config as cfg
from ctrak_jax.config import Config, dump, load
from ctrak_jax.methods import ATTRIBUTION
from tests.config.refusing import write

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

# Round trip

METHODS = [name for name in ATTRIBUTION if name != "reward"]
"""Those that need no further setting."""
positive = st.floats(1e-6, 1e12)
words = st.text(min_size=1, max_size=8)
configs = st.builds(
    Config,
    name=st.text(max_size=20),
    out=st.none() | st.just(Path("some/where")),
    methods=st.lists(st.sampled_from(METHODS), min_size=1, unique=True).map(tuple),
    controls=st.sampled_from([(), ("wrong-label",), ("no-condition-embedding", "wrong-label")]),
    run=st.builds(
        cfg.RunConfig, seeds=st.lists(st.integers(0, 99), min_size=1, unique=True).map(tuple)
    ),
    data=st.builds(
        cfg.DataConfig,
        size=st.integers(1, 10**6),
        path=st.none() | st.just(Path("no such folder/at all")),
        hold_out=st.lists(st.dictionaries(words, words, max_size=3), max_size=2).map(tuple),
        condition_on=st.lists(words, min_size=1, unique=True, max_size=3).map(tuple),
    ),
    train=st.builds(cfg.TrainConfig, learning_rate=positive, ema=st.floats(0, 0.999)),
    projection=st.builds(
        cfg.ProjectionConfig,
        k=st.integers(1, 500).map(lambda n: 32 * n),
        seed=st.integers(0, 2**32 - 1),
    ),
    score=st.builds(
        cfg.ScoreConfig,
        damping=st.sets(positive, min_size=1, max_size=4).map(lambda r: tuple(sorted(r))),
    ),
)


@settings(max_examples=25, deadline=None)
@given(config=configs)
def test_what_is_dumped_reads_back_the_same(tmp_path_factory, config):
    path = write(tmp_path_factory.mktemp("round"), dump(config))
    assert load(path) == config


def test_a_dump_names_every_setting(tmp_path):
    found = yaml.safe_load(dump(Config()))
    assert found.keys() == Config.model_fields.keys()
    for name, section in cfg.sections().items():
        assert found[name].keys() == section.model_fields.keys()


def test_nothing_given_is_the_defaults(tmp_path):
    assert (
        load(None) == load(write(tmp_path, "")) == load(write(tmp_path, "# nothing\n")) == Config()
    )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs_load(path):
    assert load(path) != Config()


@pytest.mark.parametrize(
    ("holder", "field", "value"),
    [(Config(), "name", "other"), (Config().data, "size", 3), (Config().train, "steps", 3)],
    ids=["top", "data", "train"],
)
def test_a_config_cannot_be_changed(holder, field, value):
    with pytest.raises(pydantic.ValidationError):
        setattr(holder, field, value)


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (None, ("concept-trak", "trak", "d-trak", "das", "reward")),
        (["trak"], ("trak", "reward")),
        (["reward", "trak"], ("reward", "trak")),
    ],
)
def test_another_reward_than_the_slider_is_a_method(methods, expected):
    found = Config.model_validate(
        {"query": {"reward": "python:a.py:f"}} | ({"methods": methods} if methods else {})
    )
    assert found.methods == expected
    assert found.table["reward"].train == found.table["concept-trak"].train
