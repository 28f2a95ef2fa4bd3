"""`ctrak abc` on a miniature in the released layout, made by PyTorch's tools: what is read, and
what is refused before anything is computed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ctrak_jax.abc.inputs import TaskPrompt
from ctrak_jax.abc.prepared import Benchmark, prepare
from ctrak_jax.abc.tokens import learned_of, require_tokens
from ctrak_jax.config import Config
from ctrak_jax.data.abc import Task
from ctrak_jax.errors import UsageError
from ctrak_jax.models.stable_diffusion.textual_inversion import save_embedding
from tests.data.abc_files import edit
from tests.wild import abc_mini, forms

ROWS = 40
READ = (
    "all_tasks.json",
    "json/test_artchive.json",
    "json/test_unobserved_imagenet.json",
    "laion_latents.npy",
    "laion_text_embeddings.npy",
    "models-ti/artchive/ukiyo/new1.bin",
    "models-ti/imagenet/n00000001_0000/new1.bin",
    "synth-ti/artchive/gpt/ukiyo/samples/00003.png",
    "synth-ti/artchive/object/ukiyo/samples/00004.png",
    "synth-ti/imagenet/media/n00000001_0000/samples/00172.png",
    *(f"exemplar/artchive/images/ukiyo/{name}.jpg" for name in ("wave", "fish", "cat", "dog")),
    "exemplar/imagenet/images/n00000001/ILSVRC2012_val_00000007.JPEG",
)
"""Every file that is read."""


def settings(path: Path, **changes: dict[str, Any]) -> Config:
    found: dict[str, Any] = {
        "methods": ["trak"],
        "controls": [],
        "run": {"devices": 1},
        "data": {"kind": "abc", "path": str(path)},
        "model": {"kind": "text-to-image", "checkpoint": str(forms() / "formats" / "sd_fp16")},
        "trajectory": {"negative": "null"},
        "query": {"check": "none"},
        "score": {"damping": [1.0]},
    }
    for section, values in changes.items():
        found[section] = found.get(section, {}) | values
    return Config.model_validate(found)


@pytest.fixture
def root(tmp_path) -> Path:
    return shutil.copytree(abc_mini(), tmp_path / "data")


def prepared(root: Path, **changes: Any) -> Benchmark:
    allowed = changes.pop("allow_missing_token", False)
    return prepare(settings(root, **changes), root.parent / "out", allow_missing_token=allowed)


def refused(root: Path, **changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        prepared(root, **changes)
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message


def test_everything_is_found(root):
    bench = prepared(root)
    assert [len(task.exemplars) for task in bench.abc.tasks] == [4, 4, 1]
    assert [q.minus.text for q in bench.asked] == [
        task.prompt.replace("<new1> ", "") for task in bench.abc.tasks
    ]
    assert len(bench.exemplars.files) == 5
    assert bench.rows.tolist() == list(range(ROWS))
    assert bench.factor == 1.0
    assert learned_of(bench.abc.tasks[0]) == root / "models-ti/artchive/ukiyo/new1.bin"


def test_texts_and_latents_are_those_of_the_published_tools(root):
    bench, reference = prepared(root), load_file(root / "reference.safetensors")
    for number, (task, asked) in enumerate(zip(bench.abc.tasks, bench.asked, strict=True)):
        words = {
            "text": asked.prompt,
            "text_minus": asked.minus,
            "train_text": TaskPrompt(task.train_prompt, asked.prompt.learned),
        }
        for name, prompt in words.items():
            found = bench.encoder.embedding(prompt)
            np.testing.assert_allclose(found, reference[f"task{number}/{name}"], atol=2e-4)
        pictures = bench.encoder.latents([task.image, *task.exemplars])
        expected = np.concatenate(
            [
                reference[f"task{number}/query_latent"][None],
                reference[f"task{number}/exemplar_latents"],
            ]
        )
        np.testing.assert_allclose(pictures.transpose(0, 3, 1, 2), expected, atol=2e-3)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("fault", ["missing", "cut short", "other content"])
def test_a_missing_or_damaged_file_is_one_line_that_names_it(root, name, fault):
    file = root / name
    whole = file.read_bytes()
    file.unlink()
    if fault != "missing":
        file.write_bytes(whole[: len(whole) // 2] if fault == "cut short" else b"nonsense")
    message = refused(root)
    lost_token = fault == "missing" and name.endswith(".bin")
    assert str(file.parent if lost_token else file) in message


@pytest.mark.parametrize("name", ["laion_subset/captions.txt", "laion_subset/images"])
def test_what_is_only_counted_is_missed_too(root, name):
    (root / name).rename(root / "away")
    assert str(root / name) in refused(root)


def test_customised_networks_are_said_and_not_read(root, caplog):
    """Custom Diffusion's own models: the token is read, K and V are not."""
    with caplog.at_level("WARNING", "ctrak"):
        bench = prepared(root, data={"customised": "listed"})
    found = [learned_of(task) for task in bench.abc.tasks]
    assert [file and file.name for file in found] == ["<new1>.bin"] * 3
    assert bench.abc.tasks[0].image == root / "synth/artchive/gpt/ukiyo/samples/00003.png"
    (line,) = [r.getMessage() for r in caplog.records if "are not read" in r.getMessage()]
    assert line.startswith("2 customised models also change the network")


# Tokens


def test_a_missing_token_is_refused_with_what_the_folder_holds(root, caplog):
    folder = root / "models-ti/artchive/ukiyo"
    (folder / "new1.bin").unlink()
    (folder / "notes.txt").touch()
    said = f"{folder}: no embedding of <new1>, which task 0 has (it holds notes.txt); expected"
    assert refused(root).startswith(said)
    with caplog.at_level("WARNING", "ctrak"):
        bench = prepared(root, allow_missing_token=True)
    assert [q.prompt.learned is None for q in bench.asked] == [True, True, False]
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert line.startswith(said)


