"""The files of the AbC benchmark: what is read, and what is refused."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax.data.abc import TASK_KEYS, TEST_CASES, read_abc
from ctrak_jax.errors import UsageError
from tests.data.abc_files import COUNT, EXEMPLARS, dump, edit, put, stored, write_abc


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_abc(tmp_path_factory.mktemp("abc") / "data")


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A miniature to damage; its pictures may be removed, but not written over."""

    def copy(source: str, target: str) -> None:
        one_file = os.link if source.endswith((".png", ".JPEG")) else shutil.copyfile
        one_file(source, target)

    return shutil.copytree(whole, tmp_path / "data", copy_function=copy)


# Reading


@pytest.mark.parametrize("form", ["list", "lists"])
def test_tasks_name_their_pictures_and_their_exemplars(tmp_path, form):
    root = write_abc(tmp_path / "data", form=form)
    tasks = read_abc(root).tasks
    assert [t.test_case for t in tasks] == [case for case in TEST_CASES for _ in range(2)]
    assert [len(t.exemplars) for t in tasks] == [n for n in EXEMPLARS for _ in range(2)]
    second = tasks[1]
    assert second.image == root / "synth/artchive/object/test_artchive-1/samples/00001.png"
    assert second.prompt == "object in the style of <new1> art"
    assert second.train_prompt == "A picture in the style of <new1> art"
    assert (second.category, second.entry, second.class_id) == ("art", 1, "test_artchive-1")
    assert second.model == root / "models/artchive/test_artchive-1"
    assert tasks[2].exemplars == tuple(
        root / f"exemplar/bamfg/images/test_bamfg-1/{i}.JPEG" for i in range(4)
    )
    assert all(file.is_file() for t in tasks for file in (t.image, *t.exemplars))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_both_halves_of_the_latents_are_rows_with_channels_last(tmp_path, dtype):
    laion = read_abc(write_abc(tmp_path / "data", dtype=dtype)).laion
    disk = stored((2 * COUNT, 4, 64, 64), dtype, 0)
    assert len(laion) == COUNT
    for half, first in ((laion.latents, 0), (laion.flipped, COUNT)):
        assert (half.shape, len(half), half.ndim) == ((COUNT, 64, 64, 4), COUNT, 4)
        assert half.dtype == dtype
        row = half[2]
        assert row.shape == (64, 64, 4)
        assert row[5, 60, 3] == disk[first + 2, 3, 5, 60]
        expected = disk[first : first + COUNT].transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(half[:], expected, strict=True)
    np.testing.assert_array_equal(laion.text, stored((COUNT, 77, 768), dtype, 1), strict=True)


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(3),
        slice(1, 4),
        slice(None, None, -2),
        [4, 0, 4],
        np.array([[1, 2], [3, 0]]),
        np.arange(COUNT) % 2 == 0,
        np.array([], np.int64),
    ],
    ids=str,
)
def test_latents_are_indexed_like_the_array(whole, key):
    found = read_abc(whole).laion.flipped[key]
    expected = stored((2 * COUNT, 4, 64, 64), "float16", 0)[COUNT:].transpose(0, 2, 3, 1)[key]
    np.testing.assert_array_equal(found, expected, strict=True)
    assert found.flags.c_contiguous
    assert not isinstance(found, np.memmap)


@pytest.mark.parametrize("key", [COUNT, -COUNT - 1, (0, 1)], ids=str)
def test_neither_half_reaches_into_the_other_nor_past_rows(whole, key):
    with pytest.raises(IndexError):
        read_abc(whole).laion.latents[key]


