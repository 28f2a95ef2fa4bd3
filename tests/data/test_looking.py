"""A look at every picture: what it finds, by how many processes, and what it remembers."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ctrak_jax.data import looking
from ctrak_jax.data.looking import Looked, Record, look
from ctrak_jax.data.pictures import Files, PictureRows
from ctrak_jax.errors import StoreError
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


def test_a_process_that_is_killed_is_one_line(files):
    """As by the kernel, where memory ends."""
    program = (
        "import os, signal, sys; from pathlib import Path; from ctrak_jax.data import looking; "
        "from ctrak_jax.data.pictures import Files; from ctrak_jax.errors import StoreError\n"
        "looking.CHUNK = 4; files, parent = Files([Path(p) for p in sys.argv[1:]]), os.getpid()\n"
        "Files.name = lambda self, row: str(os.getpid() == parent or os.kill(os.getpid(), 9))\n"
        "try: looking.look(files, decode=True, workers=2)\n"
        "except StoreError as error: print(error)"
    )
    command = [sys.executable, "-c", program, *map(str, files.paths)]
    said = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert said.startswith("a process that decodes pictures was killed")


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
    record, read = Record(tmp_path / "record.jsonl"), counted(monkeypatch)

    def stop(count: int) -> None:
        if len(read) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(files, decode=True, record=record, workers=1, advance=stop)
    with record.file.open("a") as file:
        file.write('{"first": 8, "ki')  # killed in the middle of a line
    del read[:]
    advanced: list[int] = []
    expect(look(files, decode=True, record=record, workers=1, advance=advanced.append))
    assert read == [f"{i}.png" for i in range(8, COUNT)]
    assert advanced == [8, 4, 1]
    del read[:]
    expect(look(files, decode=True, record=record, workers=1))
    assert read == []
    assert len(record.file.read_text().splitlines()) == 4


def test_a_picture_that_was_written_again_is_looked_at_again(files, tmp_path, monkeypatch):
    record = Record(tmp_path / "record.jsonl")
    look(files, decode=True, record=record, workers=1)
    read = counted(monkeypatch)
    Image.new("RGB", (8, 8)).save(files.paths[5])
    os.utime(files.paths[5], (1, 1))
    look(files, decode=True, record=record, workers=1)
    assert read == [f"{i}.png" for i in range(4, 8)]
    assert len(record.file.read_text().splitlines()) == 4
    files.paths[12].unlink()
    found = look(files, decode=True, record=record, workers=1)
    assert "No such file" in found.faults[-1].reason


def test_a_record_is_plain_json(files, tmp_path):
    look(files, decode=True, record=Record(tmp_path / "record.jsonl"), workers=1)
    first = json.loads((tmp_path / "record.jsonl").read_text().splitlines()[0])
    assert first["first"] == 0
    assert first["which"] == [0, 1, 0, 2]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (MemoryError(), "out of memory"),
    ],
)
def test_a_fault_of_the_machine_is_raised_and_not_recorded(
    files, tmp_path, monkeypatch, workers, error, reason
):
    record = Record(tmp_path / "record.jsonl")
    with monkeypatch.context() as patch:
        plain = looking.examined

        def examined(data):
            if data == files.paths[9].read_bytes():
                raise error
            return plain(data)

        def unopened(path, *args, **options):
            if path == files.paths[9]:
                raise error
            return open(path, *args, **options)

        if isinstance(error, OSError):
            patch.setattr("ctrak_jax.data.pictures.open", unopened, raising=False)
        else:
            patch.setattr(looking, "examined", examined)
        with pytest.raises(StoreError) as caught:
            look(files, decode=True, record=record, workers=workers)
    assert str(caught.value) == (
        f"{files.paths[9]}: cannot be read now ({reason}); the same command tries again."
    )
    assert len(record.file.read_text().splitlines()) == 2
    expect(look(files, decode=True, record=record, workers=workers))


def test_another_pillow_looks_again(files, tmp_path, monkeypatch):
    record = Record(tmp_path / "record.jsonl")
    look(files, decode=True, record=record, workers=1)
    read = counted(monkeypatch)
    monkeypatch.setattr("PIL.__version__", "0.0")
    expect(look(files, decode=True, record=record, workers=1))
    assert len(read) == COUNT


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:-9],
        lambda line: line.replace('"which": [0', '"which": [7'),
        lambda line: line.replace('"which"', '"what"'),
        lambda line: line.replace("[[8, 8], ", "["),
        lambda line: "\0" * len(line),
        lambda line: "[1]",
        lambda line: "",
    ],
)
def test_a_damaged_line_of_the_record_is_looked_at_again(files, tmp_path, monkeypatch, damage):
    record = Record(tmp_path / "record.jsonl")
    look(files, decode=True, record=record, workers=1)
    first, *others = record.file.read_text().splitlines()
    assert damage(first) != first
    record.file.write_text("\n".join([damage(first), *others]) + "\n")
    read = counted(monkeypatch)
    expect(look(files, decode=True, record=record, workers=1))
    assert read == [f"{i}.png" for i in range(4)]


def test_one_process_writes_the_record_and_others_read_it(files, tmp_path, monkeypatch):
    file = tmp_path / "record.jsonl"
    expect(look(files, decode=True, record=Record(file, is_written=False), workers=1))
    assert not file.exists()
    look(files, decode=True, record=Record(file), workers=1)
    written, read = file.read_bytes(), counted(monkeypatch)
    expect(look(files, decode=True, record=Record(file, is_written=False), workers=1))
    assert (file.read_bytes(), read) == (written, [])


def test_a_record_that_cannot_be_written_is_one_line(files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"record\.jsonl: cannot be written"):
        look(files, decode=True, record=Record(tmp_path / "file/record.jsonl"), workers=1)


def test_a_part_of_a_look_is_the_look_at_that_part(files):
    rows = [1, 3, 6, 11]
    part = look(PictureRows(files, rows), decode=True, workers=1)
    whole = look(files, decode=True, workers=1).of(rows)
    assert part == whole
