"""The folder of one training seed's results: where everything is, and what is finished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrak_jax.config import Config
from ctrak_jax.store import Place, below
from ctrak_jax.store.files import plain, write_atomically


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths and stamps of one training seed, or of a variant of it.

    Attributes:
        root: the folder.
        url: where the features of training samples go instead, if anywhere.
    """

    root: Path
    url: str | None = None

    def part(self, folder: str) -> "RunFolder":
        """The folder of a variant below this one; of the main experiment (empty) this one."""
        if not folder:
            return self
        url = None if self.url is None else str(below(self.url, *folder.split("/")))
        return RunFolder(root=self.root / folder, url=url)

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def encoded(self) -> Path:
        return self.root / "encoded"

    @property
    def queries(self) -> Path:
        return self.root / "queries"

    @property
    def questions(self) -> Path:
        return self.queries / "queries.csv"

    @property
    def dampings(self) -> Path:
        return self.root / "scores" / "damping.json"

    def features(self, store: str) -> Place:
        """The features of the training samples."""
        return below(self.root if self.url is None else self.url, "features", store)

    def query_features(self, method: str) -> Path:
        return self.queries / method

    def scores(self, method: str) -> Path:
        return self.root / "scores" / f"{method}.zarr"

    def top(self, method: str) -> Path:
        return self.root / "top" / f"{method}.csv"

    def fisher(self, method: str) -> Path:
        return self.root / "fisher" / method

    def fresh(self, stage: str, key: Mapping[str, Any], *outputs: Path) -> bool:
        """Has ``stage`` been finished from the same key, with its outputs still there?"""
        stamp = self._stamp(stage)
        return (
            stamp.exists()
            and all(output.exists() for output in outputs)
            and json.loads(stamp.read_text()) == plain(key)
        )

    def finish(self, stage: str, key: Mapping[str, Any]) -> None:
        """Record that ``stage`` is finished."""
        write_atomically(self._stamp(stage), json.dumps(plain(key), indent=1))

    def _stamp(self, stage: str) -> Path:
        return self.root / ".stages" / f"{stage}.json"


def seed_folder(config: Config, out: Path, seed: int) -> RunFolder:
    """The run's own folder; of several training seeds one each below it."""
    place = f"seed-{seed}" if len(config.run.seeds) > 1 else ""
    url = config.store.url
    return RunFolder(root=out / place, url=None if url is None else str(below(url, place)))


def ensemble_folder(out: Path) -> RunFolder:
    """Where the averages of all training seeds are."""
    return RunFolder(root=out / "ensemble")
