"""Bad configs and command lines: the exit status, one line that names the fault, no traceback."""

import json

import jax
import pytest

from ctrak_jax import cli
from ctrak_jax.cli import arguments
from ctrak_jax.log import deadline
from tests.cli.small import write_config

TEXTS = {
    "unknown key": ("name: x\ntrain:\n  stepz: 3\n", "some.yaml:3", "'train.steps'"),
    "unknown section": ("trian: {steps: 3}\n", "some.yaml:1", "'train'"),
    "wrong type": ("name: x\ntrain: {steps: many}\n", "some.yaml:2", "'many'"),
    "a list at the top": ("- train\n", "some.yaml", "list"),
    "not YAML": ("train: [1\n", "some.yaml", "YAML"),
    "control character": ("name: \a\n", "some.yaml", ""),
    "unknown method": ("methods: [d-track]\n", "'d-track'", "'d-trak'"),
    "k is no multiple of 32": ("projection: {k: 100}\n", "projection.k=100", "32"),
    "k zero": ("projection: {k: 0}\n", "projection.k", "0"),
    "k negative": ("projection: {k: -32}\n", "projection.k", "-32"),
    "k too small": ("projection: {k: 16}\n", "projection.k=16", "try 32"),
    "time chunk no divisor": ("gradient: {time_chunk: 4}\n", "gradient.time_chunk=4", "[1, 3]"),
    "folder without a path": ("data: {kind: folder}\n", "data.path", "folder"),
    "unknown shape": ("data: {shapes: [triangle, blob]}\n", "'blob'", "circle"),
    "unknown colour": ("data: {colors: [red, mauve]}\n", "'mauve'", "blue"),
    "a colour twice": ("data: {colors: [red, red]}\n", "data.colors", "once"),
    "unknown attribute in condition_on": (
        "data: {size: 9, condition_on: [shape, style]}\n",
        "data.condition_on",
        "'style'",
    ),
    "unknown attribute in hold_out": (
        "data: {size: 9, hold_out: [{style: red}]}\n",
        "data.hold_out",
        "'style'",
    ),
    "unknown value in hold_out": (
        "data: {size: 9, hold_out: [{color: green}]}\n",
        "color='green'",
        "red",
    ),
    "all held out": (
        "data: {size: 9, hold_out: [{color: red}, {color: blue}]}\n",
        "data.hold_out",
        "all 9 images",
    ),
    "an empty hold_out holds out all": (
        "data: {size: 9, hold_out: [{}]}\n",
        "data.hold_out",
        "all 9",
    ),
    "too many devices": ("run: {devices: 999}\ndata: {size: 9}\n", "run.devices=999", "device"),
}


@pytest.mark.parametrize(("text", "word", "other"), TEXTS.values(), ids=TEXTS.keys())
def test_a_bad_config_exits_with_2(ctrak, tmp_path, text, word, other):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    status, line, out = ctrak("train", path)
    assert (status, out) == (2, "")
    assert word in line
    assert other in line


NETWORKS = {
    "image no multiple of the patch": (
        {"data": {"image_size": 18}, "model": {"patch": 4}},
        "model.patch",
    ),
    "width does not fit the heads": ({"model": {"width": 20}}, "model.width=20"),
    "no such parameter": ({"gradient": {"include": ["*attn9*"]}}, "'*attn9*' matches none"),
    "mask of more than there is": (
        {"projection": {"k": 2**20, "kind": "mask"}},
        "projection.k=1048576",
    ),
    "no parameter left": ({"gradient": {"exclude": ["*"]}}, "leaves no parameter"),
    "checkpoint missing": ({"model": {"checkpoint": "none.safetensors"}}, "none.safetensors"),
    "checkpoint damaged": ({"model": {"checkpoint": "some.yaml"}}, "some.yaml"),
}


@pytest.mark.parametrize(("changes", "word"), NETWORKS.values(), ids=NETWORKS.keys())
def test_a_network_that_cannot_be_exits_with_2(ctrak, tmp_path, changes, word):
    status, line, _ = ctrak("train", write_config(tmp_path, **changes))
    assert status == 2
    assert word in line


