"""Tokens are trained, pictures drawn, and written as `ctrak abc` reads them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ctrak_jax import cli, customise, log
from ctrak_jax.abc.inputs import exemplars_of, question_of
from ctrak_jax.abc.tokens import require_tokens
from ctrak_jax.config import Config
from ctrak_jax.customise.training import Illustrator, TokenTrainer
from ctrak_jax.data.abc import read_abc
from ctrak_jax.data.abc.tasks import read_tasks
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.errors import OutOfTime, UsageError
from ctrak_jax.gradient import select
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.models import stable_diffusion as sd
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings
from ctrak_jax.models.stable_diffusion.textual_inversion import TABLE, add_tokens
from tests.tiny_model import write_model

SIZES = {"one": (23, 16), "two": (16, 16)}
"""Of the concepts' pictures, of which there are two and one."""


def picture(folder: Path, size: tuple[int, int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{seed}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    picture(folder / "one", SIZES["one"], 1)
    picture(folder / "one", SIZES["one"], 2)
    picture(folder / "two", SIZES["two"], 3)
    rows = [
        {"name": "one", "pictures": "one", "kind": "style", "prompts": ["a {token}", "{token} b"]},
        {"name": "two", "pictures": "two", "kind": "object", "token": "<x>"},
    ]
    (folder / "list.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), shallow=True)


def settings(base: Path, pictures: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "run": {"devices": 1},
        "model": {"kind": "text-to-image", "checkpoint": str(base)},
        "data": {"kind": "abc", "path": str(out)},
        "trajectory": {"steps": 4, "record_every": 2, "negative": "null"},
        "query": {"check": "none", "sampling_guidance": 2.0},
        "methods": ["concept-trak"],
        "controls": [],
        "customise": {
            "concepts": str(pictures / "list.json"),
            "initial": "abc",
            "vectors": 2,
            "images": 3,
            "first_seed": 7,
            "steps": 40,
            "batch": 2,
            "learning_rate": 0.05,
            "train_prompt": "{initial} {token}",
        }
        | more,
    }


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """A data set of twelve pictures with captions."""
    folder = tmp_path_factory.mktemp("others")
    for number in range(10, 22):
        picture(folder / "images", (20, 16), number)
    (folder / "prompts.txt").write_text("".join(f"{'abc'[n % 3]} b\n" for n in range(12)))
    return folder


def run(base: Path, pictures: Path, out: Path, **more: Any) -> list[customise.Customised]:
    return customise.run(Config.model_validate(settings(base, pictures, out, **more)), out)


def content(folder: Path) -> dict[str, bytes]:
    """Every result by its name."""
    passing = ("log.jsonl", ".progress")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not str(file.relative_to(folder)).startswith(passing)
    }


@pytest.fixture(scope="module")
def before(base) -> dict[str, bytes]:
    return content(base)


@pytest.fixture(scope="module")
def made(base, before, pictures, tmp_path_factory) -> Path:
    """Both concepts by one command."""
    out = tmp_path_factory.mktemp("made")
    for each in run(base, pictures, out):
        assert each.after < each.before  # of the same noise; a random network hardly hears it
    return out


def embedding(out: Path, name: str) -> Path:
    (file,) = out.glob(f"models-ti/*/{name}/learned_embeds.safetensors")
    return file


def test_a_stopped_command_ends_in_the_bytes_of_one_that_was_not(base, pictures, made, tmp_path):
    """Its time was up after the first concept; the next one was killed as it came to the second.
    The paths of the data set apart."""
    whole, trained = TokenTrainer.train, []

    def killed(self, concept, *rest):
        assert concept.name == "two"
        raise KeyboardInterrupt

    log.deadline.set(1e-9)
    try:
        with pytest.raises(OutOfTime, match="the same command resumes"):
            run(base, pictures, tmp_path)
    finally:
        log.deadline.set(float("inf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenTrainer, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            run(base, pictures, tmp_path)
    tasks = json.loads((tmp_path / "all_tasks.json").read_text())
    assert [task["model_path"] for task in tasks] == ["models/artchive/one"] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TokenTrainer, "train", lambda *given: trained.append(given[1].name) or whole(*given)
        )
        assert len(run(base, pictures, tmp_path)) == 2
    assert trained == ["two"]
    mine, theirs = content(tmp_path), content(made)
    assert mine.keys() == theirs.keys()
    assert [k for k in mine if mine[k] != theirs[k] and k != "customise.yaml"] == []


def test_only_the_token_s_rows_are_new(base, before, made):
    assert content(base) == before
    text = sd.load_codecs(base).text
    (token, rows) = next(iter(load_embeddings(embedding(made, "two")).items()))
    assert (token, rows.shape) == ("<x>", (2, 32))
    grown = add_tokens(text, {token: rows})
    old, new = (np.asarray(select(t.params, (TABLE,)).params[TABLE]) for t in (text, grown))
    np.testing.assert_array_equal(new[: len(old)], old)
    np.testing.assert_array_equal(new[len(old) :], rows)
    start = old[text.network.tokenize.vocabulary["abc</w>"]]  # type: ignore[attr-defined]
    assert np.abs(rows - start).max() > 0.1
    assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_the_reader_of_the_benchmark_takes_it(base, pictures, made):
    tasks = read_tasks(made, made / "all_tasks.json", "auto")
    require_tokens(tasks, 32, allow_missing=False)
    assert [task.class_id for task in tasks] == ["one"] * 3 + ["two"] * 3
    assert [len(task.exemplars) for task in tasks] == [2] * 3 + [1] * 3
    assert len(exemplars_of(tasks).files) == 3
    assert [task.prompt for task in tasks[:3]] == ["a <new1>", "<new1> b", "a <new1>"]
    assert {task.train_prompt for task in tasks} == {"abc <new1>", "abc <x>"}
    assert [task.image.name for task in tasks[:3]] == ["00007.png", "00008.png", "00009.png"]
    assert question_of(4, tasks[4]).token == "<x>"
    assert tasks[0].exemplars[0].read_bytes() == (pictures / "one" / "1.png").read_bytes()
    images = [np.asarray(Image.open(task.image)) for task in tasks]
    assert {image.shape for image in images} == {(16, 16, 3)}
    assert [len(np.unique(images[i : i + 3], axis=0)) for i in (0, 3)] == [3, 3]


def test_what_has_changed_is_made_again_and_nothing_else(base, pictures, made, monkeypatch):
    trained, drawn = [], []
    train, draw = TokenTrainer.train, Illustrator.draw
    monkeypatch.setattr(
        TokenTrainer, "train", lambda *given: trained.append(given[1].name) or train(*given)
    )
    monkeypatch.setattr(
        Illustrator, "draw", lambda *given: drawn.append(given[2][0]) or draw(*given)
    )
    first = content(made)
    run(base, pictures, made)
    assert (trained, drawn, content(made)) == ([], [], first)
    rows = json.loads((pictures / "list.json").read_text())
    (pictures / "other.json").write_text(
        json.dumps([rows[0] | {"prompts": ["b {token}"]}, rows[1] | {"initial": "a"}])
    )
    run(base, pictures, made, concepts=str(pictures / "other.json"))
    assert (trained, drawn) == (["two"], ["b <new1>", "a <x>"])
    embedding(made, "one").write_bytes(b"")
    run(base, pictures, made)
    assert trained == ["two", "one", "two"]
    assert content(made) == first


def test_a_data_set_becomes_the_candidates(base, pictures, others, made, tmp_path, monkeypatch):
    found = shutil.copytree(made, tmp_path / "abc")
    whole = settings(base, pictures, found, candidates=str(others))
    config = Config.model_validate(whole)
    customise.run(config, found)
    read = read_abc(found, latent=(4, 8, 8), text=(77, 32))
    codecs = sd.load_codecs(base)
    second = np.asarray(Image.open(found / "laion_subset/images/000000001.png"))
    for stored, image in ((read.laion.latents, second), (read.laion.flipped, second[:, ::-1])):
        latent = codecs.image.network.encode(codecs.image.params, to_unit(image))
        np.testing.assert_allclose(stored[1], latent, atol=1e-4)
    text = codecs.text.network
    wanted = text.apply(codecs.text.params, text.tokens("b b"))
    np.testing.assert_allclose(read.laion.text[1], wanted, atol=1e-4)
    assert (found / "laion_subset/captions.txt").read_text().splitlines()[1] == "b b"
    first = content(found)
    (found / "laion_subset" / "customise.json").write_text('{"made_from": null}')  # as by a kill
    customise.run(config, found)
    assert content(found) == first
    monkeypatch.setattr(BatchEncoder, "encode", lambda *_: pytest.fail("encoded twice"))
    customise.run(config, found)
    assert content(found) == first
    monkeypatch.undo()
    (found / "laion_subset" / "customise.json").unlink()
    with pytest.raises(
        UsageError, match=r"laion_latents\.npy was not written by `ctrak customise`"
    ):
        customise.run(config, found)


# Errors


def _odd(base: Path, folder: Path) -> None:
    """The model with latents of 9 x 9 x 4 numbers."""
    shutil.copytree(base, folder)
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": 9}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"customise": {"initial": "ab"}}, "concept 'one': initial='ab' is 2 tokens"),
        ({"customise": {"initial": "zzz"}}, "concept 'one': initial='zzz' is 0 tokens"),
        ({"customise": {"concepts": "exists.json"}}, "token '<|endoftext|>' exists already"),
        ({"customise": {"concepts": "broken.json"}}, "bad.png: "),
        ({"customise": {"concepts": None}}, "customise.concepts is empty"),
        ({"customise": {"concepts": "none"}}, "concept 'none': 0 pictures, expected 1 to 21"),
        ({"customise": {"concepts": "many.json"}}, "concept 'one': 22 pictures, expected 1 to 21"),
        ({"customise": {"first_seed": 2**32 - 2}}, "first_seed=4294967294: 4294967296, that of"),
        ({"model": {"checkpoint": "odd"}}, "324 numbers, and noise by seed is made of multiples"),
        ({"model": {"checkpoint": None}}, "model.checkpoint"),
        ({"model": {"checkpoint": "flux"}}, "pipeline 'FluxPipeline' is not supported; use a Sta"),
        ({"data": {"kind": "folder"}}, "customise writes the files of an AbC benchmark"),
        ({"data": {"path": "theirs"}}, "was not written by `ctrak customise`"),
    ],
    ids=str,
)
def test_errors_are_one_line(base, pictures, tmp_path, capsys, monkeypatch, changes, message):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "all_tasks.json").write_text("[]")
    row = {"name": "one", "pictures": str(pictures / "one")}
    (tmp_path / "exists.json").write_text(json.dumps([row | {"token": "<|endoftext|>"}]))
    (tmp_path / "broken.json").write_text(json.dumps([row | {"pictures": "bad.png"}]))
    (tmp_path / "none").mkdir()
    many = [str(pictures / "one")] * 11
    (tmp_path / "many.json").write_text(json.dumps([row | {"pictures": many}]))
    _odd(base, tmp_path / "odd")
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    monkeypatch.chdir(tmp_path)
    found = settings(base, pictures, tmp_path / "out")
    for section, values in changes.items():
        found[section] |= values
    Path("some.yaml").write_text(yaml.safe_dump(found))
    assert cli.main(["customise", "some.yaml"]) == 2
    out, err = capsys.readouterr()
    assert not out
    (line,) = [line for line in err.splitlines() if line.startswith("ctrak: ")]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_the_command_lists_its_concepts(base, pictures, made, tmp_path, capsys):
    file = tmp_path / "some.yaml"
    file.write_text(yaml.safe_dump(settings(base, pictures, made)))
    assert cli.main(["customise", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split("│")[1:4] == [" one     ", " style  ", " <new1> "] for line in lines)
