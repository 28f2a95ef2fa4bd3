"""AbC (attribution by customisation) as its files are distributed.

json/test_<case>.json      the truth, one entry per customised model: {"exemplar": [paths], "synth":
                           {kind: [paths]}, "class_id": ..., "category": ...}; see ``TEST_CASES``
exemplar/, synth/          the exemplars' pictures, and those that the customised models generated
laion_subset/images/       N pictures; their order is that of their names
laion_subset/captions.txt  N lines
laion_latents.npy          float16 or float32 [2N, 4, 64, 64]: N latents, then those of the flipped
laion_text_embeddings.npy  float16 or float32 [N, 77, 768]
all_tasks.json             the questions, with the keys ``TASK_KEYS``: a list of objects, or an
                           object of lists of one length; both are read

Paths in json/ start with ``dataset/``, which stands for the folder itself. Opening the set reads
the JSON files and counts LAION's pictures and captions; arrays are mapped. Sources: Wang et al.
2023 (the benchmark) and 2024 (latents, embeddings and tasks).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax.data.pictures import SUFFIXES
from ctrak_jax.data.reading import open_npy
from ctrak_jax.errors import UsageError

TEST_CASES = ("test_artchive", "test_bamfg", "test_observed_imagenet", "test_unobserved_imagenet")
TASK_KEYS = (
    "synth_image_path",
    "prompt",
    "test_case",
    "test_case_ind",
    "model_path",
    "train_prompt",
    "category",
)
ENTRY_KEYS = ("exemplar", "synth", "class_id", "category")
MAX_EXEMPLARS = 21
LATENT = (4, 64, 64)
"""A latent on disk; rows are given as [64, 64, 4]."""
TEXT = (77, 768)
LATENTS, EMBEDDINGS = "laion_latents.npy", "laion_text_embeddings.npy"
ADVICE = "unpack the AbC files again"


class Task(NamedTuple):
    """A question: which candidates taught the model what this generated image shows?

    The image was generated from ``prompt`` by a customised model: the adapter reads its files in
    the folder ``model``, and ``class_id`` names it in place ``entry`` of the file ``test_case``. It
    was customised to the ``exemplars``, the truth, under ``train_prompt`` with the new token.
    """

    image: Path
    prompt: str
    train_prompt: str
    category: str
    test_case: str
    entry: int
    class_id: str
    model: Path
    exemplars: tuple[Path, ...]


class ChannelsLast:
    """Mapped latents [N, c, h, w], indexed by row like an array [N, h, w, c]; gives copies."""

    def __init__(self, stored: np.ndarray) -> None:
        count, channels, height, width = stored.shape
        self._stored = stored
        self.shape = (count, height, width, channels)
        self.dtype = stored.dtype
        self.ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | np.integer | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Latents [..., h, w, c] of a row, a slice, or an array of rows or of flags."""
        if isinstance(key, tuple):
            raise IndexError("latents are indexed by row alone; index the result further.")
        rows = np.asarray(self._stored[np.asarray(key) if isinstance(key, list) else key])
        return np.moveaxis(rows, -3, -1).copy()  # C-contiguous: moveaxis alone gives a view


@dataclass(frozen=True, kw_only=True)
class Laion:
    """The N candidates that every task shares, by row."""

    latents: ChannelsLast
    flipped: ChannelsLast
    """Latents of the mirrored pictures, in the same order."""
    text: np.ndarray
    """Embeddings [N, 77, 768], mapped; a picture and its mirror image share one."""

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True, kw_only=True)
class Abc:
    """The benchmark. The candidates of a task are its exemplars, then the rows of ``laion``."""

    tasks: tuple[Task, ...]
    laion: Laion


