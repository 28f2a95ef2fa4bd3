"""The questions of AbC, each with the customised model and the exemplars that it is about."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

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
Customised = Literal["auto", "listed", "ti"]
TI_FOLDERS = {"models": "models-ti", "synth": "synth-ti"}
"""Folder of a task's paths -> the one of models customised by textual inversion."""
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
    category: str | None
    test_case: str
    entry: int
    class_id: str
    model: Path
    exemplars: tuple[Path, ...]


def damaged(message: str) -> UsageError:
    """A file of the benchmark that is not what was distributed."""
    return UsageError(f"{message}; {ADVICE}.")


def read_tasks(path: Path, file: Path, customised: Customised) -> tuple[Task, ...]:
    """The tasks of a list, those of models-ti and synth-ti where these are wanted.

    Raises:
        UsageError: as :func:`ctrak_jax.data.abc.read_abc`.
    """
    if not file.is_file():
        raise UsageError(
            f"{file}: No such file; it is custom_diffusion/tasks/all_tasks.json of the Git "
            "repository PeterWang512/AttributeByUnlearning, not part of the data set."
        )
    folders = TI_FOLDERS if _by_inversion(path, customised) else {}
    entries: dict[str, list[Any]] = {}
    tasks = []
    for number, values in enumerate(_task_objects(file)):
        place = f"{file}: task {number}"
        _check_keys(values, TASK_KEYS, place)
        for key in TASK_KEYS:
            kind, what = (int, "an integer") if key == "test_case_ind" else (str, "text")
            absent = key == "category" and values[key] is None
            if type(values[key]) is not kind and not absent:  # a bool is an int
                raise UsageError(f"{place}: {key}={values[key]!r}, expected {what}; fix it.")
        case = values["test_case"]
        if case not in TEST_CASES:
            raise UsageError(
                f"{place}: test_case={case!r}, expected one of {', '.join(TEST_CASES)}; fix it."
            )
        if case not in entries:
            entries[case] = _entries(path / "json" / f"{case}.json")
        tasks.append(_task(path, values, entries[case], place, folders))
    if not tasks:
        raise damaged(f"{file}: holds no task, expected at least one")
    return tuple(tasks)


def _task_objects(file: Path) -> list[Any]:
    """The tasks as objects, from either form."""
    found = _json(file)
    if isinstance(found, list):
        return found
    if not isinstance(found, dict) or not all(isinstance(c, list) for c in found.values()):
        raise damaged(
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
        raise damaged(f"{file}: got {_kind(found)}, expected a list of objects")
    return found


def _by_inversion(path: Path, customised: Customised) -> bool:
    """Are models and images those of textual inversion?"""
    if customised != "auto":
        return customised == "ti"
    there = {name: (path / name).is_dir() for name in TI_FOLDERS.values()}
    if any(there.values()) and not all(there.values()):
        absent = next(name for name, found in there.items() if not found)
        raise UsageError(
            f"{path / absent}: no such folder, but its fellow is there; add it, or set "
            "data.customised: listed."
        )
    return all(there.values())


def _task(
    path: Path,
    values: dict[str, Any],
    entries: list[Any],
    place: str,
    folders: Mapping[str, str],
) -> Task:
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
        raise damaged(f"{where}: synth is {_kind(entry['synth'])}, expected an object of lists")
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
    if not exemplars:
        raise damaged(f"{where}: 0 exemplars, expected at least 1")
    return Task(
        image=_picture(path / _moved(image, folders), place),
        prompt=values["prompt"],
        train_prompt=values["train_prompt"],
        category=values["category"],
        test_case=case,
        entry=number,
        class_id=str(entry["class_id"]),
        model=path / _moved(_inside(values["model_path"]), folders),
        exemplars=tuple(_picture(path / _inside(name), where) for name in exemplars),
    )


def _names(value: Any, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise damaged(f"{place}: got {_kind(value)}, expected a list of paths")
    return value


def _inside(name: str) -> PurePosixPath:
    """A path of the benchmark relative to its folder."""
    path = PurePosixPath(name)
    return path.relative_to("dataset") if path.parts[:1] == ("dataset",) else path


def _moved(path: PurePosixPath, folders: Mapping[str, str]) -> PurePosixPath:
    """The path with another first folder, where that has one."""
    first, *rest = path.parts or (".",)
    return PurePosixPath(folders.get(first, first), *rest)


def _picture(file: Path, named_by: str) -> Path:
    if not file.is_file():
        raise damaged(f"{file}: missing, but {named_by} names it")
    return file


def _check_keys(value: Any, keys: tuple[str, ...], place: str) -> None:
    if not isinstance(value, dict):
        raise damaged(f"{place}: got {_kind(value)}, expected an object")
    lacking = [key for key in keys if key not in value]
    if lacking:
        raise damaged(f"{place}: has no {lacking[0]!r}, expected the keys {', '.join(keys)}")


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise damaged(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise damaged(f"{file}: not valid JSON ({error})") from None


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    return kinds.get(type(value), repr(value))
