"""What several sources say of a picture: which one counts, what conflicts, what is left out."""

import json
import re

import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build, read_folder
from ctrak_jax.data.faults import write_faults
from ctrak_jax.data.survey import Handling
from ctrak_jax.errors import UsageError
from tests.data.samples import refused
from tests.data.wild import (
    Numbering,
    by_index,
    caption,
    captions_beside,
    encoded,
    folder_a_class,
    img2dataset,
    loose,
    metadata_csv,
    number,
    packed,
    put,
    records_beside,
    style,
    table_names_files,
    tar,
)

AT = Numbering(12)
SKIP = Handling(incomplete="skip")


def shown(path, handling=SKIP):
    """The numbers of the pictures that are left, with their attributes and captions checked."""
    raw = read_folder(path, handling=handling)
    numbers = [number(image) for image in np.asarray(raw.images[:])]
    for row, n in enumerate(numbers):
        assert all(column[row] == style(n) for column in raw.attributes.values())
        assert not raw.prompts or raw.prompts[row] == caption(n)
    return numbers, [fault.name for fault in raw.skipped]


def test_two_sources_that_agree_are_one(tmp_path):
    metadata_csv(tmp_path, AT)
    by_index(tmp_path / "other", AT)
    (tmp_path / "other/attributes.csv").rename(tmp_path / "attributes.csv")
    put(tmp_path / "prompts.txt", "".join(f" {caption(n)}  \n" for n in AT.every))
    assert read_folder(tmp_path).attributes == {"style": tuple(map(style, AT.every))}


@pytest.mark.parametrize(
    "source", ["attributes.csv:6", "prompts.txt:5", "images/4.txt", "images/4.json"]
)
def test_two_sources_that_disagree_are_refused_with_both_named(tmp_path, source):
    metadata_csv(tmp_path, AT)
    if source == "attributes.csv:6":
        put(
            tmp_path / "attributes.csv",
            "index,style\n" + "".join(f"{n},{style(n + n // 4)}\n" for n in AT.every),
        )
    elif source == "prompts.txt:5":
        put(tmp_path / "prompts.txt", "".join(f"picture {n + n // 4}\n" for n in AT.every))
    else:
        other = "picture 5" if source.endswith(".txt") else json.dumps({"style": "c"})
        put(tmp_path / source, other)
    message = refused(tmp_path, handling=SKIP)
    assert message.startswith(f"{tmp_path}/images/4.PNG: ")
    assert re.search(
        rf" in {tmp_path}/images/metadata\.csv:6 and .* in {tmp_path}/{source}[ ;]", message
    )


def test_attributes_come_from_the_first_source_that_has_any(tmp_path):
    records_beside(tmp_path, AT)
    put(tmp_path / "attributes.csv", "index,hair\n" + "".join(f"{n},red\n" for n in AT.every))
    raw = read_folder(tmp_path)
    assert set(raw.attributes) == {"hair"}
    assert len(raw.prompts) == AT.count
    assert set(read_folder(tmp_path, wanted=("style", "none")).attributes) == {"hair", "style"}


def test_what_the_config_names_is_an_attribute(tmp_path):
    img2dataset(tmp_path, AT)
    data = cfg.DataConfig(kind="folder", path=tmp_path, condition_on=("NSFW",))
    assert build(data).raw.attributes == {"NSFW": ("UNLIKELY",) * 12}


def named_by(path, head: str, key, change=lambda rows: None) -> None:
    """A table of shuffled rows that also counts them."""
    loose(path, AT)
    rows = [(key(n), style(n)) for n in reversed(AT.every)]
    change(rows)
    lines = [f"{i},{name},{value}\n" for i, (name, value) in enumerate(rows)]
    put(path / "attributes.csv", f"{head},style\n" + "".join(lines))


@pytest.mark.parametrize(
    ("head", "key"),
    [
        (",name", "{}.png"),
        (",label", "images/{}.png"),
        (",id", "{}"),
        (",source", "/home/me/{}.png"),
    ],
)
def test_a_column_of_names_counts_and_not_pandas_index(tmp_path, head, key):
    named_by(tmp_path, head, key.format)
    assert read_folder(tmp_path).attributes.keys() == {"style"}
    assert shown(tmp_path) == ([*AT.every], [])


