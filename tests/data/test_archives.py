"""Archives and records from strangers: nothing leaves its folder, sizes are bounded."""

import json
import tarfile

import pytest

from ctrak_jax.data import reading
from tests.data.samples import refused
from tests.data.wild import Numbering, captions_beside, encoded, packed, put, sample, samples, tar

AT = Numbering(4)


@pytest.mark.parametrize("name", ["../3.png", "a/../../3.png", "/etc/3.png", "./../3.txt"])
def test_a_member_outside_the_archive_is_refused(tmp_path, name):
    tar(tmp_path / "images/0.tar", [*samples(AT), (name, b"x")])
    message = refused(tmp_path)
    assert "0.tar:" in message
    assert "outside the archive" in message


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_archives_are_refused(tmp_path, kind):
    def change(info):
        if info.name == "2.txt":
            info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    tar(tmp_path / "images/0.tar", samples(AT), change)
    message = refused(tmp_path)
    assert "0.tar:2.txt: is a link or no plain file" in message


def test_a_sparse_member_is_refused(tmp_path):
    """It may claim any size."""
    packed(tmp_path, AT)
    with tarfile.open(tmp_path / "images/0.tar", "w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("0.png")
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**50)}
        file.addfile(info)
    assert "0.tar" in refused(tmp_path)


def test_a_record_or_caption_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("ctrak_jax.data.folder.labels.LARGEST_RECORD", 1000)
    members = [*samples(AT), ("5.png", encoded(5)), ("5.txt", b"a" * 1001)]
    tar(tmp_path / "images/0.tar", members)
    assert "0.tar:5.txt: larger than 1,000 bytes" in refused(tmp_path)
    captions_beside(tmp_path / "loose", AT)
    put(tmp_path / "loose/images/2.txt", "a" * 1001)
    assert "2.txt: larger than 1,000 bytes" in refused(tmp_path / "loose")


def test_a_table_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST", 50)
    captions_beside(tmp_path, AT)
    put(tmp_path / "attributes.csv", "index,style\n" + "0,a\n" * 30)
    assert "attributes.csv: larger than 50 bytes" in refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a": ' * 200_000,
        '{"a": ' + "9" * 5000 + "}",
        '{"style": }',
        "\x00",
        '"text"',
        "null",
    ],
    ids=["deep list", "deep object", "many digits", "broken", "zero", "text", "null"],
)
def test_a_record_that_is_no_object_is_one_line(tmp_path, text):
    tar(
        tmp_path / "images/0.tar",
        [*sample(0, "0"), ("1.png", encoded(1)), ("1.json", text.encode())],
    )
    assert "0.tar:1.json" in refused(tmp_path)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.TGZ", "x.7z", "x.rar"])
def test_a_packed_archive_is_not_passed_over(tmp_path, name):
    captions_beside(tmp_path, AT)
    put(tmp_path / "images" / name, b"x")
    assert f"{name}: is a packed archive" in refused(tmp_path)


def test_a_table_opens_no_file_that_it_names(tmp_path):
    captions_beside(tmp_path / "set", AT)
    put(tmp_path / "secret.png", encoded(9))
    lines = [json.dumps({"file_name": "../../secret.png", "style": "a"})]
    put(tmp_path / "set/images/metadata.jsonl", "\n".join(lines))
    assert "no such picture" in refused(tmp_path / "set")
