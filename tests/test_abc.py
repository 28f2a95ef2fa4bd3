"""The AbC benchmark: its files in miniature, Recall@k and average precision, its tables."""

import json
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrak_jax.data.abc import MAX_EXEMPLARS, TASK_KEYS, TEST_CASES, read_abc
from ctrak_jax.data.mapped import Lines
from ctrak_jax.data.pictures import Files, Pictures
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import ABLATION
from ctrak_jax.metrics import average_precision, recall_at_k
from ctrak_jax.retrieval import (
    Places,
    Retrieval,
    TaskResult,
    places_by_ranking,
    places_by_score,
    retrieval,
    summarise,
)
from ctrak_jax.terminal.abc import PUBLISHED_RECALL_AT_10, ablation_table, benchmark_table
from tests.test_readers import encoded, picture

COUNT = 5
EXEMPLARS = (1, 4, 13, MAX_EXEMPLARS)
"""How many exemplars the entry that a test case's tasks ask about has, by test case."""
CAPTIONS = ["a cat", "", "une f\u00eate\u2028in one line", "\u732b", "last"]


# A miniature of the layout


def stored(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def write_abc(
    root: Path, *, dtype: str = "float16", form: Literal["list", "lists"] = "list"
) -> Path:
    """Every file of the layout with the real shapes of rows: COUNT LAION pictures, two entries and
    two tasks a test case; the tasks ask about entry 1."""
    np_files = {
        "laion_latents.npy": stored((2 * COUNT, 4, 64, 64), dtype, 0),
        "laion_text_embeddings.npy": stored((COUNT, 77, 768), dtype, 1),
    }
    root.mkdir(parents=True)
    for name, array in np_files.items():
        np.save(root / name, array)
    for i in range(COUNT):  # written last to first: the order is that of the names
        put(root / "laion_subset" / "images" / f"{COUNT - 1 - i:09d}.png", COUNT - 1 - i)
    (root / "laion_subset" / "captions.txt").write_bytes("\n".join([*CAPTIONS, ""]).encode())
    tasks: list[dict[str, Any]] = []
    for case, count in zip(TEST_CASES, EXEMPLARS, strict=True):
        source = case.split("_")[-1]
        entries = []
        for number, exemplars in enumerate((2, count)):
            name = f"{case}-{number}"
            names = [f"exemplar/{source}/images/{name}/{i}.JPEG" for i in range(exemplars)]
            synth = {
                kind: [f"synth/{source}/{kind}/{name}/samples/{i:05d}.png" for i in range(2)]
                for kind in ("gpt", "object")
            }
            for file in (*names, *synth["gpt"], *synth["object"]):
                put(root / file, 7)
            entries.append(
                {
                    "exemplar": [f"dataset/{file}" for file in names],
                    "synth": {k: [f"dataset/{file}" for file in v] for k, v in synth.items()},
                    "class_id": name,
                    "category": None,
                }
            )
        dump(root / "json" / f"{case}.json", entries)
        tasks += [
            {
                "synth_image_path": f"synth/{source}/{kind}/{case}-1/samples/00001.png",
                "prompt": f"{kind} in the style of <new1> art",
                "test_case": case,
                "test_case_ind": 1,
                "model_path": f"models/{source}/{case}-1",
                "train_prompt": "A picture in the style of <new1> art",
                "category": "art" if source in ("artchive", "bamfg") else "fish",
            }
            for kind in ("gpt", "object")
        ]
    lists = {key: [task[key] for task in tasks] for key in TASK_KEYS}
    dump(root / "all_tasks.json", tasks if form == "list" else lists)
    return root


def put(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded(picture(number)))


def dump(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def edit(file: Path, change) -> None:
    """Let ``change`` work on the JSON of a file."""
    value = json.loads(file.read_text())
    change(value)
    dump(file, value)


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


def test_captions_and_pictures_follow_the_rows(whole):
    laion = read_abc(whole).laion
    assert list(laion.captions) == CAPTIONS
    assert laion.captions[-1] == "last"
    assert laion.captions[1:3] == CAPTIONS[1:3]
    assert [p.name for p in laion.images] == [f"{i:09d}.png" for i in range(COUNT)]
    pictures = Pictures(Files(laion.images))
    np.testing.assert_array_equal(pictures[:], np.stack([picture(i) for i in range(COUNT)]))
    with pytest.raises(IndexError):
        laion.captions[COUNT]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one", ["one"]),
        (b"\n", [""]),
        (b"a\r\nb\x0bc\r\n", ["a", "b\x0bc"]),
        (b"\n\nx", ["", "", "x"]),
    ],
)
def test_lines_end_with_a_newline_alone(tmp_path, monkeypatch, data, lines):
    file = tmp_path / "captions.txt"
    file.write_bytes(data)
    assert list(Lines(file)) == lines
    monkeypatch.setattr("ctrak_jax.data.mapped.READ", 2)
    assert list(Lines(file)) == lines


