"""The configuration: what it accepts, what it refuses, and that it says where and why."""

import re
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax import config as cfg
from ctrak_jax.config import Config, dump, load
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import METHODS
from ctrak_jax.projection import KINDS

SHIPPED = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


def refused(path: Path | None, overrides: dict[str, str] | None = None) -> str:
    """The message of a config that must be refused: always one line."""
    with pytest.raises(UsageError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message


# Round trip

positive = st.floats(1e-6, 1e12)
words = st.text(min_size=1, max_size=8)
configs = st.builds(
    Config,
    name=st.text(max_size=20),
    out=st.none() | st.just(Path("some/where")),
    methods=st.lists(st.sampled_from(list(METHODS)), min_size=1, unique=True).map(tuple),
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


# Files that cannot be read


def test_a_missing_file_is_named(tmp_path):
    assert str(tmp_path / "none.yaml") in refused(tmp_path / "none.yaml")


def test_a_folder_is_no_config_file(tmp_path):
    assert str(tmp_path) in refused(tmp_path)


def test_broken_yaml_names_file_and_line(tmp_path):
    path = write(tmp_path, "name: x\ndata:\n  size: [1, 2\ntrain: {}\n")
    message = refused(path)
    assert re.search(re.escape(str(path)) + r":[34]: ", message)
    assert "YAML" in message


@pytest.mark.parametrize(
    ("text", "kind"), [("- a\n- b\n", "list"), ("12\n", "int"), ("so\n", "str")]
)
def test_yaml_without_sections_is_refused(tmp_path, text, kind):
    path = write(tmp_path, text)
    message = refused(path)
    assert str(path) in message
    assert kind in message


@pytest.mark.parametrize(
    "content",
    [b"name: \xff\xfe\n", b"name: a\x07b\n", b"\x00\x01\x02", b"a: 1\n---\nb: 2\n", b"a: *none\n"],
    ids=["not UTF-8", "control character", "binary", "two documents", "dangling alias"],
)
def test_odd_bytes_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    assert str(path) in refused(path)


def test_a_key_given_twice_is_refused(tmp_path):
    path = write(tmp_path, "train: {steps: 7}\ntrain: {batch: 8}\n")
    assert f"{path}:2" in refused(path)


# Unknown keys

UNKNOWN = {
    "in a section": ("name: x\ndata:\n  size: 10\n  sise: 20\n", 4, "data.sise", "data.size"),
    "inline": ("name: x\ntrain: {batch: 4, stepz: 20}\n", 2, "train.stepz", "train.steps"),
    "at the top": ("name: x\n\ntrian: {}\n", 3, "trian", "train"),
    "a section's field at the top": ("damping: [1]\n", 1, "damping", "score.damping"),
    "a number": ("1: 2\n", 1, "1", None),
}


@pytest.mark.parametrize(("text", "line", "key", "near"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_key_is_named_with_its_line_and_the_nearest(tmp_path, text, line, key, near):
    path = write(tmp_path, text)
    message = refused(path)
    assert f"{path}:{line}: " in message
    assert f"'{key}'" in message
    if near is not None:
        assert f"'{near}'" in message


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_letter_too_many_still_finds_its_key(tmp_path_factory, data):
    section = data.draw(st.sampled_from(sorted(cfg.sections())))
    field = data.draw(st.sampled_from(sorted(cfg.sections()[section].model_fields)))
    place = data.draw(st.integers(0, len(field)))
    wrong = field[:place] + "q" + field[place:]
    path = write(tmp_path_factory.mktemp("near"), yaml.safe_dump({section: {wrong: 1}}))
    message = refused(path)
    assert f"'{section}.{wrong}'" in message
    assert f"'{section}.{field}'" in message


# Wrong types and values

WRONG = {
    "text for a number": ("train:\n  steps: many\n", 2, "train.steps", "many"),
    "a float for an integer": ("data:\n\n  size: 2.5\n", 3, "data.size", "2.5"),
    "below the least": ("name: x\ntrain:\n  steps: 0\n", 3, "train.steps", "0"),
    "not one of the names": ("train:\n  optimizer: sgd\n", 2, "train.optimizer", "sgd"),
    "an item of a list": ("run:\n  seeds: [0, x]\n", 2, "run.seeds", "x"),
    "a scalar for a list": ("run:\n  seeds: 3\n", 2, "run.seeds", "3"),
    "a scalar for a section": ("name: x\ndata: 3\n", 2, "data", "3"),
    "nothing for a section": ("name: x\ntrain:\n", 2, "train", "None"),
    "a YAML no for a value": ("data:\n  hold_out: [{shape: no}]\n", 2, "data.hold_out", "False"),
    "a list for a section": ("score:\n  - damping: [1]\n", 1, "score", "damping"),
}


@pytest.mark.parametrize(("text", "line", "key", "got"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_names_line_key_and_what_was_got(tmp_path, text, line, key, got):
    path = write(tmp_path, text)
    message = refused(path)
    assert f"{path}:{line}: " in message
    assert key in message
    assert got in message


# Each setting: values that no stage could use


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evaluate.k", "[]"),  # evaluate.k[0] chooses the damping
        ("evaluate.k", "[0]"),  # precision@0
        ("score.damping", "[-1.0]"),  # G - lambda I
        ("score.damping", "[.nan]"),
        ("score.damping", "[100.0, 1.0]"),
        ("train.learning_rate", ".nan"),
        ("train.learning_rate", ".inf"),
        ("data.seed", "-1"),  # NumPy's generators take no negative seed
        ("query.seed", "-1"),
        ("run.seeds", "[-1]"),  # nor do grain's
        ("run.seeds", "[0, 0]"),  # two runs in one folder
        ("methods", "[trak, trak]"),  # every row twice
        ("data.condition_on", "[]"),  # no condition to guide by
        ("query.scopes", "[]"),  # nothing to ask
    ],
)
def test_a_value_no_stage_can_use_is_refused(key, value):
    assert key in refused(None, {key: value})


# Consistency: (wrong, words of the message, the same put right)

FOLDER = {"data.kind": "folder", "data.path": "there", "query.check": "none"}
TEXT = {"model.kind": "text-to-image"}
RULES: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    "k": ({"projection.k": "100"}, "projection.k=100", {"projection.k": "96"}),
    **{
        f"a kernel for {kind}": (
            {"projection.kind": kind, "projection.implementation": "pallas_gpu"},
            f"projection.kind={kind}; use auto or xla",
            {"projection.kind": kind, "projection.implementation": "xla"},
        )
        for kind in KINDS
        if kind != "rademacher"
    },
    "record_every": (
        {"trajectory.record_every": "7"},
        "trajectory.record_every=7",
        {"trajectory.record_every": "5"},
    ),
    "record_every once": (
        {"trajectory.record_every": "50"},
        "trajectory.record_every=50",
        {"trajectory.record_every": "25", "gradient.time_chunk": "1"},
    ),
    "time_chunk": (
        {"gradient.time_chunk": "4"},
        "gradient.time_chunk=4",
        {"gradient.time_chunk": "3"},
    ),
    "time_chunk of another grid": (
        {"trajectory.record_every": "10"},
        "gradient.time_chunk=9",
        {"trajectory.record_every": "10", "gradient.time_chunk": "2"},
    ),
    "more timesteps than are recorded": (
        {"trajectory.timesteps": "10"},
        "trajectory.timesteps=10 of 9 recorded ones",
        {"trajectory.timesteps": "9"},
    ),
    "time_chunk of fewer timesteps": (
        {"trajectory.timesteps": "3"},
        "gradient.time_chunk=9",
        {"trajectory.timesteps": "3", "gradient.time_chunk": "3"},
    ),
    **{
        f"{negative} without attributes": (
            {**FOLDER, **TEXT, "data.condition_on": "[]", "trajectory.negative": negative},
            f"trajectory.negative={negative} changes attributes",
            {
                **FOLDER,
                **TEXT,
                "data.condition_on": "[]",
                "trajectory.negative": "other",
                "controls": "[]",
            },
        )
        for negative in ("attribute", "opposite")
    },
    "checkpoint_every": (
        {"train.checkpoint_every": "70"},
        "train.checkpoint_every=70",
        {"train.checkpoint_every": "70", "train.scan": "35"},
    ),
    "folder without path": (
        {"data.kind": "folder", "query.check": "none"},
        "data.path",
        FOLDER,
    ),
    "precision of a dit": ({"model.dtype": "bfloat16"}, "model.dtype", {}),
    "folder of shapes": ({**FOLDER, "query.check": "shapes"}, "query.check=shapes", FOLDER),
    "no seed": ({"run.seeds": "[]"}, "run.seeds", {"run.seeds": "[3]"}),
    "no damping": ({"score.damping": "[]"}, "score.damping", {"score.damping": "[1]"}),
    "deeper than the top lists": (
        {"evaluate.k": "[10, 101]"},
        "evaluate.k=[10, 101]",
        {"evaluate.k": "[10, 101]", "score.top": "101"},
    ),
    "unknown method": (
        {"methods": "[trak, concept-track]"},
        "'concept-trak'",
        {"methods": "[trak]"},
    ),
    "label control without labels": (
        {**FOLDER, **TEXT, "data.condition_on": "[]", "trajectory.negative": "other"},
        "controls=wrong-label",
        {
            **FOLDER,
            **TEXT,
            "data.condition_on": "[]",
            "trajectory.negative": "other",
            "controls": "[]",
        },
    ),
    "label control without scores": (
        {"score.keep_all": "false", "controls": "[wrong-label]"},
        "score.keep_all",
        {"score.keep_all": "false", "controls": "[]"},
    ),
}


@pytest.mark.parametrize(("wrong", "words", "right"), RULES.values(), ids=RULES.keys())
def test_settings_that_contradict_each_other_are_refused(wrong, words, right):
    assert words in refused(None, wrong)
    load(None, right)


@pytest.mark.parametrize("k", [1, 31, 33, 47, 49, 100, 4095])
def test_the_k_advised_is_accepted(k):
    advised = re.search(r"try (\d+)", refused(None, {"projection.k": str(k)}))
    assert advised is not None
    assert abs(load(None, {"projection.k": advised[1]}).projection.k - k) <= 31


def test_the_time_chunks_advised_are_all_that_fit():
    grid = {"trajectory.steps": "26", "trajectory.record_every": "2"}  # 12 recorded times
    advised = re.search(r"\[([\d, ]+)\]", refused(None, {**grid, "gradient.time_chunk": "5"}))
    assert advised is not None
    found = [int(n) for n in advised[1].split(",")]
    assert found == [1, 2, 3, 4, 6, 12]
    for n in found:
        load(None, {**grid, "gradient.time_chunk": str(n)})


# The command line on top


def test_overrides_win_and_leave_the_rest(tmp_path):
    path = write(tmp_path, "name: x\ntrain: {steps: 7, batch: 8}\n")
    config = load(path, {"train.steps": "9", "projection.k": "64", "name": "y"})
    assert (config.name, config.train.steps, config.train.batch) == ("y", 9, 8)
    assert config.projection.k == 64


def test_overrides_are_read_as_yaml():
    config = load(
        None,
        {
            "data.hold_out": "[{shape: triangle, color: red}]",
            "train.learning_rate": "1e-3",
            "run.seeds": "[1, 2]",
            "score.keep_all": "no",
            "controls": "[]",
            "out": "a/b",
            "trajectory.negative": "null",
            "query.minus": '"null"',
        },
    )
    assert (config.trajectory.negative, config.query.minus) == ("null", "null")
    assert config.data.hold_out == ({"shape": "triangle", "color": "red"},)
    assert config.train.learning_rate == 1e-3
    assert config.run.seeds == (1, 2)
    assert config.score.keep_all is False
    assert config.out == Path("a/b")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.hold_out", "[{shape", "[{shape"),
        ("train.steps", "many", "many"),
        ("train.stepz", "3", "train.steps"),
        ("projection.k", "33", "projection.k=33"),
        ("methods", "trak", "expected a list; write [trak]."),
    ],
)
def test_a_wrong_override_is_named(tmp_path, key, value, words):
    message = refused(write(tmp_path, "train: {steps: 5}\n"), {key: value})
    assert key in message
    assert words in message


def test_a_wrong_override_is_blamed_and_not_the_file(tmp_path):
    message = refused(write(tmp_path, "train: {steps: 5}\n"), {"train.steps": "many"})
    assert "--train.steps" in message
    assert "some.yaml" not in message


@pytest.mark.parametrize("section", ["data:\n", "data: 3\n", "data: [1]\n", "data: text\n"])
def test_an_override_below_what_is_no_section(tmp_path, section):
    """Whether an empty section counts as defaults or as wrong: no other error may come of it."""
    path = write(tmp_path, section)
    try:
        config = load(path, {"data.size": "5"})
    except UsageError as error:
        assert "data" in str(error)  # noqa: PT017
    else:
        assert section == "data:\n"
        assert config.data.size == 5


# Renamed settings


@pytest.mark.parametrize(("old", "new"), cfg.RENAMED.items())
def test_an_old_name_is_answered_by_the_new_one(tmp_path, old, new):
    section, field = old.split(".")
    path = write(tmp_path, f"name: x\n{section}:\n  {field}: 1\n")
    assert refused(path) == f"{path}:3: {old} is now {new}; write the new name."
    assert refused(None, {old: "1"}) == f"--{old}: {old} is now {new}; write the new name."
    assert new.split(".")[1] in cfg.sections()[section].model_fields


def test_all_old_names_of_a_config_are_named_at_once(tmp_path):
    lines = [f"  {old.split('.')[1]}: 1" for old in cfg.RENAMED]
    message = refused(write(tmp_path, "\n".join(["trajectory:", *lines])))
    assert ":2: " in message
    assert all(f"{old} is now {new}" in message for old, new in cfg.RENAMED.items())
