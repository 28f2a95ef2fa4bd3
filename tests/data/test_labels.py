"""Labels of several sources in one folder: an index beside names, titles, classes, mixtures."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.data import read_folder
from ctrak_jax.data.survey import Handling
from tests.data.samples import refused
from tests.data.wild import (
    Numbering,
    caption,
    captions_beside,
    encoded,
    folder_a_class,
    loose,
    number,
    put,
    style,
    tar,
)

# An index beside names


def three(folder, *lines: str, name: str = "attributes.csv") -> None:
    """Three pictures and a table."""
    loose(folder, Numbering(3))
    put(folder / name, "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "lines",
    [
        ("file_name,index,style", "0.png,0,a", "1.png,2,b", "2.png,1,c"),
        ("index,file_name,style", "0,0.png,a", "2,1.png,b", "1,2.png,c"),
        ("file_name,index,style", "0.png,0.0,a", "1.png,2.0,b", "2.png,1.0,c"),
        ("index,name,style", "0,0.png,a", "2,1.png,b", "1,2.png,c"),
    ],
)
def test_an_index_that_means_another_picture_than_the_name_is_refused(tmp_path, lines):
    three(tmp_path, *lines)
    message = refused(tmp_path)
    assert ".csv:3: the index 2 and the name '1.png' are different pictures" in message
    assert "by its name it is number 1; remove one of the two columns" in message


def test_an_index_that_means_another_picture_is_refused_in_json_lines_too(tmp_path):
    lines = [{"file_name": f"{n}.png", "index": 2 - n, "style": "a"} for n in range(3)]
    three(tmp_path, *map(json.dumps, lines), name="metadata.jsonl")
    assert "jsonl:1: the index 2 and the name '0.png'" in refused(tmp_path)


@pytest.mark.parametrize("indices", ["012", ["0.0", "1.0", "2.0"], ["a1", "b7", "c9"]])
def test_an_index_that_agrees_or_counts_nothing_is_no_attribute(tmp_path, indices):
    rows = [f"{n}.png,{index},{style(n)}" for n, index in enumerate(indices)]
    three(tmp_path, "file_name,index,style", *reversed(rows))
    assert read_folder(tmp_path).attributes == {"style": ("a", "b", "c")}


def test_pictures_in_tars_are_counted_as_people_count_where_a_table_counts_them(tmp_path):
    at = Numbering(12)
    tar(tmp_path / "images/0.tar", [(f"{n}.png", encoded(n)) for n in at.every])
    rows = [f"{n}.png,{n},{style(n)}\n" for n in at.every]
    put(tmp_path / "attributes.csv", "file_name,index,style\n" + "".join(rows))
    assert read_folder(tmp_path).attributes == {"style": tuple(map(style, at.every))}


# Titles


def test_titles_of_their_own_are_captions(tmp_path):
    three(tmp_path, "file_name,Title,style", *(f"{n}.png,Picture {n},a" for n in range(3)))
    found = read_folder(tmp_path)
    assert found.prompts == ("Picture 0", "Picture 1", "Picture 2")
    assert found.attributes == {"style": ("a",) * 3}


@pytest.mark.parametrize("head", ["file_name,title,style", "index,title,style"])
def test_titles_that_pictures_share_are_values(tmp_path, head):
    suffix = ".png" if head.startswith("file") else ""
    loose(tmp_path, Numbering(4))
    rows = [f"{n}{suffix},{'Dr' if n % 2 else 'Ms'},a\n" for n in range(4)]
    put(tmp_path / "attributes.csv", f"{head}\n" + "".join(rows))
    found = read_folder(tmp_path)
    assert found.attributes == {"title": ("Ms", "Dr", "Ms", "Dr"), "style": ("a",) * 4}
    assert not found.prompts


def test_a_caption_goes_before_a_title(tmp_path):
    rows = [f"{n}.png,Picture {n},this is {n}" for n in range(3)]
    three(tmp_path, "file_name,title,caption", *rows)
    found = read_folder(tmp_path)
    assert found.prompts == ("this is 0", "this is 1", "this is 2")
    assert found.attributes == {"title": ("Picture 0", "Picture 1", "Picture 2")}


# Sub-folders and tables


@pytest.mark.parametrize("column", ["class", "Label"])
def test_a_class_that_is_not_its_sub_folder_is_refused_with_both_named(tmp_path, column):
    at = Numbering(9)
    folder_a_class(tmp_path, at)
    rows = [f"{style(n)}/{n}.png,{style(n + n // 8)}\n".upper() for n in at.every]
    put(tmp_path / "attributes.csv", f"file_name,{column}\n" + "".join(rows))
    message = refused(tmp_path)
    assert message.startswith(f"{tmp_path}/images/c/8.png: '{column}' is 'A' in ")
    assert "attributes.csv:10 and 'C' in " in message


def test_a_class_that_is_its_sub_folder_and_other_names_of_classes_are_read(tmp_path):
    at = Numbering(9)
    folder_a_class(tmp_path, at)
    rows = [f"{style(n)}/{n}.png,{style(n)},name of {style(n)}\n" for n in at.every]
    put(tmp_path / "attributes.csv", "file_name,class,category\n" + "".join(rows))
    found = read_folder(tmp_path).attributes
    assert found.keys() == {"class", "category"}
    assert all(f"name of {one}" == two for one, two in zip(*found.values(), strict=True))


# Mixtures


def shown(raw) -> list[int]:
    return [number(image) for image in np.asarray(raw.images[:])]


def test_nested_folders_with_json_lines_behind_a_byte_order_mark(tmp_path):
    places = [f"{'north' if n % 2 else 'south'}/{2020 + n // 4}/Shot {n}.PNG" for n in range(8)]
    lines = []
    for n, place in enumerate(places):
        put(tmp_path / "images" / place, encoded(n))
        row = {"file_name": place, "text": caption(n), "style": style(n)}
        lines.append(json.dumps(row) + "\r\n")
    text = "".join(reversed(lines)) + "\r\n"
    put(tmp_path / "images/metadata.jsonl", b"\xef\xbb\xbf" + text.encode())
    raw = read_folder(tmp_path)
    assert sorted(shown(raw)) == [*range(8)]
    assert raw.prompts == tuple(map(caption, shown(raw)))
    assert raw.attributes == {"style": tuple(map(style, shown(raw)))}


def test_tabs_between_quoted_names_with_commas(tmp_path):
    names = [f"kitchen, no. {n}.jpeg" for n in range(11)]
    rows = []
    for n, name in enumerate(names):
        put(tmp_path / "images" / name, encoded(n, "JPEG"))
        rows.append(f'"{name}"\t "{style(n)}"\t{n % 2}\r\n')
    put(tmp_path / "attributes.tsv", '"File Name"\tstyle\tlit\r\n' + "".join(reversed(rows)))
    raw = read_folder(tmp_path)
    assert shown(raw) == [*range(11)]
    assert raw.attributes["style"] == tuple(map(style, range(11)))
    assert raw.attributes["lit"] == tuple(str(n % 2) for n in range(11))


def test_a_caption_that_one_picture_lacks(tmp_path):
    captions_beside(tmp_path, Numbering(7, "scan_{}", first=8), ".caption")
    (tmp_path / "images/scan_10.caption").unlink()
    assert refused(tmp_path).startswith(f"{tmp_path}/images/scan_10.png: has no caption")
    raw = read_folder(tmp_path, handling=Handling(incomplete="skip"))
    assert shown(raw) == [0, 1, 3, 4, 5, 6]
    assert raw.prompts == tuple(map(caption, shown(raw)))


def test_shards_with_dots_before_names_and_capitals(tmp_path):
    for shard in range(2):
        members = []
        for n in range(5 * shard, 5 * shard + 5):
            key = f"./Set {'AB'[shard]}/Nr.{n:03d}"
            members += [
                (f"{key}.PNG", encoded(n)),
                (f"{key}.TXT", caption(n).encode()),
                (f"{key}.Json", json.dumps({"style": style(n)}).encode()),
                (f"./Set {'AB'[shard]}/._Nr.{n:03d}.PNG", b"of macOS"),
            ]
        tar(tmp_path / f"Shard-{shard}.TAR", members)
    raw = read_folder(tmp_path)
    assert shown(raw) == [*range(10)]
    assert raw.prompts == tuple(map(caption, range(10)))
    assert raw.attributes == {"style": tuple(map(style, range(10)))}


def test_turned_pictures_inks_and_deep_grays_side_by_side(tmp_path):
    """Each is dark above and light below as people see it, 20 wide and 30 high."""
    upright = np.zeros((30, 20), np.uint8)
    upright[15:] = 200
    gray = Image.fromarray(upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter clockwise to be seen
    turned = gray.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    forms = {
        "turned.jpg": (turned, {"format": "JPEG", "quality": 100, "exif": exif}),
        "inks.jpg": (gray.convert("RGB").convert("CMYK"), {"format": "JPEG", "quality": 100}),
        "deep.png": (Image.fromarray(upright.astype(np.uint16) * 257), {"format": "PNG"}),
        "plain.png": (gray.convert("P"), {"format": "PNG"}),
    }
    for name, (picture, options) in forms.items():
        stream = io.BytesIO()
        picture.save(stream, **options)
        put(tmp_path / "images" / name, stream.getvalue())
        put(tmp_path / "images" / f"{name}.txt", name)
    raw = read_folder(tmp_path)
    assert raw.images.shape == (4, 30, 20, 3)
    assert {*raw.prompts} == forms.keys()
    for image in np.asarray(raw.images[:]).astype(int):
        assert abs(image[2:13] - 0).max() < 6
        assert abs(image[17:28] - 200).max() < 6