def test_a_name_without_its_picture_is_not_joined_by_index(tmp_path):
    def wrong(rows):
        rows[2] = ("typing error.png", "c")

    named_by(tmp_path, ",name", "{}.png".format, wrong)
    assert "csv:4: names 'typing error.png', and there is no such picture" in refused(tmp_path)


def test_an_index_and_a_name_that_mean_different_pictures_are_refused(tmp_path):
    named_by(tmp_path, "index,filename", "{}.png".format)
    message = refused(tmp_path, handling=SKIP)
    assert "csv:2: the index 0 and the name '11.png'" in message
    assert "remove one of the two columns" in message


def test_an_index_and_a_name_that_agree_are_one(tmp_path):
    loose(tmp_path, AT)
    lines = [f"{n},{n}.png,{style(n)}\n" for n in AT.every]
    put(tmp_path / "attributes.csv", "index,filename,style\n" + "".join(lines))
    assert shown(tmp_path) == ([*AT.every], [])


@pytest.mark.parametrize("values", [[11 - n for n in AT.every], [n % 3 for n in AT.every]])
def test_numbers_are_no_names_of_pictures(tmp_path, values):
    loose(tmp_path, AT)
    lines = [f"{n},{value}\n" for n, value in enumerate(values)]
    put(tmp_path / "attributes.csv", "index,rank\n" + "".join(lines))
    assert read_folder(tmp_path).attributes == {"rank": tuple(map(str, values))}


def test_what_the_config_names_is_no_name_of_a_picture(tmp_path):
    named_by(tmp_path, "index,name", "{}.png".format)
    found = read_folder(tmp_path, wanted=("name",)).attributes["name"]
    assert found == tuple(f"{n}.png" for n in reversed(AT.every))


@pytest.mark.parametrize("head", ["Prompt", "description"])
@pytest.mark.parametrize("key", ["index", "file_name"])
def test_prompts_and_descriptions_are_captions(tmp_path, head, key):
    loose(tmp_path, AT)
    lines = [f"{n},{caption(n)},{style(n)}\n" for n in AT.every]
    put(tmp_path / "attributes.csv", f"{key},{head},style\n" + "".join(lines))
    raw = read_folder(tmp_path)
    assert raw.attributes.keys() == {"style"}
    assert raw.prompts == tuple(map(caption, AT.every))


def test_whole_numbers_of_records_are_one_value_however_written(tmp_path):
    loose(tmp_path, AT)
    for n in AT.every:
        put(tmp_path / f"images/{n}.json", '{"count": 1}' if n % 2 else '{"count": 1.0}')
    assert read_folder(tmp_path).attributes == {"count": ("1",) * AT.count}


def test_a_picture_without_its_row(tmp_path):
    table_names_files(tmp_path, AT)
    table = tmp_path / "attributes.csv"
    table.write_text(table.read_text().replace("5.png,c\n", ""))
    message = refused(tmp_path)
    assert "images/5.png: has no 'style'" in message
    assert "attributes.csv" in message
    assert "data.incomplete: skip" in message
    assert shown(tmp_path) == (
        [n for n in AT.every if n != 5],
        [str(tmp_path / "images/5.png")],
    )


def test_a_row_without_its_picture(tmp_path):
    table_names_files(tmp_path, AT)
    (tmp_path / "images/5.png").unlink()
    assert "attributes.csv:8: names '5.png', and there is no such picture" in refused(tmp_path)
    assert shown(tmp_path) == ([n for n in AT.every if n != 5], [f"{tmp_path}/attributes.csv:8"])


def test_a_caption_without_its_picture(tmp_path):
    captions_beside(tmp_path, AT)
    put(tmp_path / "images/README.txt", "Mine.")
    (tmp_path / "images/5.png").unlink()
    assert "images/5.txt: has no picture beside it" in refused(tmp_path)
    assert shown(tmp_path) == ([n for n in AT.every if n != 5], [f"{tmp_path}/images/5.txt"])


