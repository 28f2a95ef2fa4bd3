"""The command line on bad input: its exit status, one line that names the fault, no traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import yaml
from PIL import Image

from ctrak_jax import cli
from ctrak_jax.config import Config, load
from ctrak_jax.data import build, write_folder
from ctrak_jax.store import FeatureStore

# Should a fault slip through, what runs must be over soon.
SMALL = {
    "data": {"size": 24},
    "model": {"width": 16, "depth": 1, "heads": 2},
    "train": {"steps": 1, "batch": 8, "warmup": 0, "scan": 1, "checkpoint_every": 1},
    "projection": {"k": 32},
}


class Outcome(NamedTuple):
    status: int
    line: str
    out: str


@pytest.fixture
def ctrak(capsys, tmp_path, monkeypatch) -> Callable[..., Outcome]:
    """Run a command that must fail; its exit status and its one line of complaint."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Outcome:
        capsys.readouterr()
        try:
            status = cli.main([str(a) for a in argv])
        except Exception as error:
            pytest.fail(f"a traceback instead of one line: {type(error).__name__}: {error}")
        out, err = capsys.readouterr()
        lines = err.splitlines()
        complaints = [line for line in lines if line.startswith("ctrak: ")]
        assert "Traceback" not in err
        assert len(complaints) == 1, f"exit status {status}, stderr: {err!r}"
        assert lines[-1] == complaints[0], "the complaint is one line, and the last"
        return Outcome(status, complaints[0], out)

    return run


def write_config(folder: Path, **sections: dict) -> Path:
    """A small config with some settings changed."""
    merged = {name: dict(section) for name, section in SMALL.items()}
    for name, section in sections.items():
        merged[name] = {**merged.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(merged))
    return path


