"""A config in a file and on the command line: what is read, and that a fault is named with its
place."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax import config as cfg
from ctrak_jax.config import load
from ctrak_jax.errors import UsageError
from tests.config.refusing import refused, write

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
    assert refused(path) == f"{path}:3: {old} is now {new}; use the new name."
    assert refused(None, {old: "1"}) == f"--{old}: {old} is now {new}; use the new name."
    assert new.split(".")[1] in cfg.sections()[section].model_fields


@pytest.mark.parametrize(("old", "new"), cfg.RENAMED_VALUES.items())
def test_an_old_value_is_answered_by_the_new_one(tmp_path, old, new):
    name, value = old
    section, field = name.split(".")
    path = write(tmp_path, f"name: x\n{section}:\n  {field}: {value}\n")
    message = f"{name}={value} is now {new}; use the new value."
    assert refused(path) == f"{path}:3: {message}"
    assert refused(None, {name: value}) == f"--{name}: {message}"
    # data.unlabelled is what the new value asks for.
    found = cfg.load(None, {name: new, "data.unlabelled": "{color: 0.3}"})
    assert getattr(getattr(found, section), field) == new


def test_all_old_names_of_a_config_are_named_at_once(tmp_path):
    lines = [f"  {old.split('.')[1]}: 1" for old in cfg.RENAMED]
    message = refused(write(tmp_path, "\n".join(["trajectory:", *lines])))
    assert ":2: " in message
    assert all(f"{old} is now {new}" in message for old, new in cfg.RENAMED.items())
    assert message.endswith("; use the new names.")