def test_a_batch_that_devices_cannot_share_exits_with_2(ctrak, tmp_path):
    assert jax.local_device_count() == 8
    status, line, _ = ctrak("train", write_config(tmp_path, train={"batch": 12}))
    assert status == 2
    assert "train.batch=12" in line
    assert "8 devices" in line


PICTURE_AND_PROMPT = ("attribute", "c.yaml", "--prompt", "a", "--concepts", "a", "--image", "x.png")
COMMANDS = {
    "none": ((), "COMMAND"),
    "unknown": (("trian",), "'trian'"),
    "no config": (("train",), "CONFIG"),
    "missing config": (("train", "none.yaml"), "none.yaml"),
    "an empty folder for a config": (("train", "."), "config.yaml"),
    "unknown setting": (("config", "c.yaml", "--train.stepz", "3"), "--train.stepz"),
    "setting by its old name": (
        ("config", "c.yaml", "--trajectory.against", "null"),
        "is now trajectory.negative",
    ),
    "setting without value": (("config", "c.yaml", "--train.steps"), "--train.steps"),
    "shortened setting": (("config", "c.yaml", "--train.step", "3"), "--train.step"),
    "setting of wrong type": (("config", "c.yaml", "--train.steps", "many"), "--train.steps"),
    "setting no YAML": (("config", "c.yaml", "--data.hold_out", "[{"), "--data.hold_out"),
    "two configs": (("config", "c.yaml", "d.yaml"), "d.yaml"),
    "data without out": (("data", "c.yaml"), "--out"),
    "tune without a checkpoint": (
        ("tune", "c.yaml"),
        "give a published model's folder, or that of an",
    ),
    "tune of a LoRA": (
        (
            *("tune", "c.yaml", "--model.kind", "text-to-image", "--model.checkpoint", "m"),
            *("--model.lora", "x.safetensors", "--query.check", "none", "--data.kind", "folder"),
            *("--data.path", "d"),
        ),
        "leave it out here",
    ),
    "info without a folder": (("info",), "DIR"),
    "info of nothing": (("info", "none"), "none"),
    "info of an empty folder": (("info", "."), "holds no model"),
    "bench of nothing": (("bench", "none"), "'none'"),
    "bench of a word": (("bench", "projection", "--batch", "many"), "--batch"),
    "bench of no samples": (("bench", "projection", "--batch", "0"), "batch"),
    "bench of an odd k": (("bench", "projection", "--k", "33", "--repeats", "1"), "k"),
    "bench into no folder": (("bench", "projection", "--json", "none/x.json"), "no such folder"),
    "attribute draws answers to prompts alone": (
        ("attribute", "c.yaml", "--condition", "shape=circle", "--picture", "x.png"),
        "--picture goes with --prompt",
    ),
    "attribute of a picture and of one to be made": (
        (*PICTURE_AND_PROMPT, "--image-seed", "1"),
        "--image does not go with --image-seed",
    ),
    "attribute of a picture and of all": (
        (*PICTURE_AND_PROMPT, "--scope", "global"),
        "--image does not go with --scope global",
    ),
    "attribute without image": (
        ("attribute", "c.yaml", "--condition", "shape=circle", "--concept", "shape"),
        "--image",
    ),
}