def test_opening_reads_no_array(tmp_path):
    """4 GB of latents and 0.6 GB of text that are holes in files open in a few megabytes."""
    root, count = write_abc(tmp_path / "data"), 20_000
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
        ("laion_subset/captions.txt", b"a\nb\n", "2 lines, expected 5"),
        ("laion_subset/captions.txt", b"", "0 lines, expected 5"),
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


def test_a_caption_that_is_no_text_is_named_when_it_is_asked_for(root):
    file = root / "laion_subset" / "captions.txt"
    file.write_bytes(b"a\nb\n\xff\nd\ne\n")
    captions = read_abc(root).laion.captions
    assert captions[3] == "d"
    with pytest.raises(UsageError, match=r"captions\.txt:3: not UTF-8 text"):
        captions[2]


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


@pytest.mark.parametrize("count", [0, MAX_EXEMPLARS + 1])
def test_exemplars_number_1_to_21(root, count):
    file = root / "json" / "test_bamfg.json"
    edit(file, lambda e: e[1].update(exemplar=e[1]["exemplar"][:1] * count))
    assert refused(root).startswith(f"{file}: entry 1: {count} exemplars, expected 1 to 21; ")


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


def test_pictures_must_be_as_many_as_rows(root):
    folder = root / "laion_subset" / "images"
    (folder / "000000002.png").unlink()
    (folder / "notes.txt").touch()
    assert refused(root).startswith(f"{folder}: 4 pictures, expected 5, ")


# Recall@k and average precision


def test_recall_and_average_precision_worked_out_by_hand():
    """Three exemplars, nine candidates. By falling score: 9 (exemplar 1), 8, 7 (exemplar 0, which
    goes before its equal), 7, 6, 5, 4 (exemplar 2), 3, 2: the exemplars are at 1, 3 and 7."""
    exemplars = np.array([7.0, 9.0, 4.0])
    others = np.array([2.0, 7.0, 8.0, 3.0, 6.0, 5.0])
    places = places_by_score(exemplars, others)
    np.testing.assert_array_equal(places.ranks, [1, 3, 7])
    assert places.candidates == 9
    found = retrieval(places, (1, 2, 3, 6, 7, 9))
    assert found.recall == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 2 / 3, 6: 2 / 3, 7: 1.0, 9: 1.0})
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 7) / 3)
    ranked = np.array([1, 5, 0, 4, 7, 8, 2, 6, 3])
    assert retrieval(places_by_ranking(ranked, 3), (3,)).recall == pytest.approx({3: 2 / 3})


def test_recall_is_of_the_number_of_exemplars_not_of_the_depth():
    """21 exemplars on top of 200: five of them fit into the first five."""
    places = places_by_score(np.full(21, 1.0), np.zeros(179))
    found = retrieval(places)
    assert found.recall == pytest.approx({5: 5 / 21, 10: 10 / 21, 100: 1.0})
    assert found.average_precision == 1.0