def test_a_model_folder_that_is_not_there_is_named(root):
    folder = root / "models-ti/imagenet/n00000001_0000"
    shutil.rmtree(folder)
    message = refused(root)
    assert message.startswith(f"{folder}: no embedding of <new1>, which task 2 has (no such folder")


def test_the_only_file_of_embeddings_is_taken_whatever_its_name(root):
    folder = root / "models-ti/artchive/ukiyo"
    (folder / "new1.bin").rename(folder / "step-500.bin")
    (folder / "pytorch_custom_diffusion_weights.bin").touch()
    task = prepared(root).abc.tasks[0]
    assert learned_of(task) == folder / "step-500.bin"
    shutil.copy(folder / "step-500.bin", folder / "step-600.bin")
    assert "(it holds " in refused(root)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"<other>": np.ones((1, 32), "f4")}, "holds <other>, but the texts of task 0 have <new1>"),
        ({"<new1>": np.ones((1, 48), "f4")}, "the vectors of <new1> are 48 wide, the text encoder"),
        ({"<new1>": np.full((1, 32), np.nan, "f4")}, "are empty or not finite"),
    ],
)
def test_a_file_of_something_else_is_named(root, content, said):
    folder = root / "models-ti/artchive/ukiyo"
    (folder / "new1.bin").unlink()
    save_file(content, folder / "learned_embeds.safetensors")
    message = refused(root)
    assert message.startswith(f"{folder / 'learned_embeds.safetensors'}: ")
    assert said in message


def test_a_token_of_several_rows_that_comes_twice(root):
    """Its rows stand at both places; without it both are gone."""
    edit(root / "all_tasks.json", lambda t: t[0].update(prompt="a <new1> cat and a <new1> fish"))
    folder = root / "models-ti/artchive/ukiyo"
    (folder / "new1.bin").unlink()
    rows = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    save_embedding(folder / "learned_embeds.safetensors", "<new1>", rows)
    bench = prepared(root)
    asked = bench.asked[0]
    assert (asked.minus.text, asked.token) == ("a cat and a fish", "<new1>")
    whole = bench.encoder.embedding(asked.prompt)
    reduced = np.where(np.arange(3)[:, None] == 1, 0, rows)
    save_embedding(folder / "learned_embeds.safetensors", "<new1>", reduced)
    assert np.abs(prepared(root).encoder.embedding(asked.prompt) - whole).max() > 1e-3


@pytest.mark.parametrize(
    "content", [{"<new1>": np.ones(32, "f4")}, {"<new1>": np.ones((2, 32), "f4")}]
)
def test_vectors_of_one_and_of_two_dimensions_pass(tmp_path, content):
    save_file(content, tmp_path / "new1.safetensors")
    task = Task(tmp_path, "a <new1>", "<new1>", None, "test_bamfg", 0, "one", tmp_path, (tmp_path,))
    require_tokens([task], 32, allow_missing=False)


# LAION's rows


def test_the_first_rows_in_the_order_of_the_file(root):
    first = prepared(root, data={"candidates": 12, "order": "file"})
    drawn = prepared(root, data={"candidates": 12})
    assert first.rows.tolist() == list(range(12))
    assert drawn.rows.tolist() != first.rows.tolist()
    assert len(set(drawn.rows.tolist())) == 12
    assert "data.candidates=41" in refused(root, data={"candidates": 41, "order": "file"})


def rescaled(root: Path, deviation: float) -> Path:
    """Latents with another standard deviation."""
    file = root / "laion_latents.npy"
    latents = np.load(file).astype(np.float32)
    np.save(file, latents * np.float32(deviation / latents.std()))
    return file


def test_latents_without_the_factor_are_recognised(root, caplog):
    file = rescaled(root, 5.0)
    with caplog.at_level("WARNING", "ctrak"):
        bench = prepared(root)
    assert bench.factor == 0.18215
    assert f"{file}: a standard deviation of " in caplog.text
    rows = np.array([3, 7])
    expected = 0.18215 * np.load(file)[rows].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(bench.laion().inputs.samples(rows), expected, rtol=1e-6)
    rescaled(root, 1.0)
    assert prepared(root).factor == 1.0


@pytest.mark.parametrize("deviation", [0.0, 2.3, 50.0])
def test_latents_of_another_size_are_refused(root, deviation):
    file = rescaled(root, deviation)
    assert refused(root).startswith(f"{file}: latents of standard deviation ")


def test_an_image_is_sampled_again_from_a_seed_alone(root, tmp_path):
    again = {"path": "resample", "check": "none"}
    assert prepared(root, query=again).asked
    (odd := tmp_path / "odd").mkdir()
    shutil.copytree(forms() / "formats" / "sd_fp16", odd, dirs_exist_ok=True)
    file = odd / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": 9}))
    model = {"checkpoint": str(odd)}
    said = refused(root, query=again, model=model)
    assert "multiples of 16; use query.path: inversion." in said


def test_latents_that_are_not_finite_are_refused(root):
    file = root / "laion_latents.npy"
    latents = np.load(file)
    latents[0, 0, 0, 0] = np.inf
    np.save(file, latents)
    assert refused(root).startswith(f"{file}: row 0 is not finite")


def test_the_tasks_are_the_same_as_columns(root):
    listed = prepared(root).abc.tasks
    columns = json.loads((root / "all_tasks_columns.json").read_text())
    assert all(isinstance(column, list) for column in columns.values())
    (root / "all_tasks_columns.json").replace(root / "all_tasks.json")
    assert prepared(root).abc.tasks == listed