def test_opening_reads_no_array(tmp_path):
    """0.8 GB of latents and 0.1 GB of text that are holes in files open in a few megabytes."""
    root, count = write_abc(tmp_path / "data"), 4_000
    for name, shape in (
        ("laion_latents.npy", (2 * count, 4, 64, 64)),
        ("laion_text_embeddings.npy", (count, 77, 768)),
    ):
        (root / name).unlink()
        np.lib.format.open_memmap(root / name, "w+", np.float16, shape)
    (root / "laion_subset" / "captions.txt").write_text("a\n" * count)
    for i in range(COUNT, count):
        (root / "laion_subset" / "images" / f"{i:09d}.png").touch()
    tracemalloc.start()
    try:
        laion = read_abc(root).laion
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6
    assert laion.flipped[count - 1].shape == (64, 64, 4)
    shutil.rmtree(root)


def test_another_list_of_tasks_is_read(root):
    tasks = json.loads((root / "all_tasks.json").read_text())
    dump(root / "demo_task.json", tasks[-1:])
    found = read_abc(root, tasks=root / "demo_task.json").tasks
    assert found == read_abc(root).tasks[-1:]


def test_absolute_paths_are_taken_as_they_are(root):
    file = root / "json" / "test_bamfg.json"
    put(root.parent / "elsewhere.png", 1)
    edit(file, lambda e: e[1]["exemplar"].append(str(root.parent / "elsewhere.png")))
    assert read_abc(root).tasks[2].exemplars[-1] == root.parent / "elsewhere.png"


# What is refused


def refused(path: Path, **options) -> str:
    with pytest.raises(UsageError) as caught:
        read_abc(path, **options)
    message = str(caught.value)
    assert message.splitlines() == [message], "a message is one line"
    return message


@pytest.mark.parametrize(
    "name",
    [
        "json/test_artchive.json",
        "json/test_unobserved_imagenet.json",
        "all_tasks.json",
        "laion_latents.npy",
        "laion_text_embeddings.npy",
        "laion_subset/captions.txt",
        "laion_subset/images",
        "laion_subset",
        "json",
        "exemplar",
        "synth",
    ],
)
def test_what_is_missing_is_named(root, name):
    (root / name).rename(root.parent / "away")
    message = refused(root)
    assert f"{root / name}" in message
    assert "No such file" in message or "no such" in message or "missing" in message


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert refused(tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such folder; give")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("all_tasks.json", b'[{"prompt": ', "not valid JSON"),
        ("all_tasks.json", b"\xff\xfe", "not valid JSON"),
        ("all_tasks.json", b"[" * 100_000, "not valid JSON"),
        ("all_tasks.json", b"3", "got 3, expected a list of objects or an object of lists"),
        ("all_tasks.json", b'{"prompt": "one"}', "got an object, expected a list of objects"),
        ("all_tasks.json", b"[]", "holds no task"),
        ("all_tasks.json", b"[[]]", "task 0: got a list, expected an object"),
        ("json/test_bamfg.json", b"{}", "got an object, expected a list of objects"),
        ("json/test_bamfg.json", b"[1, null]", "entry 1: got null, expected an object"),
        ("json/test_bamfg.json", b"nonsense", "not valid JSON"),
        ("laion_latents.npy", b"nonsense", "not a readable .npy file"),
        ("laion_latents.npy", b"", "not a readable .npy file"),
    ],
)
def test_a_damaged_file_is_one_clear_line(root, name, data, said):
    (root / name).write_bytes(data)
    message = refused(root)
    assert message.startswith(f"{root / name}: ")
    assert said in message


def test_a_file_cut_short_is_refused(root):
    file = root / "laion_latents.npy"
    file.write_bytes(file.read_bytes()[:-100])
    assert f"{file}: not a readable .npy file" in refused(root)


@pytest.mark.parametrize("key", TASK_KEYS)
@pytest.mark.parametrize("form", ["list", "lists"])
def test_a_key_that_a_task_lacks_is_named(root, key, form):
    file = root / "all_tasks.json"
    tasks = json.loads(file.read_text())
    if form == "list":
        del tasks[3][key]
        dump(file, tasks)
        assert refused(root).startswith(f"{file}: task 3: has no {key!r}, expected the keys ")
    else:
        dump(file, {k: [task[k] for task in tasks] for k in TASK_KEYS if k != key})
        assert refused(root).startswith(f"{file}: has no {key!r}, expected the keys ")


