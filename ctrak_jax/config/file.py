"""YAML in, one clear error out: reading and writing a config.

A YAML file holds only what differs from the defaults; ``--section.field VALUE`` on the command line
goes on top. :func:`load` names the key, its line and the nearest valid one where something is off.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from ctrak_jax.config.settings import Config, fields, sections
from ctrak_jax.errors import UsageError

TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
"""YAML tags of the keys a config may have: text, and the merge key."""

RENAMED = {
    "trajectory.against": "trajectory.negative",
    "trajectory.opponents": "trajectory.negatives",
    "trajectory.prompt": "trajectory.negative_prompt",
}
"""Settings by the names they once had."""
RENAMED_VALUES = {("counterfactual.among", "unnamed"): "unlabelled"}
"""Values by the names they once had, and of which setting."""

Place = tuple[str | int, ...]
"""Keys and list positions that lead to a value."""


def load(path: Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """Read a YAML config and put command line overrides (``section.field`` -> text) on top.

    Raises:
        UsageError: unreadable file, unknown key, wrong type or value; one line.
    """
    raw, lines = ({}, {}) if path is None else _read(path)
    for dotted, text in (overrides or {}).items():
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            raise UsageError(f"--{dotted}: cannot read {text!r} as a YAML value.") from None
        node, (*parents, leaf) = raw, dotted.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                where = lines.get((parent,), path)
                raise UsageError(f"{where}: {parent}: got {node!r}, expected settings below it.")
        node[leaf] = value
        lines[tuple(dotted.split("."))] = f"--{dotted}"
    _reject_unknown(raw, lines)
    try:
        return Config.model_validate(raw)
    except pydantic.ValidationError as error:
        raise UsageError(_explain(error, lines, str(path or "config"))) from None


def dump(config: Config) -> str:
    """The full resolved config as YAML; reads back to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read(path: Path) -> tuple[dict[str, Any], dict[Place, str]]:
    """The content of a YAML file, and the ``file:line`` of every place in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"config {path}: {error.strerror or error}; give the path of a YAML file."
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error}).") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date or number
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise UsageError(f"{path}{where}: not valid YAML: {problem}.") from None
    if raw is None:
        return {}, {}
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: got a {type(raw).__name__}, expected sections such as 'data:'.")
    return raw, {} if node is None else _places(node, path)


def _places(root: yaml.Node, path: Path) -> dict[Place, str]:
    """The ``file:line`` of every place; refuses keys that are not text or are given twice."""
    lines: dict[Place, str] = {}
    seen: set[int] = set()

    def visit(node: yaml.Node, place: Place) -> None:
        if id(node) in seen:  # an alias, which may even hold itself
            return
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                visit(item, (*place, number))
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            here, line = (*place, key.value), f"{path}:{key.start_mark.line + 1}"
            if key.tag not in TEXT_TAGS:
                raise UsageError(f"{line}: key {key.value!r} is not text; put it in quotes.")
            if here in lines:
                raise UsageError(
                    f"{line}: key {key.value!r} is given twice, first at {lines[here]}; keep one."
                )
            lines[here] = line
            visit(value, here)

    visit(root, ())
    return lines


def _reject_unknown(raw: Mapping[str, Any], lines: Mapping[Place, str]) -> None:
    old = {name: tuple(name.split(".")) for name in RENAMED if tuple(name.split(".")) in lines}
    if old:
        changes = ", ".join(f"{name} is now {RENAMED[name]}" for name in old)
        advice = "use the new names" if len(old) > 1 else "use the new name"
        raise UsageError(f"{lines[next(iter(old.values()))]}: {changes}; {advice}.")
    for (name, value), new in RENAMED_VALUES.items():
        section, field = name.split(".")
        inner = raw.get(section)
        if isinstance(inner, dict) and inner.get(field) == value:
            where = lines.get((section, field), name)
            raise UsageError(f"{where}: {name}={value} is now {new}; use the new value.")
    every = [*Config.model_fields, *fields()]
    for key, value in raw.items():
        inner = value if key in sections() and isinstance(value, dict) else None
        for place in [(key,)] if inner is None else [(key, name) for name in inner]:
            dotted = ".".join(map(str, place))
            if dotted not in every:
                near = difflib.get_close_matches(dotted, every, 1, 0.0)[0]
                raise UsageError(
                    f"{lines.get(place, dotted)}: unknown key {dotted!r}; did you mean {near!r}?"
                )


def _explain(error: pydantic.ValidationError, lines: Mapping[Place, str], source: str) -> str:
    """One line of the first error: the place in the file, what was got and what was expected."""
    first = error.errors(include_url=False)[0]
    loc, got, message = first["loc"], first["input"], first["msg"]
    places: list[Place] = [loc[:n] for n in range(len(loc), 0, -1)]
    dotted = ".".join(map(str, loc))
    if first["type"] == "value_error":  # ours: a section's and the whole's name the settings
        message = message.removeprefix("Value error, ")
        places = [tuple(name.split(".")) for name in re.findall(r"[a-z_.]+", message)] + places
        message = message if dotted in ("", *sections()) else f"{dotted}={got} {message}"
    elif first["type"] == "tuple_type":
        message = f"{dotted}: got {got!r}, expected a list; write [{got}]"
    else:
        message = f"{dotted}: got {got!r}; {message[0].lower()}{message[1:]}"
    where = next((lines[place] for place in places if place in lines), source)
    setting = re.escape(where.removeprefix("--"))
    if where.startswith("--") and re.match(rf"{setting}[.:=]", message):  # names it once
        return f"--{message}."
    return f"{where}: {message}."
