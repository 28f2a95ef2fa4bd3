"""What no source reads is said, and what holds no labels is not; sub-folders that are classes."""

import json

import numpy as np
import pytest

from ctrak_jax.data import read_folder
from ctrak_jax.data.folder.reader import survey_folder
from ctrak_jax.start.look import look
from tests.data.samples import refused
from tests.data.wild import (
    Numbering,
    by_index,
    captions_beside,
    encoded,
    folder_a_class,
    loose,
    put,
    samples,
    style,
    tar,
)

AT = Numbering(12)
LOST = (
    *("captions.txt", "metadata.json", "labels.csv", "captions/3.txt", "other/attributes.csv"),
    *("13.png", "old/13.png", "images/13.jxl", "images/13.psd", "images/13", "images/labels.csv"),
    *("images/a/captions.txt", "images.zip", "README.csv", "old/pictures.parquet"),
)
NO_LABELS = (
    *("README.md", "README", "LICENSE", "licence.txt", "mine.yaml", "meta.json", ".hidden/3.txt"),
    *("skipped.csv", "faults.csv", "images/notes.txt", "images/classes.txt", "look.py"),
    *("runs/a/.stages/train.json", "runs/a/report/3.png", "runs/a/top/das.csv"),
    *("runs/b/log.jsonl", "runs/b/config.yaml", "runs/b/metrics.json", "images/Thumbs.db"),
    *("runs/c/pictures.jsonl", "runs/c/faults.csv"),
    *("runs/d/config.yaml", "runs/d/model/model.json", "runs/e/pictures.jsonl"),
)


def unread(path) -> list[str]:
    faults = survey_folder(path).faults
    return [fault.name for fault in faults if fault.kind == "unread"]


@pytest.mark.parametrize("name", LOST)
def test_a_file_that_no_source_reads_is_said(tmp_path, warned, name):
    by_index(tmp_path, AT)
    put(tmp_path / name, "picture")
    assert unread(tmp_path) == [str(tmp_path / name)]
    (line,) = warned
    assert line == f"1 file is not read, the first: {tmp_path / name}"
    assert read_folder(tmp_path).attributes.keys() == {"style"}


def test_what_holds_no_labels_is_no_fault(tmp_path, warned):
    by_index(tmp_path, AT)
    for name in NO_LABELS:
        put(tmp_path / name, "{}")
    assert unread(tmp_path) == []
    assert not warned


def test_a_log_alone_makes_no_run_of_a_folder_of_pictures(tmp_path):
    by_index(tmp_path, AT)
    put(tmp_path / "images/more/13.png", encoded(13))
    put(tmp_path / "images/more/log.jsonl", "{}")
    assert "12 rows for 13 images" in refused(tmp_path)


def test_all_of_them_are_counted(tmp_path, warned):
    by_index(tmp_path, AT)
    for n in AT.every:
        put(tmp_path / f"captions/{n}.txt", "picture")
    assert len(unread(tmp_path)) == 12
    assert "12 files are not read, the first: " in warned[0]


def test_a_member_of_a_tar_that_is_not_read_is_said(tmp_path):
    put(tmp_path / "images/3.txt", "of no member")
    tar(tmp_path / "images/0.tar", [*samples(AT), ("3.npz", b"x"), ("README.md", b"x")])
    names = [f"{tmp_path}/images/3.txt", f"{tmp_path}/images/0.tar:3.npz"]
    assert unread(tmp_path) == names


def test_beside_an_array_everything_else_is_said(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8, 3), np.uint8))
    put(tmp_path / "attributes.csv", "index,style\n0,a\n1,b\n")
    put(tmp_path / "0.png", encoded(0))
    assert unread(tmp_path) == [f"{tmp_path}/0.png"]


def test_an_array_beside_pictures_is_refused(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((12, 8, 8, 3), np.uint8))
    by_index(tmp_path, AT)
    message = refused(tmp_path)
    assert f"images.npy: {tmp_path}/images/0.png is there, too" in message


def test_init_looks_at_a_folder_with_files_that_are_not_read(tmp_path):
    by_index(tmp_path, AT)
    put(tmp_path / "captions/3.txt", "picture")
    assert look(tmp_path).pictures == 12


@pytest.mark.parametrize("packed", [False, True])
def test_cls_files_are_classes(tmp_path, packed):
    labels = {f"{n}.cls": f"{n % 3}\n".encode() for n in AT.every}
    if packed:
        texts = [(f"{n}.txt", b"a picture") for n in AT.every]
        pictures = [(f"{n}.png", encoded(n)) for n in AT.every]
        tar(tmp_path / "images/0.tar", [*pictures, *texts, *labels.items()])
    else:
        captions_beside(tmp_path, AT)
        for name, data in labels.items():
            put(tmp_path / "images" / name, data)
    raw = read_folder(tmp_path)
    assert sorted(raw.attributes["class"]) == sorted(str(n % 3) for n in AT.every)
    assert len(raw.prompts) == 12


# Sub-folders


@pytest.mark.parametrize(
    "place",
    ["{part}/{style}", "all/{part}/pictures/{style}", "{part}/{style}/{n}", "{style}/{part}"],
)
def test_parts_of_the_data_are_no_classes(tmp_path, informed, place):
    for n in AT.every:
        folder = place.format(part=("Train", "test")[n // 9], style=style(n), n=n % 2)
        put(tmp_path / f"images/{folder}/{n}.png", encoded(n))
    raw = read_folder(tmp_path)
    found = sorted(zip(raw.images[:][:, 0, 0, 0], raw.attributes["class"], strict=True))
    assert [value for _, value in found] == [style(n) for n in AT.every]
    assert any("class is the name of a sub-folder: " in line for line in informed)


def test_parts_alone_are_no_attribute(tmp_path):
    for n in AT.every:
        put(tmp_path / f"images/{('train', 'val')[n % 2]}/{n}.png", encoded(n))
    assert "neither attributes nor captions" in refused(tmp_path)


def test_a_picture_of_a_part_without_class_is_incomplete(tmp_path):
    folder_a_class(tmp_path, AT)
    (tmp_path / "images").rename(tmp_path / "train")
    put(tmp_path / "images/test/13.png", encoded(13))
    (tmp_path / "train").rename(tmp_path / "images/train")
    assert "test/13.png: has no 'class'" in refused(tmp_path)


# Texts that are no captions, and several in one file


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.2 0.3", "1 0 1 .5 1e-3\n\n0 1 1 0.25 -1\n"])
def test_numbers_of_boxes_are_no_caption(tmp_path, text):
    captions_beside(tmp_path, AT)
    put(tmp_path / "images/5.txt", text)
    assert "images/5.txt: holds numbers, perhaps of boxes" in refused(tmp_path)


def test_a_number_or_a_year_is_a_caption(tmp_path):
    captions_beside(tmp_path, AT)
    put(tmp_path / "images/5.txt", "7 1984")
    assert read_folder(tmp_path).prompts[5] == "7 1984"


def test_captions_of_several_lines_are_counted(tmp_path, warned):
    captions_beside(tmp_path, AT)
    for n in (4, 7):
        put(tmp_path / f"images/{n}.txt", "a cat\nan animal\n")
    assert read_folder(tmp_path).prompts[4] == "a cat an animal"
    assert f"2 captions have several lines, which are joined, the first: {tmp_path}" in warned[0]


def test_a_record_in_another_letter_case_is_read(tmp_path):
    loose(tmp_path, AT)
    for n in AT.every:
        put(tmp_path / f"images/{n}.JSON", json.dumps({"style": style(n)}))
    assert unread(tmp_path) == []