@pytest.mark.parametrize("key", ["exemplar", "synth", "class_id", "category"])
def test_a_key_that_an_entry_lacks_is_named(root, key):
    file = root / "json" / "test_bamfg.json"
    edit(file, lambda entries: entries[1].pop(key))
    assert refused(root).startswith(f"{file}: entry 1: has no {key!r}, expected the keys ")


def test_lists_of_differing_lengths_are_refused(tmp_path):
    root = write_abc(tmp_path / "data", form="lists")
    edit(root / "all_tasks.json", lambda lists: lists["prompt"].pop())
    message = refused(root)
    assert "all_tasks.json: lists of differing lengths" in message
    assert "prompt 7" in message
    assert "category 8" in message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("test_case_ind", "1", "test_case_ind='1', expected an integer"),
        ("test_case_ind", True, "test_case_ind=True, expected an integer"),
        ("test_case_ind", 2, "has the entries 0 to 1"),
        ("test_case_ind", -1, "has the entries 0 to 1"),
        ("test_case_ind", 0, "is not among the images of"),
        ("test_case", "test_coco", "test_case='test_coco', expected one of test_artchive, "),
        ("test_case", "../all_tasks", "expected one of test_artchive, "),
        ("prompt", None, "prompt=None, expected text"),
        ("category", ["art"], "category=['art'], expected text"),
        ("synth_image_path", "synth/none.png", "synth/none.png is not among the images of"),
    ],
)
def test_a_task_that_asks_for_something_else_is_named(root, key, value, said):
    edit(root / "all_tasks.json", lambda tasks: tasks[2].update({key: value}))
    message = refused(root)
    assert message.startswith(f"{root / 'all_tasks.json'}: task 2: ")
    assert said in message


def test_an_entry_without_exemplars_is_named(root):
    file = root / "json" / "test_bamfg.json"
    edit(file, lambda e: e[1].update(exemplar=[]))
    assert refused(root).startswith(f"{file}: entry 1: 0 exemplars, expected at least 1; ")


def test_a_task_may_have_no_category(root):
    edit(root / "all_tasks.json", lambda tasks: tasks[0].update(category=None))
    assert [task.category for task in read_abc(root).tasks[:2]] == [None, "art"]


# Models and images of textual inversion


def inverted(root: Path) -> None:
    for name in ("models", "synth"):
        (root / name).mkdir(exist_ok=True)
        shutil.copytree(root / name, root / f"{name}-ti")


@pytest.mark.parametrize(("customised", "suffix"), [("auto", "-ti"), ("ti", "-ti"), ("listed", "")])
def test_models_and_images_of_textual_inversion_are_taken_where_they_are(root, customised, suffix):
    inverted(root)
    task = read_abc(root, customised=customised).tasks[1]
    assert task.model == root / f"models{suffix}/artchive/test_artchive-1"
    assert task.image == root / f"synth{suffix}/artchive/object/test_artchive-1/samples/00001.png"
    assert task.exemplars[0] == root / "exemplar/artchive/images/test_artchive-1/0.JPEG"


@pytest.mark.parametrize("name", ["models-ti", "synth-ti"])
def test_one_folder_of_textual_inversion_alone_is_refused(root, name):
    inverted(root)
    shutil.rmtree(root / name)
    assert refused(root).startswith(f"{root / name}: no such folder")
    assert not read_abc(root, customised="listed").tasks[0].model.is_relative_to(root / "models-ti")