@pytest.mark.parametrize(("argv", "word"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_bad_command_line_exits_with_2(ctrak, tmp_path, argv, word):
    if "c.yaml" in argv:
        (tmp_path / "c.yaml").write_text("train: {steps: 5}\n")
    status, line, out = ctrak(*argv)
    assert (status, out) == (2, "")
    assert word in line


@pytest.mark.parametrize("stage", ["featurize", "query", "score", "evaluate", "report"])
def test_a_stage_before_its_turn_exits_with_1_and_names_the_one_to_run(ctrak, tmp_path, stage):
    status, line, _ = ctrak(stage, write_config(tmp_path), "--out", tmp_path / "out")
    assert status == 1
    assert "run `ctrak " in line


def test_an_interrupt_exits_with_130(ctrak, tmp_path, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.module_of("config"), "act", interrupted)
    assert ctrak("config", write_config(tmp_path)).status == 130


def test_a_command_out_of_time_exits_with_75_and_goes_on_where_it_was(ctrak, tmp_path):
    """Two of three calls of one step each end early; the third ends in the model of a command that
    had all the time."""
    steps = {"steps": 3, "batch": 8, "warmup": 0, "scan": 1, "checkpoint_every": 100}
    wanted = write_config(tmp_path, train=steps)
    models = []
    for out, limited in (("pieces", 2), ("whole", 0)):
        try:
            for _ in range(limited):
                arguments = ("train", wanted, "--out", tmp_path / out, "--minutes", "1e-9")
                status, line, _ = ctrak(*arguments)
                assert status == 75
                assert "the same command resumes" in line
        finally:
            deadline.set(float("inf"))
        assert cli.main(["train", str(wanted), "--out", str(tmp_path / out)]) == 0
        models.append(json.loads((tmp_path / out / "model" / "model.json").read_text())["sha256"])
    assert models[0] == models[1]


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "nan"])
def test_minutes_are_a_positive_number(ctrak, tmp_path, minutes):
    status, line, _ = ctrak("run", write_config(tmp_path), f"--minutes={minutes}")
    assert (status, "--minutes" in line) == (2, True)


def test_results_under_a_file_cannot_be(ctrak, tmp_path):
    (tmp_path / "out").write_text("in the way")
    status, line, _ = ctrak("train", write_config(tmp_path), "--out", tmp_path / "out")
    assert status in (1, 2)
    assert str(tmp_path / "out") in line


def test_a_refused_command_leaves_the_config_of_an_earlier_run(ctrak, tmp_path):
    """``ctrak run DIR`` reads it: after a refusal it must still be the one of the results there."""
    out = tmp_path / "out"
    path = write_config(tmp_path)
    assert ctrak("featurize", path, "--out", out).status == 1  # no model yet, but a resolved config
    before = (out / "config.yaml").read_text()
    assert ctrak("train", path, "--out", out, "--data.hold_out", "[{color: mauve}]").status == 2
    assert (out / "config.yaml").read_text() == before


def test_a_run_s_own_folder_is_where_its_results_go(tmp_path):
    """Also where its config names another, as it does after ``--out`` or when it was moved."""
    moved = tmp_path / "moved"
    moved.mkdir()
    config = moved / "config.yaml"
    write_config(moved).rename(config)
    config.write_text(f"{config.read_text()}\nout: {tmp_path / 'elsewhere'}\n")
    assert arguments.load(cli.parse(["report", str(moved)])).out == moved


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--train.steps", "-3"), "ctrak: --train.steps: got -3; input should be greater"),
        (("--score.damping", "[5, 5]"), None),
        (("--train.stepz", "3"), "unknown argument '--train.stepz'; did you mean --train.steps?"),
        (("--train.stepz=3",), "unknown argument '--train.stepz=3'; did you mean --train.steps?"),
        (("--zzz",), "unknown argument '--zzz'; see ctrak run --help."),
        (("more",), "unknown argument 'more'; see ctrak run --help."),
    ],
)
def test_a_setting_of_the_command_line_is_named_once(ctrak, tmp_path, words, line):
    found = ctrak("run", write_config(tmp_path), *words)
    assert found.status == 2
    assert found.line.count("score.damping") == 1 if line is None else line in found.line


def test_a_run_that_is_refused_leaves_no_folder(ctrak, tmp_path):
    path = write_config(tmp_path, data={"kind": "folder", "path": "none"}, query={"check": "none"})
    for out in ((), ("--out", "a/b/c")):
        assert ctrak("run", path, *out).status == 2
    (tmp_path / "kept").mkdir()
    assert ctrak("run", path, "--out", "kept").status == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept", "some.yaml"]
