"""The explorer's data in blocks, which its page loads when it shows them.

The blocks of a small report stand in the page itself, which is one file to hand on. Those of a
larger one are files beside it, ``data/<name>.js``, scripts since a page opened from a disk may load
no other data; a block's picture is ``data/<name>.webp``.
"""

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

INLINE = 3_000_000
"""Bytes of blocks that the page itself holds at most."""


def data_uri(picture: bytes, kind: str) -> str:
    """A picture, ``png`` or ``webp``, as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(picture).decode("ascii")


def script_json(value: Any) -> Markup:
    """A value as JSON that may stand in a script: nothing in it ends the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
    escapes |= {"\u2028": "\\u2028", "\u2029": "\\u2029"}
    return Markup(text.translate(str.maketrans(escapes)))


class Blocks:
    """Blocks being written, of ``size`` bytes so far: ``inline`` for the page to hold, or
    ``files``."""

    def __init__(self, folder: Path) -> None:
        """``folder`` gets the files; what an earlier report left there is removed."""
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        self._kept: dict[str, tuple[Mapping[str, Any], bytes | None]] = {}
        self.files: list[Path] = []
        self.size = 0

    @property
    def inline(self) -> dict[str, Markup]:
        """Those that the page is to hold."""
        return {
            name: script_json(
                value if picture is None else {**value, "src": data_uri(picture, "webp")}
            )
            for name, (value, picture) in self._kept.items()
        }

    def add(self, name: str, value: Mapping[str, Any], picture: bytes | None = None) -> None:
        """Add a block; its picture, WebP, is found by its ``src``."""
        self._kept[name] = (value, picture)
        self.size += len(script_json(value).encode()) + len(picture or b"")
        if self.size > INLINE:
            for kept in list(self._kept):
                self._write(kept, *self._kept.pop(kept))

    def _write(self, name: str, value: Mapping[str, Any], picture: bytes | None) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if picture is not None:
            path = self._folder / f"{name}.webp"
            path.write_bytes(picture)
            self.files.append(path)
            value = {**value, "src": f"{self._folder.name}/{path.name}"}
        path = self._folder / f"{name}.js"
        path.write_text(f'ctrak("{name}", {script_json(value)});\n', encoding="utf-8")
        self.files.append(path)
