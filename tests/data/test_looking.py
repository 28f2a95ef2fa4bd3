"""A look at every picture: what it finds, by how many processes, and what it remembers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ctrak_jax.data import looking
from ctrak_jax.data.looking import Looked, look
from ctrak_jax.data.pictures import Files, PictureRows
from tests.paths import ROOT

COUNT, BAD = 13, (3, 11)


@pytest.fixture
def files(tmp_path, monkeypatch) -> Files:
    """Pictures in chunks of four; two are cut off."""
    monkeypatch.setattr(looking, "CHUNK", 4)
    paths = [tmp_path / f"{i}.png" for i in range(COUNT)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8 + i % 2, 8), (i, 0, 0)).save(path)
    for i in BAD:
        paths[i].write_bytes(paths[i].read_bytes()[:40])
    return Files(paths)


def expect(found: Looked) -> None:
    assert [fault.row for fault in found.faults] == list(BAD)
    assert all("not a readable image" in fault.reason for fault in found.faults)
    for i, header in enumerate(found.headers):
        assert (header is None) == (i in BAD)
        assert header is None or header.size == (8 + i % 2, 8)


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_header_and_every_fault_is_found(files, decode, workers):
    expect(look(files, decode=decode, workers=workers))


def test_processes_find_what_one_finds(files):
    """In a process without JAX, which forks."""
    program = (
        "import sys; from pathlib import Path; from ctrak_jax.data import looking; "
        "from ctrak_jax.data.pictures import Files; "
        "looking.CHUNK = 4; files = Files([Path(p) for p in sys.argv[1:]]); "
        "assert 'Process' in type(looking._executor(files, 2)).__name__; "
        "found = looking.look(files, decode=True, workers=2); "
        "print([f.row for f in found.faults], sum(h is not None for h in found.headers))"
    )
    command = [sys.executable, "-c", program, *map(str, files.paths)]
    said = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert said.split("] ") == [str(list(BAD))[:-1], f"{COUNT - len(BAD)}\n"]


def counted(monkeypatch) -> list[str]:
    """The names of the pictures that are read from now on."""
    names: list[str] = []
    plain = Files.read

    def read(self, row):
        names.append(Path(self.name(row)).name)
        return plain(self, row)

    monkeypatch.setattr(Files, "read", read)
    return names


def test_a_look_resumes_behind_what_is_recorded(files, tmp_path, monkeypatch):
    record, read = tmp_path / "record.jsonl", counted(monkeypatch)

    def stop(count: int) -> None:
        if len(read) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(files, decode=True, record=record, workers=1, advance=stop)
    with record.open("a") as file:
        file.write('{"first": 8, "ki')  # killed in the middle of a line
    del read[:]
    advanced: list[int] = []
    expect(look(files, decode=True, record=record, workers=1, advance=advanced.append))
    assert read == [f"{i}.png" for i in range(8, COUNT)]
    assert advanced == [8, 4, 1]
    del read[:]
    expect(look(files, decode=True, record=record, workers=1))
    assert read == []
    assert len(record.read_text().splitlines()) == 4


def test_a_picture_that_was_written_again_is_looked_at_again(files, tmp_path, monkeypatch):
    record = tmp_path / "record.jsonl"
    look(files, decode=True, record=record, workers=1)
    read = counted(monkeypatch)
    Image.new("RGB", (8, 8)).save(files.paths[5])
    os.utime(files.paths[5], (1, 1))
    look(files, decode=True, record=record, workers=1)
    assert read == [f"{i}.png" for i in range(4, 8)]
    assert len(record.read_text().splitlines()) == 4
    files.paths[12].unlink()
    found = look(files, decode=True, record=record, workers=1)
    assert "No such file" in found.faults[-1].reason


def test_a_record_is_plain_json(files, tmp_path):
    look(files, decode=True, record=tmp_path / "record.jsonl", workers=1)
    first = json.loads((tmp_path / "record.jsonl").read_text().splitlines()[0])
    assert first["first"] == 0
    assert first["which"] == [0, 1, 0, 2]


def test_a_part_of_a_look_is_the_look_at_that_part(files):
    rows = [1, 3, 6, 11]
    part = look(PictureRows(files, rows), decode=True, workers=1)
    whole = look(files, decode=True, workers=1).of(rows)
    assert part == whole
