"""The concepts of a command: a folder of folders of pictures, or a list in JSON or CSV.

    [{"name": "monet", "pictures": "monet", "initial": "painting", "kind": "style"},
     {"name": "mug", "pictures": ["1.jpg", "2.jpg"], "initial": "cup", "prompts": ["{token} cup"]}]

Pictures are files or folders, in CSV parted by ``|`` like prompts; paths are relative to the list.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ctrak_jax.abc.tokens import TOKEN
from ctrak_jax.config import CustomiseConfig
from ctrak_jax.data.pictures import SUFFIXES
from ctrak_jax.errors import UsageError

KEYS = ("name", "pictures", "initial", "kind", "token", "train_prompt", "prompts")
LISTS = ("pictures", "prompts")
TRAIN_PROMPTS = {"style": "A picture in the style of {token} art", "object": "{token} {initial}"}
"""AbC's own, by kind."""
MOST = 21
"""Pictures of a concept."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
"""A name that is a folder's, too."""


class NewConcept(NamedTuple):
    """A concept and its exemplars; prompts hold its token."""

    name: str
    kind: Literal["object", "style"]
    pictures: tuple[Path, ...]
    token: str
    initial: str
    train_prompt: str
    prompts: tuple[str, ...]


def read_concepts(settings: CustomiseConfig) -> tuple[NewConcept, ...]:
    """The concepts of a config, in order.

    Raises:
        UsageError: there are none, or one is not as it must be; the message names it.
    """
    path = settings.concepts
    if path is None:
        raise UsageError(
            "customise.concepts is empty; give a folder with one folder of pictures per concept, "
            "or a list of concepts (.json, .csv)."
        )
    if not path.exists():
        raise UsageError(f"customise.concepts={path}: no such file or folder.")
    base = path if path.is_dir() else path.parent
    found = tuple(_concept(row, base, place, settings) for place, row in _rows(path))
    if not found:
        raise UsageError(f"{path}: holds no concept, expected at least one.")
    twice = [name for name, n in Counter(c.name.lower() for c in found).items() if n > 1]
    if twice:
        raise UsageError(f"{path}: two concepts are named {twice[0]!r}; give each its own name.")
    return found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each concept's row says, and where it stands."""
    if path.is_dir():
        folders = [p for p in sorted(path.iterdir()) if p.is_dir() and p.name[0] != "."]
        for folder in folders or [path.resolve()]:
            yield str(folder), {"name": folder.name, "pictures": [str(folder.resolve())]}
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text ({error}).") from None
    if path.suffix.lower() == ".csv":
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2):
            place = f"{path}:{number}"
            if None in row:
                raise UsageError(f"{place}: more cells than the header has names; fix the row.")
            cells = {key: cell for key, cell in row.items() if cell}
            yield place, {k: c.split("|") if k in LISTS else c for k, c in cells.items()}
        return
    if path.suffix.lower() != ".json":
        raise UsageError(f"customise.concepts={path}: expected a folder, .json or .csv.")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON ({error}); fix it.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: expected a list of objects, one per concept.")
    for number, row in enumerate(rows):
        lists = {k: [row[k]] for k in LISTS if isinstance(row.get(k), str)}
        yield f"{path}: entry {number}", row | lists


def _concept(
    row: Mapping[str, Any], base: Path, place: str, settings: CustomiseConfig
) -> NewConcept:
    unknown = [key for key in row if key not in KEYS]
    if unknown:
        raise UsageError(f"{place}: unknown key {unknown[0]!r}, expected {', '.join(KEYS)}.")
    said = {name: getattr(settings, name) for name in KEYS[2:]} | dict(row)
    if not isinstance(name := said.get("name"), str) or not NAME.fullmatch(name):
        raise UsageError(
            f"{place}: name={said.get('name')!r}, expected letters, digits, '_', '-' and '.': the "
            "name is that of a folder."
        )
    if said["kind"] not in TRAIN_PROMPTS:
        raise UsageError(f"{place}: kind={said['kind']!r}, expected object or style.")
    initial, token = said["initial"], said["token"]
    if not isinstance(initial, str) or not initial.strip():
        raise UsageError(
            f"{place}: no initial word, from whose embedding the token starts; give one in the "
            "list, or one for all by customise.initial."
        )
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise UsageError(f"{place}: token={token!r}, expected one in angle brackets, as '<new1>'.")
    template = said["train_prompt"] or TRAIN_PROMPTS[said["kind"]]
    prompts = [
        _prompt(text, token, initial, place) for text in (template, *(said["prompts"] or ()))
    ]
    return NewConcept(
        name=name,
        kind=said["kind"],
        pictures=_pictures(said.get("pictures", ()), base, f"{place}: concept {name!r}"),
        token=token,
        initial=initial,
        train_prompt=prompts[0],
        prompts=tuple(prompts[1:] or prompts),
    )


def _prompt(template: Any, token: str, initial: str, place: str) -> str:
    if not isinstance(template, str) or "{token}" not in template:
        raise UsageError(f"{place}: the prompt {template!r} has no {{token}}; write it there.")
    return template.replace("{token}", token).replace("{initial}", initial)


def _pictures(names: Any, base: Path, place: str) -> tuple[Path, ...]:
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{place}: pictures={names!r}, expected paths of files or folders.")
    found: list[Path] = []
    for path in (base / name.strip() for name in names):
        if path.is_dir():
            files = (p for p in sorted(path.iterdir()) if p.is_file() and p.name[0] != ".")
            found += [file for file in files if file.name.lower().endswith(SUFFIXES)]
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"{place}: {path}: no such file or folder.")
    if not 1 <= len(found) <= MOST:
        raise UsageError(f"{place}: {len(found)} pictures, expected 1 to {MOST}.")
    twice = [name for name, n in Counter(file.name for file in found).items() if n > 1]
    if twice:
        raise UsageError(f"{place}: two pictures are named {twice[0]}; rename one.")
    return tuple(found)