# Configs and command lines

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
    "time chunk no divisor": ("gradient: {time_chunk: 4}\n", "gradient.time_chunk=4", "[1, 3, 9]"),
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
    "setting without value": (("config", "c.yaml", "--train.steps"), "--train.steps"),
    "shortened setting": (("config", "c.yaml", "--train.step", "3"), "--train.step"),
    "setting of wrong type": (("config", "c.yaml", "--train.steps", "many"), "--train.steps"),
    "setting no YAML": (("config", "c.yaml", "--data.hold_out", "[{"), "--data.hold_out"),
    "two configs": (("config", "c.yaml", "d.yaml"), "d.yaml"),
    "data without out": (("data", "c.yaml"), "--out"),
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
        "--image goes with neither",
    ),
    "attribute of a picture and of all": (
        (*PICTURE_AND_PROMPT, "--scope", "global"),
        "--image goes with neither",
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

    command = cli.Command(cli.COMMANDS["config"].declare, interrupted, "")
    monkeypatch.setitem(cli.COMMANDS, "config", command)
    assert ctrak("config", write_config(tmp_path)).status == 130


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
    args = cli.parser().parse_args(["report", str(moved)])
    assert cli.load(args)[1] == moved


# Folders of images

Damage = Callable[[Path], object]
COUNT, SIDE = 8, 16


def pictures(folder: Path) -> list[Path]:
    """The images as PNG files in place of images.npy."""
    images = np.load(folder / "images.npy")
    (folder / "images.npy").unlink()
    (folder / "images").mkdir()
    files = [folder / "images" / f"{i:06d}.png" for i in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    return files


def array(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def damage(folder: Path) -> None:
        np.save(folder / "images.npy", change(np.load(folder / "images.npy")))

    return damage


def with_nan(images: np.ndarray) -> np.ndarray:
    images = images.astype(np.float32)
    images[5, 2, 2, 1] = np.nan
    return images


def replaced(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def edited(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def picture(change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        file = pictures(folder)[3]
        file.write_bytes(change(file.read_bytes()))

    return damage


def other_size(folder: Path) -> None:
    Image.new("RGB", (SIDE + 1, SIDE)).save(pictures(folder)[3])


def no_pictures(folder: Path) -> None:
    for file in pictures(folder):
        file.unlink()


def bad_tar(folder: Path) -> None:
    no_pictures(folder)
    (folder / "images" / "a.tar").write_bytes(b"no tar file" * 100)


def zipped(folder: Path) -> None:
    with (folder / "images.npy").open("wb") as file:
        np.savez(file, images=np.zeros((COUNT, SIDE, SIDE, 3), np.uint8))


def flipped(content: bytes, at: bytes, ahead: int) -> bytes:
    """One byte changed, some way behind a chunk's name."""
    place = content.index(at) + ahead
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


FOLDERS: dict[str, tuple[Damage, str, str]] = {
    "no images": (lambda f: (f / "images.npy").unlink(), "images.npy", "images/"),
    "no attributes": (lambda f: (f / "attributes.csv").unlink(), "attributes.csv", "index"),
    "an image too many": (
        array(lambda a: np.concatenate([a, a[:1]])),
        "attributes.csv",
        "9 images",
    ),
    "an image too few": (array(lambda a: a[1:]), "attributes.csv", "7 images"),
    "no image at all": (array(lambda a: a[:0]), "attributes.csv", "0 images"),
    "NaN": (array(with_nan), "images.npy", "image 5"),
    "floats": (array(lambda a: a / np.float32(255)), "float32", "uint8"),
    "integers": (array(lambda a: a.astype(np.int64)), "int64", "uint8"),
    "booleans": (array(lambda a: a > 3), "bool", "uint8"),
    "gray": (array(lambda a: a[..., 0]), "(8, 16, 16)", "[N, H, W, 3]"),
    "channels first": (array(lambda a: a.transpose(0, 3, 1, 2)), "(8, 3, 16, 16)", "[N, H, W, 3]"),
    "RGBA": (array(lambda a: a[..., [0, 1, 2, 2]]), "(8, 16, 16, 4)", "[N, H, W, 3]"),
    "one image": (array(lambda a: a[0]), "(16, 16, 3)", "[N, H, W, 3]"),
    "objects": (
        lambda f: np.save(f / "images.npy", np.array([{}]), allow_pickle=True),
        "images.npy",
        "",
    ),
    "images.npy cut off": (edited("images.npy", lambda b: b[:700]), "images.npy", ""),
    "images.npy of text": (replaced("images.npy", b"no array at all"), "images.npy", ""),
    "images.npy empty": (replaced("images.npy", b""), "images.npy", ""),
    "images.npy zipped": (zipped, "images.npy", ""),
    "PNG cut off": (picture(lambda b: b[:-30]), "000003.png", "image"),
    "PNG cut off early": (picture(lambda b: b[:20]), "000003.png", "image"),
    "PNG empty": (picture(lambda b: b""), "000003.png", "image"),
    "PNG of text": (picture(lambda b: b"no picture"), "000003.png", "image"),
    "PNG data flipped": (picture(lambda b: flipped(b, b"IDAT", 8)), "000003.png", "image"),
    "PNG size flipped": (picture(lambda b: flipped(b, b"IHDR", 7)), "000003.png", "image"),
    "PNG chunk flipped": (picture(lambda b: flipped(b, b"IDAT", 1)), "000003.png", "image"),
    "PNG of another size": (other_size, "000003.png", "17 x 16"),
    "no PNG": (no_pictures, "images", "holds no"),
    "a bad tar": (bad_tar, "a.tar", "tar"),
    "table empty": (replaced("attributes.csv", b""), "attributes.csv", "index,"),
    "table without header": (
        edited("attributes.csv", lambda b: b.split(b"\n", 1)[1]),
        "attributes.csv",
        "index,",
    ),
    "table without attributes": (
        replaced("attributes.csv", b"index\n" + b"".join(b"%d\n" % i for i in range(8))),
        "attributes.csv",
        "index,",
    ),
    "a value missing": (
        edited(
            "attributes.csv",
            lambda b: b.replace(b"3,circle,", b"3,", 1).replace(b"3,triangle,", b"3,", 1),
        ),
        "attributes.csv:5",
        "index 3",
    ),
    "an index wrong": (
        edited("attributes.csv", lambda b: b.replace(b"\n3,", b"\n4,", 1)),
        "attributes.csv:5",
        "index 3",
    ),
    "table not text": (replaced("attributes.csv", b"index,a\n0,\xff\xfe\n"), "attributes.csv", ""),
    "prompts too few": (replaced("prompts.txt", b"a\nb\n"), "prompts.txt", "2 lines"),
    "prompts not text": (replaced("prompts.txt", b"\xff\n" * 8), "prompts.txt", ""),
    "meta no JSON": (replaced("meta.json", b"{"), "meta.json", "JSON"),
    "meta a list": (replaced("meta.json", b"[1]"), "meta.json", ""),
}


@pytest.fixture
def images(tmp_path) -> Path:
    path = tmp_path / "images-of-mine"
    write_folder(build(load(None, {"data.size": str(COUNT)}).data).raw, path)
    return path


def folder_config(tmp_path: Path, images: Path) -> Path:
    data = {"kind": "folder", "path": str(images)}
    return write_config(tmp_path, data=data, query={"check": "none"})


@pytest.mark.parametrize(("damage", "word", "other"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_bad_folder_exits_with_2_and_names_the_file(ctrak, tmp_path, images, damage, word, other):
    damage(images)
    status, line, _ = ctrak("train", folder_config(tmp_path, images))
    assert status == 2
    assert str(images) in line
    assert word in line
    assert other in line


def test_a_missing_folder_exits_with_2(ctrak, tmp_path):
    status, line, _ = ctrak("train", folder_config(tmp_path, tmp_path / "none"))
    assert status == 2
    assert str(tmp_path / "none") in line


# One question

ASKED = {
    "no condition": ({"--condition": "red"}, "--condition"),
    "unknown attribute": ({"--condition": "style=red"}, "'style=red'"),
    "unknown value": ({"--condition": "shape=circle,color=green"}, "color='green'"),
    "concept not in the condition": ({"--concept": "style"}, "'style'"),
    "unknown method": ({"--method": "tark"}, "'tark'"),
    "a method without gradients": ({"--method": "unlearning"}, "'unlearning'"),
    "nothing wanted": ({"--top": "0"}, "--top 0"),
    "more than there are": ({"--top": "25"}, "24 training images"),
    "image missing": ({"--image": "none.png"}, "none.png"),
    "image is no image": ({"--image": "some.yaml"}, "some.yaml"),
    "image of another size": ({"--image": "large.png"}, "large.png"),
}


@pytest.mark.parametrize(("changes", "word"), ASKED.values(), ids=ASKED.keys())
def test_a_bad_question_exits_with_2(ctrak, tmp_path, changes, word):
    path = write_config(tmp_path)
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image.png")
    Image.new("RGB", (SIDE, 2 * SIDE)).save(tmp_path / "large.png")
    question = {
        "--image": "image.png",
        "--condition": "shape=circle,color=red",
        "--concept": "color",
    } | changes
    argv = [part for pair in question.items() for part in pair]
    status, line, out = ctrak("attribute", path, "--out", tmp_path / "out", *argv)
    assert (status, out) == (2, "")
    assert word in line


def test_a_question_to_no_model_exits_with_1(ctrak, tmp_path):
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "image.png")
    status, line, _ = ctrak(
        "attribute", write_config(tmp_path), "--image", "image.png",
        "--condition", "shape=circle,color=red", "--concept", "color",
    )  # fmt: skip
    assert status == 1
    assert "ctrak train" in line


# What is on disk

KEY = {
    "loss": "dsm",
    "trajectory": {"path": "forward"},
    "projection": {"kind": "rademacher", "k": 32},
}


@pytest.fixture
def store(tmp_path) -> Path:
    path = tmp_path / "run" / "features" / "trak"
    made = FeatureStore.create(path, KEY, index=np.arange(10), widths={"features": 32}, chunk=4)
    values = np.random.default_rng(0).normal(size=(10, 32)).astype(np.float32)
    for rows in made.chunks:
        made.write(rows, {"features": values[rows.start : rows.stop]})
    made.seal()
    return path


def test_info_of_what_is_right(capsys, store):
    assert cli.main(["info", str(store.parents[1]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stores"][str(store)]["rows"] == 10
    assert found["stores"][str(store)]["key"] == KEY
    assert cli.main(["info", str(store)]) == 0
    text = capsys.readouterr().out
    assert "10 rows" in text
    assert "complete" in text


def changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda file: file.write_bytes(change(file.read_bytes()))


DISK = {
    "a byte of a chunk": ("features/c/1/0", changed(lambda b: b[:9] + bytes([b[9] ^ 1]) + b[10:])),
    "the checksum of a chunk": ("features/c/2/0", changed(lambda b: b[:-1] + bytes([b[-1] ^ 128]))),
    "a chunk cut off": ("features/c/0/0", changed(lambda b: b[:100])),
    "a chunk lost": ("features/c/0/0", Path.unlink),
    "a byte of the index": ("index/c/0", changed(lambda b: bytes([b[0] ^ 1]) + b[1:])),
    "the index lost": ("index/c/0", Path.unlink),
    "meta data cut off": ("features/zarr.json", changed(lambda b: b[:40])),
    "meta data lost": ("features/zarr.json", Path.unlink),
    "manifest cut off": ("manifest.json", changed(lambda b: b[: len(b) // 2])),
    "manifest empty": ("manifest.json", changed(lambda b: b"")),
    "manifest a list": ("manifest.json", changed(lambda b: b"[]")),
    "manifest not text": ("manifest.json", changed(lambda b: b"\xff" + b)),
    "manifest of other rows": (
        "manifest.json",
        changed(lambda b: b.replace(b'"rows": 10', b'"rows": 12')),
    ),
    "manifest with no chunk": (
        "manifest.json",
        changed(lambda b: b.replace(b'"chunk": 4', b'"chunk": 0')),
    ),
}


@pytest.mark.parametrize(("name", "damage"), DISK.values(), ids=DISK.keys())
def test_info_of_a_damaged_store_exits_with_1_and_names_the_place(ctrak, store, name, damage):
    damage(store / name)
    status, line, _ = ctrak("info", store.parents[1])
    assert status == 1
    assert str(store) in line
    if not name.startswith("manifest"):
        assert name.split("/")[0] in line.replace(str(store.parents[1]), "")


def test_info_of_a_damaged_model_exits_with_1(ctrak, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"parameters": 3, "sha')
    status, line, _ = ctrak("info", tmp_path)
    assert status == 1
    assert "model.json" in line


# And what is right


def test_config_prints_what_reads_back(capsys, tmp_path):
    path = write_config(tmp_path)
    hold_out = "[{shape: triangle, color: red}]"
    assert cli.main(["config", str(path), "--data.hold_out", hold_out, "--train.steps=9"]) == 0
    (tmp_path / "resolved.yaml").write_text(capsys.readouterr().out)
    resolved = load(tmp_path / "resolved.yaml")
    assert resolved == load(path, {"data.hold_out": hold_out, "train.steps": "9"})
    assert resolved.data.hold_out == ({"shape": "triangle", "color": "red"},)


def test_data_writes_a_folder_that_reads_as_the_config_s(capsys, tmp_path):
    assert cli.main(["data", str(write_config(tmp_path)), "--out", str(tmp_path / "set")]) == 0
    data = load(write_config(tmp_path)).data
    np.testing.assert_array_equal(np.load(tmp_path / "set" / "images.npy"), build(data).raw.images)


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)], ids=str)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "usage: ctrak" in out
    if command in (["run"], ["config"]):
        assert all(f"--{s}." in out for s in ("data", "train", "score"))
        assert "--trajectory.record_every" in out
        assert str(Config().trajectory.record_every) in out