def test_texts_in_folders_without_captions_are_none(tmp_path):
    captions_beside(tmp_path, AT)
    put(tmp_path / "images/log/5.txt", "Loss 0.1")
    assert shown(tmp_path) == (list(AT.every), [])


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_caption_is_none(tmp_path, text):
    captions_beside(tmp_path, AT)
    put(tmp_path / "images/5.txt", text)
    assert "images/5.png: has no caption" in refused(tmp_path)


def test_a_table_whose_names_are_no_pictures_says_so(tmp_path):
    loose(tmp_path, AT)
    put(tmp_path / "attributes.csv", "file_name,style\nother.png,a\n")
    assert "attributes.csv:2: names 'other.png'" in refused(tmp_path)


def test_an_index_from_one_is_not_guessed_at(tmp_path):
    by_index(tmp_path, AT)
    rows = "".join(f"{n + 1},{style(n)}\n" for n in AT.every)
    put(tmp_path / "attributes.csv", f"index,style\n{rows}")
    assert "indices count from 0" in refused(tmp_path)


def test_several_faults_are_counted(tmp_path):
    captions_beside(tmp_path, AT)
    for n in (3, 7, 8):
        (tmp_path / f"images/{n}.txt").unlink()
    assert "images/3.png: has no caption" in (message := refused(tmp_path))
    assert "(2 more like it: ctrak data check)" in message
    assert shown(tmp_path)[0] == [n for n in AT.every if n not in (3, 7, 8)]


def test_a_null_caption_of_a_record_is_none(tmp_path):
    img2dataset(tmp_path, AT, silent=(0, 6))
    assert shown(tmp_path)[0] == [n for n in AT.every if n not in (0, 6)]


def test_rows_by_index_are_never_moved(tmp_path):
    """Of eleven pictures and twelve rows nobody knows which row is too many."""
    by_index(tmp_path, AT)
    (tmp_path / "images/5.png").unlink()
    assert "12 rows for 11 images" in refused(tmp_path, handling=SKIP)
    put(tmp_path / "images/5.png", encoded(5))
    put(tmp_path / "images/90.png", encoded(20))
    message = refused(tmp_path, handling=SKIP)
    assert "12 rows for 13 images" in message
    assert "90.png has none" in message


def test_an_index_that_leaves_one_out_says_which(tmp_path):
    by_index(tmp_path, AT)
    table = tmp_path / "attributes.csv"
    table.write_text(table.read_text().replace("5,c\n", ""))
    assert "images/5.png: has no 'style'" in refused(tmp_path)
    assert shown(tmp_path)[0] == [n for n in AT.every if n != 5]


def test_rows_by_index_may_be_in_any_order(tmp_path):
    by_index(tmp_path, AT)
    head, *rows = (tmp_path / "attributes.csv").read_text().splitlines()
    put(tmp_path / "attributes.csv", "\n".join([head, *reversed(rows)]))
    assert shown(tmp_path)[0] == list(AT.every)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("3.png,b", ("attributes.csv:14", "'3.png' stands in line", "too")),
        ("x/3.png,b", ("attributes.csv:14", "'x/3.png'", "no such picture")),
    ],
)
def test_a_row_too_many_is_refused(tmp_path, row, words):
    table_names_files(tmp_path, AT)
    with (tmp_path / "attributes.csv").open("a") as file:
        file.write(f"{row}\n")
    message = refused(tmp_path)
    assert all(word in message for word in words), message


def test_a_name_that_two_pictures_have_is_refused_without_its_folder(tmp_path):
    for n in AT.every:
        put(tmp_path / f"images/{n % 2}/{n // 2}.png", encoded(n))
    lines = [f"{n // 2}.png,{style(n)}\n" for n in AT.every]
    put(tmp_path / "attributes.csv", "file_name,style\n" + "".join(lines))
    message = refused(tmp_path)
    assert "0/0.png" in message
    assert "1/0.png" in message
    lines = [f"{n % 2}/{n // 2}.png,{style(n)}\n" for n in AT.every]
    put(tmp_path / "attributes.csv", "file_name,style\n" + "".join(lines))
    assert sorted(shown(tmp_path)[0]) == list(AT.every)