# Numbers without a header


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rounded", [False, True])
def test_arrays_without_a_header_are_read_by_their_values(tmp_path, dtype, rounded):
    """Also float32 of numbers that float16 or bfloat16 holds, whose second halves are nearly all
    zero."""
    root = write_abc(tmp_path / "data", dtype=dtype)
    whole = {}
    for name in ("laion_latents.npy", "laion_text_embeddings.npy"):
        whole[name] = np.load(root / name)
        if rounded:
            whole[name] = whole[name].astype("float16").astype(dtype)
        whole[name].tofile(root / name)
    laion = read_abc(root).laion
    assert laion.latents.dtype == laion.text.dtype == dtype
    np.testing.assert_array_equal(laion.text, whole["laion_text_embeddings.npy"])
    plain = whole["laion_latents.npy"][:COUNT].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(laion.latents[:], plain)


def test_numbers_without_a_header_that_are_no_latents_are_refused(root):
    file = root / "laion_latents.npy"
    (1e6 * stored((2 * COUNT, 4, 64, 64), "float32", 0)).tofile(file)
    assert refused(root).startswith(f"{file}: not a readable .npy file")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exemplar": "one"}, "exemplar: got text, expected a list of paths"),
        ({"exemplar": [3]}, "exemplar: got a list, expected a list of paths"),
        ({"synth": []}, "synth is a list, expected an object of lists"),
        ({"synth": {"gpt": None}}, "synth.gpt: got null, expected a list of paths"),
    ],
)
def test_an_entry_of_another_form_is_named(root, change, said):
    file = root / "json" / "test_bamfg.json"
    edit(file, lambda entries: entries[1].update(change))
    assert refused(root).startswith(f"{file}: entry 1: {said}")


def test_pictures_that_are_not_there_are_named_with_what_names_them(root):
    exemplar = root / "exemplar" / "bamfg" / "images" / "test_bamfg-1" / "2.JPEG"
    exemplar.unlink()
    truth = root / "json" / "test_bamfg.json"
    assert refused(root).startswith(f"{exemplar}: missing, but {truth}: entry 1 names it; ")
    put(exemplar, 1)
    image = root / "synth" / "bamfg" / "object" / "test_bamfg-1" / "samples" / "00001.png"
    image.unlink()
    assert refused(root).startswith(f"{image}: missing, but {root / 'all_tasks.json'}: task 3 ")


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "said"),
    [
        ("laion_latents.npy", (10, 64, 64, 4), "f2", "[2N, 4, 64, 64]"),
        ("laion_latents.npy", (10, 4, 64), "f2", "[2N, 4, 64, 64]"),
        ("laion_latents.npy", (), "f2", "shape (), expected [2N, 4, 64, 64]"),
        ("laion_text_embeddings.npy", (5, 77, 1024), "f4", "expected [N, 77, 768]"),
        ("laion_latents.npy", (10, 4, 64, 64), "f8", "dtype float64, expected float16 or float32"),
        ("laion_text_embeddings.npy", (5, 77, 768), "u1", "dtype uint8, expected float16 or"),
        ("laion_latents.npy", (9, 4, 64, 64), "f2", "9 latents, expected 10"),
        ("laion_latents.npy", (5, 4, 64, 64), "f2", "5 latents, expected 10"),
        ("laion_text_embeddings.npy", (0, 77, 768), "f2", "holds no row"),
    ],
)
def test_arrays_of_another_shape_type_or_count_are_refused(root, name, shape, dtype, said):
    np.save(root / name, np.zeros(shape, dtype))
    message = refused(root)
    assert message.startswith(f"{root / name}: ")
    assert said in message


def test_other_numbers_of_pictures_and_captions_are_said(root, caplog):
    """Rows go by number: nothing is computed from them."""
    folder = root / "laion_subset" / "images"
    (folder / "000000002.png").unlink()
    (folder / "notes.txt").touch()
    (root / "laion_subset" / "captions.txt").write_text("a\nb\n")
    with caplog.at_level("WARNING", "ctrak"):
        assert len(read_abc(root).laion) == COUNT
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith(f"{root / 'laion_subset' / 'captions.txt'}: 2 lines, 5 rows in ")
    assert lines[1].startswith(f"{folder}: 4 pictures, 5 rows in ")
