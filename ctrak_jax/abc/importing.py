"""Released features of LAION's rows as a run's own: ``ctrak abc import``.

``train_grad-<i>.npy``, i = 0, 1, ..., raw float32 without the header of .npy files, each of whole
rows: LAION's, in the order of the file. A few rows are featurized here and compared with the stored
ones, which tells whether the coordinates are those that the features were made with.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ctrak_jax import devices
from ctrak_jax.abc.coordinates import Placed, placed, read_coordinates
from ctrak_jax.abc.imported import METHOD, Imported, write_imported
from ctrak_jax.abc.prepared import Benchmark
from ctrak_jax.attribution import train_features
from ctrak_jax.config.presets import PRESETS
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs import arrays
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.log import logger, meter
from ctrak_jax.stages import featurize
from ctrak_jax.store import FeatureStore

NAME = re.compile(r"train_grad-(\d+)\.npy")
COMPARED = 4
"""Rows that are featurized here."""
WORD = 32
"""A feature's length is a multiple of it."""


@dataclass(frozen=True)
class ReleasedRows:
    """The files of a folder end to end, mapped."""

    files: tuple[Path, ...]
    parts: tuple[np.ndarray, ...]

    @property
    def count(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, rows: range) -> np.ndarray:
        """Consecutive rows [row, proj]."""
        found, first = [], 0
        for file, part in zip(self.files, self.parts, strict=True):
            some = part[max(rows.start - first, 0) : max(rows.stop - first, 0)]
            zero = np.flatnonzero(~some.any(axis=1))
            if len(zero):
                raise UsageError(f"{file}: row {zero[0]} of those read is zero; fetch it again.")
            found.append(some)
            first += len(part)
        return np.concatenate(found)


def read_released(folder: Path, k: int) -> ReleasedRows:
    """Map the files of a folder, whose rows have ``k`` numbers.

    Raises:
        UsageError: none is there, one is missing, or is no whole number of rows.
    """
    numbers = {int(m[1]): f for f in folder.glob("*") if (m := NAME.fullmatch(f.name))}
    if not numbers:
        raise UsageError(f"{folder}: holds no train_grad-0.npy; give the folder of the features.")
    for number in range(max(numbers) + 1):
        if number not in numbers:
            raise UsageError(f"{folder / f'train_grad-{number}.npy'}: no such file; fetch it.")
    parts = []
    for _, file in sorted(numbers.items()):
        count, rest = divmod(file.stat().st_size, 4 * k)
        if rest or not count:
            raise UsageError(
                f"{file}: {file.stat().st_size} bytes are no whole rows of projection.k={k} "
                "float32 numbers; set projection.k to theirs, or fetch the file again."
            )
        parts.append(np.memmap(file, np.float32, "r", shape=(count, k)))
    return ReleasedRows(tuple(file for _, file in sorted(numbers.items())), tuple(parts))


def import_features(bench: Benchmark, folder: Path, coordinates: Path) -> Imported:
    """Make the store of LAION's rows out of released features.

    Args:
        bench: the run, of the published trajectories, projected by ``mask``.
        folder: of the released files.
        coordinates: the file of :func:`ctrak_jax.abc.coordinates.read_coordinates`.

    Raises:
        UsageError: other settings, files that are missing or damaged, or coordinates that the
            features were not made with.
    """
    _require_published(bench)
    released = read_released(folder, bench.config.projection.k)
    if released.count < len(bench.rows):
        raise UsageError(
            f"{folder}: {released.count} rows, but {len(bench.rows)} candidates; set "
            f"data.candidates: {released.count}."
        )
    sets = _of_length(read_coordinates(coordinates), bench.config.projection.k, coordinates)
    shapes = bench.shapes
    known = {name: placed(values, shapes) for name, values in sets.items()}
    correlation = _correlation(bench, released, known)
    best = max(correlation, key=correlation.__getitem__)
    _require_correlated(correlation, best, coordinates, bench.config.projection.k)
    trajectory = PRESETS["published"]["trajectory"]
    about = {
        "source": str(folder),
        "made_here": False,
        "files": [
            [file.name, file.stat().st_size, arrays.fingerprint(folder, (file.name,))]
            for file in released.files
        ],
        "rows": released.count,
        "taken_as": {"method": METHOD, "trajectory": trajectory, "loss": "dps", "normalise": True},
        "coordinates": {
            "file": coordinates.name,
            "name": best,
            "sha256": hashlib.sha256(sets[best].tobytes()).hexdigest(),
        },
        "correlation": correlation,
    }
    found = Imported(known[best].here, about)
    _fill(bench._replace(imported=found), released, known[best])
    write_imported(bench.folder.root, found)
    logger.info("%s: %d rows imported, coordinates %s", folder, len(bench.rows), best)
    return found


