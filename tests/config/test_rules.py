"""Settings that no stage could use or that contradict each other are refused."""

import re

import pytest

from ctrak_jax.config import load
from ctrak_jax.projection import KINDS
from tests.config.refusing import refused, write

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
INVERTED = {
    **FOLDER,
    **TEXT,
    "data.condition_on": "[]",
    "trajectory.path": "inversion",
    "trajectory.condition": "own",
}
RULES: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    "resample": (
        {"query.path": "resample"},
        "query.path=resample needs images whose names are their seeds",
        {"query.path": "inversion"},
    ),
    "a classifier without attributes": (
        {"data.condition_on": "[]", "query.reward": "classifier", "controls": "[]"},
        "give at least one, or classifier:FILE of `ctrak reward fit`",
        {"data.condition_on": "[]", "query.reward": "classifier:a.safetensors", "controls": "[]"},
    ),
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
        {"trajectory.record_every": "10", "gradient.time_chunk": "3"},
        "gradient.time_chunk=3",
        {"trajectory.record_every": "10", "gradient.time_chunk": "2"},
    ),
    "more timesteps than are recorded": (
        {"trajectory.timesteps": "10"},
        "trajectory.timesteps=10 of 9 recorded ones",
        {"trajectory.timesteps": "9"},
    ),
    "time_chunk of fewer timesteps": (
        {"trajectory.timesteps": "4", "gradient.time_chunk": "3"},
        "gradient.time_chunk=3",
        {"trajectory.timesteps": "4", "gradient.time_chunk": "2"},
    ),
    **{
        f"{negative} without attributes": (
            {**INVERTED, "trajectory.negative": negative},
            f"trajectory.negative={negative} changes attributes",
            {**INVERTED, "trajectory.negative": "other", "controls": "[]"},
        )
        for negative in ("attribute", "opposite")
    },
    "tune.checkpoint_every": (
        {"tune.checkpoint_every": "15"},
        "tune.checkpoint_every=15",
        {"tune.checkpoint_every": "15", "tune.scan": "5"},
    ),
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
    "memory of a dit": ({"model.remat": "true"}, "model.remat", {}),
    "precision nobody knows": ({"run.precision": "tf32"}, "run.precision", {}),
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
    "unknown reference": (
        {"references": "[random, lables]"},
        "'labels'",
        {"references": "[random, labels]"},
    ),
    "no list of references": (
        {"references": "labels"},
        "references=labels is neither auto nor a list",
        {"references": "[]"},
    ),
    "a reference twice": (
        {"references": "[labels, labels]"},
        "references",
        {"references": "auto"},
    ),
    "a reference among methods": (
        {"methods": "[trak, labels]"},
        "name it in references",
        {"methods": "[trak]", "references": "[labels]"},
    ),
    "similar latents without latents": (
        {"references": "[similarity-latents]"},
        "similarity-latents, which needs model.kind: text-to-image",
        {**FOLDER, **TEXT, "references": "[similarity-latents]"},
    ),
    "clip without its folder": (
        {"references": "[similarity-clip]"},
        "similarity-clip, which needs similarity.clip",
        {"references": "[similarity-clip]", "similarity.clip": "a folder"},
    ),
    "pictures in counterfactual": (
        {"counterfactual.methods": "[similarity-pixels]"},
        "counterfactual.methods",
        {"counterfactual.methods": "[trak, labels]"},
    ),
    "label control without scores": (
        {"score.keep_all": "false", "controls": "[wrong-label]"},
        "score.keep_all",
        {"score.keep_all": "false", "controls": "[]"},
    ),
    "hidden carriers without scores": (
        {"data.unlabelled": "{color: 0.3}", "score.keep_all": "false", "controls": "[]"},
        "data.unlabelled",
        {"data.unlabelled": "{color: 0.3}", "controls": "[]"},
    ),
    "unnamed images where every one is named": (
        {"counterfactual.among": "unlabelled"},
        "counterfactual.among=unlabelled",
        {"counterfactual.among": "unlabelled", "data.unlabelled": "{color: 0.3}"},
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
    grid |= {"trajectory.timesteps": "all"}
    advised = re.search(r"\[([\d, ]+)\]", refused(None, {**grid, "gradient.time_chunk": "5"}))
    assert advised is not None
    found = [int(n) for n in advised[1].split(",")]
    assert found == [1, 2, 3, 4, 6, 12]
    for n in found:
        load(None, {**grid, "gradient.time_chunk": str(n)})


def test_a_contradiction_is_named_by_the_line_of_a_setting_it_is_about(tmp_path):
    text = "name: x\nevaluate:\n  k: [101]\nprojection:\n  seed: 1\n"
    path = write(tmp_path, text)
    assert refused(path).startswith(f"{path}:3: evaluate.k=[101] ")
    assert refused(path, {"evaluate.k": "[1]", "projection.k": "8"}).startswith("--projection.k=8 ")