def test_a_name_in_another_folder_is_no_match(tmp_path):
    """b/3.png is another picture than a/3.png."""
    put(tmp_path / "images/a/3.png", encoded(3))
    put(tmp_path / "images/a/4.png", encoded(4))
    put(tmp_path / "attributes.csv", "file_name,style\nb/3.png,x\na/4.png,y\n")
    assert "'b/3.png', and there is no such picture" in refused(tmp_path)


def test_classes_need_every_picture_in_a_folder(tmp_path):
    folder_a_class(tmp_path, AT)
    put(tmp_path / "images/13.png", encoded(13))
    assert "images/13.png: has no 'class'" in refused(tmp_path)
    raw = read_folder(tmp_path, handling=SKIP)
    assert set(raw.attributes["class"]) == {"a", "b", "c"}


def test_the_class_is_where_folders_begin_to_differ(tmp_path):
    for n in AT.every:
        put(tmp_path / f"images/train/{style(n)}/part {n % 2}/{n}.png", encoded(n))
    raw = read_folder(tmp_path)
    assert sorted(set(raw.attributes["class"])) == ["a", "b", "c"]


def test_one_folder_of_all_is_no_class(tmp_path):
    for n in AT.every:
        put(tmp_path / f"images/all/{n}.png", encoded(n))
    assert "neither attributes nor captions" in refused(tmp_path)


def test_shards_by_index_are_counted_across_shards(tmp_path):
    for shard in range(11):
        members = [(f"{n}.png", encoded(n)) for n in (2 * shard, 2 * shard + 1)]
        tar(tmp_path / f"images/{shard}.tar", members)
    put(
        tmp_path / "attributes.csv",
        "index,style\n" + "".join(f"{n},{style(n)}\n" for n in range(22)),
    )
    assert shown(tmp_path)[0] == list(range(22))


def test_nothing_left_is_refused(tmp_path):
    packed(tmp_path, Numbering(1))
    raw = (tmp_path / "images/0.tar").read_bytes()
    (tmp_path / "images/0.tar").write_bytes(raw.replace(b"IDAT", b"IDAX"))
    with pytest.raises(UsageError, match=r"no image is left: .*0\.png: not a readable image"):
        read_folder(tmp_path, handling=Handling(bad_pictures="skip"))


def test_bad_pictures_are_left_out_with_all_that_belongs_to_them(tmp_path):
    table_names_files(tmp_path, AT)
    captions_beside(tmp_path, AT)
    for n in (0, 5):
        put(tmp_path / f"images/{n}.png", encoded(n)[:-30])
    assert "images/0.png: not a readable image" in refused(tmp_path)
    skip = Handling(bad_pictures="skip")
    assert shown(tmp_path, skip)[0] == [n for n in AT.every if n not in (0, 5)]


def test_what_was_left_out_is_a_table(tmp_path):
    captions_beside(tmp_path, AT)
    (tmp_path / "images/5.txt").unlink()
    raw = read_folder(tmp_path, handling=SKIP)
    write_faults(tmp_path / "out/skipped.csv", raw.skipped)
    head, row = (tmp_path / "out/skipped.csv").read_text().splitlines()
    assert head == "kind,name,reason"
    assert row.startswith(f'incomplete,{tmp_path}/images/5.png,"has no caption')


def test_skipping_changes_the_fingerprint_only_where_something_is_skipped(tmp_path):
    table_names_files(tmp_path, AT)

    def fingerprint(**changes) -> str:
        data = cfg.DataConfig(kind="folder", path=tmp_path, condition_on=("style",), **changes)
        return build(data).fingerprint

    whole = fingerprint()
    assert fingerprint(incomplete="skip", bad_pictures="skip") == whole
    assert fingerprint(background=(0, 0, 0)) == whole
    put(tmp_path / "images/5.png", b"")
    assert fingerprint(bad_pictures="skip") != whole


def test_a_folder_of_loops_is_read_once(tmp_path):
    loose(tmp_path, AT)
    by_index(tmp_path, AT)
    (tmp_path / "images/again").symlink_to(tmp_path / "images")
    assert shown(tmp_path)[0] == list(AT.every)