def read_abc(
    path: Path,
    *,
    tasks: Path | None = None,
    latent: tuple[int, ...] = LATENT,
    text: tuple[int, ...] = TEXT,
) -> Abc:
    """Open the benchmark.

    Args:
        path: the folder.
        tasks: another list of questions than ``path/all_tasks.json``.
        latent: shape of a latent on disk, where it is not that of the released files.
        text: shape of a text embedding, likewise.

    Raises:
        UsageError: a file is missing, damaged or of another shape, type or count, or a task does
            not fit the entry that it names. The message is one line and names the file.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give the folder that holds the AbC files.")
    questions = _tasks(path, tasks or path / "all_tasks.json")
    return Abc(tasks=questions, laion=_laion(path, latent, text))


def _damaged(message: str) -> UsageError:
    return UsageError(f"{message}; {ADVICE}.")


def _laion(path: Path, latent: tuple[int, ...], embedding: tuple[int, ...]) -> Laion:
    latents = _array(path / LATENTS, latent, "2N")
    text = _array(path / EMBEDDINGS, embedding, "N")
    count = len(text)
    if not count:
        raise _damaged(f"{path / EMBEDDINGS}: holds no row")
    if len(latents) != 2 * count:
        raise _damaged(
            f"{path / LATENTS}: {len(latents)} latents, expected {2 * count}: a plain "
            f"and a flipped one for each of the {count} rows of laion_text_embeddings.npy"
        )
    captions, images = (path / "laion_subset" / name for name in ("captions.txt", "images"))
    if not captions.is_file():
        raise _damaged(f"{captions}: no such file")
    if not images.is_dir():
        raise _damaged(f"{images}: no such folder")
    with captions.open("rb") as lines:
        line_count = sum(1 for _ in lines)
    with os.scandir(images) as files:
        picture_count = sum(f.name.lower().endswith(SUFFIXES) and f.is_file() for f in files)
    counts = ((captions, line_count, "lines"), (images, picture_count, "pictures"))
    for place, found, what in counts:
        if found != count:
            raise _damaged(
                f"{place}: {found} {what}, expected {count}, as many as "
                "laion_text_embeddings.npy has rows"
            )
    return Laion(
        latents=ChannelsLast(latents[:count]), flipped=ChannelsLast(latents[count:]), text=text
    )


def _array(file: Path, row: tuple[int, ...], count: str) -> np.ndarray:
    """A mapped array of ``count`` such rows."""
    if not file.is_file():
        raise _damaged(f"{file}: no such file")
    array = open_npy(file, f"; {ADVICE}")
    if array.shape[1:] != row:
        expected = ", ".join([count, *map(str, row)])
        raise _damaged(f"{file}: shape {array.shape}, expected [{expected}]")
    if array.dtype not in (np.float16, np.float32):
        raise UsageError(
            f"{file}: dtype {array.dtype}, expected float16 or float32; convert it or {ADVICE}."
        )
    return array


def _tasks(path: Path, file: Path) -> tuple[Task, ...]:
    entries: dict[str, list[Any]] = {}
    tasks = []
    for number, values in enumerate(_task_objects(file)):
        place = f"{file}: task {number}"
        _check_keys(values, TASK_KEYS, place)
        for key in TASK_KEYS:
            kind, what = (int, "an integer") if key == "test_case_ind" else (str, "text")
            if type(values[key]) is not kind:  # a bool is an int
                raise UsageError(f"{place}: {key}={values[key]!r}, expected {what}; fix it.")
        case = values["test_case"]
        if case not in TEST_CASES:
            raise UsageError(
                f"{place}: test_case={case!r}, expected one of {', '.join(TEST_CASES)}; fix it."
            )
        if case not in entries:
            entries[case] = _entries(path / "json" / f"{case}.json")
        tasks.append(_task(path, values, entries[case], place))
    if not tasks:
        raise _damaged(f"{file}: holds no task, expected at least one")
    return tuple(tasks)


def _task_objects(file: Path) -> list[Any]:
    """The tasks as objects, from either form."""
    found = _json(file)
    if isinstance(found, list):
        return found
    if not isinstance(found, dict) or not all(isinstance(c, list) for c in found.values()):
        raise _damaged(
            f"{file}: got {_kind(found)}, expected a list of objects or an object of lists"
        )
    _check_keys(found, TASK_KEYS, str(file))
    counts = {key: len(found[key]) for key in TASK_KEYS}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise UsageError(f"{file}: lists of differing lengths ({lengths}); fix it.")
    columns = zip(*(found[key] for key in TASK_KEYS), strict=True)
    return [dict(zip(TASK_KEYS, values, strict=True)) for values in columns]


def _entries(file: Path) -> list[Any]:
    found = _json(file)
    if not isinstance(found, list):
        raise _damaged(f"{file}: got {_kind(found)}, expected a list of objects")
    return found


def _task(path: Path, values: dict[str, Any], entries: list[Any], place: str) -> Task:
    """A checked task with its exemplars looked up."""
    case, number = values["test_case"], values["test_case_ind"]
    file = path / "json" / f"{case}.json"
    if not 0 <= number < len(entries):
        raise UsageError(
            f"{place}: test_case_ind={number}, but {file} has the entries 0 to {len(entries) - 1}; "
            "fix it."
        )
    entry, where = entries[number], f"{file}: entry {number}"
    _check_keys(entry, ENTRY_KEYS, where)
    if not isinstance(entry["synth"], dict):
        raise _damaged(f"{where}: synth is {_kind(entry['synth'])}, expected an object of lists")
    synth = {
        _inside(name)
        for kind, names in entry["synth"].items()
        for name in _names(names, f"{where}: synth.{kind}")
    }
    image = _inside(values["synth_image_path"])
    if image not in synth:
        raise UsageError(
            f"{place}: {image} is not among the images of {where}; fix test_case_ind or the path."
        )
    exemplars = _names(entry["exemplar"], f"{where}: exemplar")
    if not 1 <= len(exemplars) <= MAX_EXEMPLARS:
        raise _damaged(f"{where}: {len(exemplars)} exemplars, expected 1 to {MAX_EXEMPLARS}")
    return Task(
        image=_picture(path / image, place),
        prompt=values["prompt"],
        train_prompt=values["train_prompt"],
        category=values["category"],
        test_case=case,
        entry=number,
        class_id=str(entry["class_id"]),
        model=path / _inside(values["model_path"]),
        exemplars=tuple(_picture(path / _inside(name), where) for name in exemplars),
    )


def _names(value: Any, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _damaged(f"{place}: got {_kind(value)}, expected a list of paths")
    return value


def _inside(name: str) -> PurePosixPath:
    """A path of the benchmark relative to its folder."""
    path = PurePosixPath(name)
    return path.relative_to("dataset") if path.parts[:1] == ("dataset",) else path


def _picture(file: Path, named_by: str) -> Path:
    if not file.is_file():
        raise _damaged(f"{file}: missing, but {named_by} names it")
    return file


def _check_keys(value: Any, keys: tuple[str, ...], place: str) -> None:
    if not isinstance(value, dict):
        raise _damaged(f"{place}: got {_kind(value)}, expected an object")
    lacking = [key for key in keys if key not in value]
    if lacking:
        raise _damaged(f"{place}: has no {lacking[0]!r}, expected the keys {', '.join(keys)}")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _damaged(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise _damaged(f"{file}: not valid JSON ({error})") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    return kinds.get(type(value), repr(value))