def _require_published(bench: Benchmark) -> None:
    config = bench.config
    wanted = {f"trajectory.{k}": v for k, v in PRESETS["published"]["trajectory"].items()}
    wanted |= {"projection.kind": "mask", "data.order": "file"}
    for name, value in wanted.items():
        section, field = name.split(".")
        got = getattr(getattr(config, section), field)
        if got != value:
            raise UsageError(
                f"{name}={got}, but the released features are of {value}; use --preset published."
            )
    if METHOD not in config.methods:
        raise UsageError(f"methods lacks {METHOD}, whose features are released; add it.")


def _of_length(sets: Mapping[str, np.ndarray], k: int, file: Path) -> dict[str, np.ndarray]:
    found = {name: values for name, values in sets.items() if len(values) == k}
    if not found:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in sets.items())
        raise UsageError(f"{file}: no set of projection.k={k} coordinates (it has {lengths}).")
    return found


def _correlation(
    bench: Benchmark, released: ReleasedRows, known: Mapping[str, Placed]
) -> dict[str, float]:
    """The mean cosine of a few rows made here with the stored ones, by set of coordinates."""
    rows = np.unique(np.linspace(0, len(bench.rows) - 1, COMPARED).astype(int))
    stored = np.concatenate([released[range(row, row + 1)] for row in rows])
    every = np.unique(np.concatenate([place.here for place in known.values()]))
    spare = np.setdiff1d(np.arange(min(bench.size, len(every) + WORD)), every)
    every = np.sort(np.concatenate([every, spare[: -len(every) % WORD]]))
    features = _featurized(bench, rows, every)
    found = {}
    for name, (here, columns) in known.items():
        mine, theirs = features[:, np.searchsorted(every, here)], stored[:, columns]
        norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
        found[name] = float(np.mean((mine * theirs).sum(1) / norms))
    return found


def _featurized(bench: Benchmark, rows: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Features of LAION's rows made here at these coordinates [row, proj]."""
    spec = bench.config.table[METHOD].train
    assert spec is not None
    projection = bench.recipe.projection._replace(k=len(coordinates), coordinates=coordinates)
    recipe = replace(bench.recipe, projection=projection)
    network, params, placing = bench.placed()
    weights = devices.put(params, bench.mesh, placing)
    step = partial(train_features, recipe, network)
    program = devices.over_samples(lambda w, batch: step(w, [spec], batch), bench.mesh, placing)
    samples = train_samples(bench.laion().inputs, bench.rows)
    batch = samples.batch(devices.padded(rows, len(rows) + -len(rows) % bench.mesh.size))
    return np.asarray(program(weights, batch).features)[: len(rows), 0].astype(np.float64)


def _require_correlated(correlation: Mapping[str, float], best: str, file: Path, k: int) -> None:
    """The right coordinates' rows correlate; those of others do as random numbers."""
    least = 0.2 + 4.0 / np.sqrt(k)
    if not correlation[best] >= least:
        raise UsageError(
            f"{file}: features made here correlate with the stored ones by "
            f"{correlation[best]:.3f} at best ({best}), expected at least {least:.2f}: other "
            "coordinates than those of the release, which depend on the GPU that drew them, or "
            "another model."
        )


def _fill(bench: Benchmark, released: ReleasedRows, place: Placed) -> None:
    spec = bench.config.table[METHOD].train
    assert spec is not None
    form = featurize.form_of(bench.config)
    store = FeatureStore.create(
        bench.folder.features(METHOD),
        bench.laion().key(spec),
        index=bench.rows,
        widths={"features": bench.config.projection.k},
        chunk=form.chunk,
        dtype=form.dtype,
        precision=form.precision,
    )
    with meter("abc import", len(bench.rows)) as bar:
        for rows in store.missing:
            values: Any = released[rows][:, place.columns]
            store.write(rows, {"features": values})
            bar.advance(len(rows))
    store.seal()
