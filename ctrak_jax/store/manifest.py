"""The manifest of a feature store: what its rows are made from, and which are there."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ctrak_jax.errors import StoreError
from ctrak_jax.store.place import Place, below, read_bytes, write_bytes

FILE = "manifest.json"


def read_manifest(place: Place) -> dict[str, Any]:
    """The manifest of a store; a StoreError where it is missing or damaged."""
    file, content = below(place, FILE), read_bytes(place, FILE)
    if content is None:
        raise StoreError(f"{file} is missing; run the stage that writes it first.")
    try:
        manifest = json.loads(content.decode())
        wrong = [name for name, right in _FIELDS.items() if not right(manifest[name])]
        if wrong:
            raise ValueError(", ".join(wrong))
        starts = set(range(0, manifest["rows"], manifest["chunk"]))
        if not starts.issuperset(manifest["complete"]):
            raise ValueError("complete: it lists rows at which no chunk begins")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} is damaged ({error}); delete {place} and compute it again."
        ) from None
    return manifest


def write_manifest(place: Place, manifest: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    write_bytes(place, FILE, (json.dumps(manifest, indent=1) + "\n").encode())


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The fields in which two keys differ, in words."""
    return [
        f"{name} is {found.get(name)!r}, wanted {wanted.get(name)!r}"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "key": lambda value: isinstance(value, dict),
    "rows": _is_count,
    "chunk": lambda value: _is_count(value) and value > 0,
    "arrays": lambda value: (
        isinstance(value, dict) and set(value.values()) <= {"float32", "bfloat16", "int8"}
    ),
    "complete": lambda value: isinstance(value, list) and all(map(_is_count, value)),
    "together": _are_names,
}
"""What a manifest holds, and whether a value of it can be right."""
