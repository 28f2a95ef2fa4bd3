"""What a run's folder says of imported features.

DIR/imported/coordinates.npy   int64 [proj], where its coordinates are among the parameters
DIR/imported/manifest.json     whose the features are, what they were taken as, and the check
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax.store.files import digest, read_json, write_atomically

METHOD = "concept-trak"
"""The method whose training features are released."""


class Imported(NamedTuple):
    """Features that were not computed here.

    Attributes:
        coordinates: ascending [proj].
        about: the manifest.
    """

    coordinates: np.ndarray
    about: Mapping[str, Any]

    @property
    def features(self) -> str:
        """What the rows are, for keys."""
        return digest([self.about["files"], self.projection])

    @property
    def projection(self) -> str:
        """What the coordinates are, for keys."""
        return self.about["coordinates"]["sha256"]


def read_imported(out: Path) -> Imported | None:
    """What was imported into a run's folder, if anything."""
    folder = out / "imported"
    if not (folder / "manifest.json").is_file():
        return None
    about = read_json(folder / "manifest.json", "abc import")
    return Imported(np.load(folder / "coordinates.npy"), about)


def write_imported(out: Path, found: Imported) -> None:
    """Write both files, the manifest last."""
    content = io.BytesIO()
    np.save(content, found.coordinates)
    folder = out / "imported"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "coordinates.npy", content.getvalue())
    write_atomically(folder / "manifest.json", json.dumps(found.about, indent=1) + "\n")