scores_of = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(exemplars=scores_of, others=scores_of, cut=st.integers(0, 12))
def test_places_are_those_of_the_stable_ranking(exemplars, others, cut):
    """Ties by index, as everywhere; however the others are cut into blocks and ordered."""
    every = np.array(exemplars + others)
    ranked = np.argsort(-every, kind="stable")
    relevant = np.arange(len(every)) < len(exemplars)
    rest = np.array(others)
    for given_others in (rest, [rest[cut:], rest[:cut]], (block for block in (rest,))):
        places = places_by_score(np.array(exemplars), given_others)
        np.testing.assert_array_equal(places.ranks, places_by_ranking(ranked, len(exemplars)).ranks)
        depths = tuple(range(1, len(every) + 1))
        found = retrieval(places, depths)
        for k in depths:
            assert found.recall[k] == pytest.approx(recall_at_k(ranked, relevant, k))
        assert found.average_precision == pytest.approx(average_precision(ranked, relevant))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_scores_on_the_device_and_of_small_types_are_compared_exactly(dtype):
    values = jnp.linspace(-1.0, 1.0, 40).astype(dtype)
    exemplars, others = values[::7], values
    exact = places_by_score(
        np.asarray(exemplars.astype("float32")), np.asarray(others.astype("float32"))
    )
    found = places_by_score(exemplars, others)
    np.testing.assert_array_equal(found.ranks, exact.ranks)
    assert found.candidates == 46


def test_a_million_candidates_are_streamed():
    """Their scores as one list of Python numbers would take 32 MB, their order as much again."""
    exemplars = np.random.default_rng(0).normal(2.0, 1.0, 21).astype(np.float32)

    def blocks():
        for seed in range(10):
            yield np.random.default_rng(seed + 1).normal(size=100_000).astype(np.float32)

    tracemalloc.start()
    try:
        places = places_by_score(exemplars, blocks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6
    others = np.concatenate(list(blocks()))
    expected = [np.sum(others > s) + np.sum(exemplars > s) + 1 for s in exemplars]
    np.testing.assert_array_equal(places.ranks, np.sort(expected))
    np.testing.assert_array_equal(places_by_score(exemplars, others).ranks, places.ranks)
    assert places.candidates == 1_000_021


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: places_by_score(np.zeros(0), np.ones(3)), "no exemplar"),
        (lambda: places_by_score(np.array([np.nan]), np.ones(3)), "NaN"),
        (lambda: places_by_score(np.ones(1), [np.ones(2), np.array([np.nan])]), "NaN"),
        (lambda: places_by_score(np.ones((2, 2)), np.ones(3)), r"shape \(2, 2\)"),
        (lambda: places_by_score(np.ones(1), np.array(1.0)), r"shape \(\)"),
        (lambda: places_by_ranking(np.array([0, 1, 1]), 1), "each of its 3 candidates once"),
        (lambda: places_by_ranking(np.array([1, 2, 3]), 1), "each of its 3 candidates once"),
        (lambda: places_by_ranking(np.array([0, 1, -1]), 1), "each of its 3 candidates once"),
        (lambda: places_by_ranking(np.array([0.0, 1.0]), 1), "each of its 2 candidates once"),
        (lambda: places_by_ranking(np.arange(3), 0), "0 exemplars, expected 1 to 3"),
        (lambda: places_by_ranking(np.arange(3), 4), "4 exemplars, expected 1 to 3"),
        (lambda: retrieval(Places(np.array([1]), 99)), "recall@100 needs at least 100"),
        (lambda: retrieval(Places(np.array([1]), 9), (0,)), "recall@0"),
    ],
)
def test_scores_and_rankings_that_cannot_be_judged_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# Summary and tables


def result(method: str, case: str, category: str, recall: float, ap: float) -> TaskResult:
    found = Retrieval({5: recall / 2, 10: recall, 100: 1.0}, ap)
    return TaskResult(method, {"test_case": case, "category": category}, found)


RESULTS = [
    result("trak", "test_bamfg", "art", 0.0, 0.1),
    result("trak", "test_artchive", "art", 0.5, 0.3),
    result("trak", "test_observed_imagenet", "fish", 0.4, 0.2),
    result("concept-trak", "test_bamfg", "art", 1.0, 0.9),
    result("concept-trak", "test_artchive", "art", 1.0, 0.7),
    result("concept-trak", "test_observed_imagenet", "fish", 0.7, 0.5),
]


def test_means_by_group_and_over_all_worked_out_by_hand():
    rows = {(r.method, r.group, r.value): r for r in summarise(RESULTS, 500)}
    assert len(rows) == 2 * (1 + 3 + 2)
    every = rows["trak", "all", "all"]
    assert every.tasks == 3
    assert every.recall[10].mean == pytest.approx((0.0 + 0.5 + 0.4) / 3)
    assert every.recall[5].mean == pytest.approx(0.15)
    assert every.mean_average_precision.mean == pytest.approx(0.2)
    art = rows["concept-trak", "category", "art"]
    assert (art.tasks, art.recall[10].mean) == (2, 1.0)
    assert art.mean_average_precision.mean == pytest.approx(0.8)
    assert rows["concept-trak", "test_case", "test_artchive"].mean_average_precision == (
        pytest.approx((0.7, 0.7, 0.7))
    )


def test_intervals_are_over_tasks():
    """Of two tasks with 0 and 1 a quarter of the draws has only one of them, twice."""
    tasks = [result("trak", "test_bamfg", "art", value, value) for value in (0.0, 1.0)]
    (row,) = (r for r in summarise(tasks, 2000) if r.group == "all")
    assert row.recall[10] == (0.5, 0.0, 1.0)
    assert row.recall[100] == (1.0, 1.0, 1.0)


def test_results_of_differing_depths_are_refused():
    other = TaskResult("trak", {}, Retrieval({5: 1.0}, 1.0))
    with pytest.raises(ValueError, match="trak: results of differing depths"):
        summarise([RESULTS[0], other], 10)
    rows = summarise([RESULTS[3], other], 10)
    with pytest.raises(ValueError, match="differing depths"):
        benchmark_table(rows)
    with pytest.raises(ValueError, match="'scene'; the groups are: all, category, test_case"):
        benchmark_table(rows, "scene")


def cells(table: str) -> list[list[str]]:
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are even"
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def test_the_table_has_methods_as_rows_and_metrics_as_columns():
    found = cells(benchmark_table(summarise(RESULTS, 500)))
    assert found[0] == ["method", "tasks", "Recall@5", "Recall@10", "Recall@100", "mAP"]
    assert set(found[1][2].strip(":")) == {"-"}
    assert [row[:2] for row in found[2:]] == [["Concept-TRAK", "3"], ["TRAK", "3"]]
    assert [row[4] for row in found[2:]] == ["1.000 [1.000, 1.000]"] * 2
    assert [row[3].split()[0] for row in found[2:]] == ["0.900", "0.300"]
    assert [row[5].split()[0] for row in found[2:]] == ["0.700", "0.200"]


def test_the_table_by_test_case_has_a_row_for_each_method_in_each():
    found = cells(benchmark_table(summarise(RESULTS, 500), "test_case"))
    assert found[0][:3] == ["test case", "method", "tasks"]
    assert [row[:2] for row in found[2:]] == [
        [case, method]
        for case in ("test_artchive", "test_bamfg", "test_observed_imagenet")
        for method in ("Concept-TRAK", "TRAK")
    ]
    assert found[2][-1] == "0.700 [0.700, 0.700]"


def test_the_ablation_stands_beside_the_published_figures():
    steps = [
        result(method, "test_bamfg", "art", value, 0.5)
        for method, value in (
            ("concept-trak", 0.9),
            ("ablation-c", 0.6),
            ("ablation-base", 0.1),
            ("trak", 0.2),
        )
    ]
    found = cells(ablation_table(summarise(steps, 100)))
    assert [row[0] for row in found] == ["step", found[1][0], "Base", "A", "B", "C", "D"]
    assert [row[3] for row in found[2:]] == ["0.040", "0.261", "0.335", "0.564", "0.955"]
    assert [row[2].split()[0] for row in found[2:]] == ["0.100", "-", "-", "0.600", "0.900"]
    assert tuple(PUBLISHED_RECALL_AT_10) == ABLATION


def test_an_ablation_without_a_step_or_a_depth_is_refused():
    with pytest.raises(ValueError, match="no result of a step of the ablation"):
        ablation_table(summarise(RESULTS[:1], 10))
    shallow = TaskResult("ablation-a", {}, Retrieval({5: 1.0}, 1.0))
    with pytest.raises(ValueError, match=r"ablation-a: no Recall@10, got the depths \[5\]"):
        ablation_table(summarise([shallow], 10))
