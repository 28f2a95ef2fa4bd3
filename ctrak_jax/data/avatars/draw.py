"""Drawing the avatar benchmark: every combination of attributes equally often, in parallel.

A picture is a function of (seed, values, number) alone. It is drawn again from another seed string
until its labels show (:func:`shows_its_labels`); neither the number of processes, an interruption
nor the size of the pictures changes which one is taken.
"""

import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from itertools import product
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ctrak_jax.data.avatars.styles import ATTRIBUTES, STYLES, caption, options
from ctrak_jax.data.folder import write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.errors import UsageError, pip_install
from ctrak_jax.log import logger, meter
from ctrak_jax.store.files import write_atomically

PACKAGES = ("dicebear-core", "dicebear-styles", "resvg-py")
CHECKED_AT = 32
"""Side in pixels at which labels are checked, whatever the size drawn."""
VISIBLE = {"hair": 0.03, "glasses": 0.008, "beard": 0.008}
"""Share of the pixels that must change with the label."""
CHANGED = 24
"""Largest difference of a channel above which a pixel counts as changed."""
ATTEMPTS = 200
"""Seed strings tried for one picture."""
SHARD = 8
"""Combinations drawn, and after a kill drawn again, at a time."""


class AvatarSettings(NamedTuple):
    """What decides the pictures: side in pixels, pictures per combination, seed."""

    size: int
    per_combination: int
    seed: int


def draw_avatars(
    out: Path,
    *,
    size: int = 32,
    per_combination: int = 8,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Draw the benchmark into a data set folder, captions included, on all cores by default.

    Finished work is kept in ``out/.parts``, so that the same call resumes after a kill; a finished
    folder of the same settings is left as it is.

    Raises:
        UsageError: the packages of the extra ``avatars`` are missing, or ``out`` holds something
            else.
    """
    for name, value in (("--size", size), ("--per-combination", per_combination)):
        if value < 1:
            raise UsageError(f"{name} {value} must be at least 1.")
    if seed < 0:
        raise UsageError(f"--seed {seed} must be at least 0.")
    settings = AvatarSettings(size, per_combination, seed)
    made_by = settings._asdict() | {package: installed(package) for package in PACKAGES}
    if _finished(out, made_by):
        logger.info("%s is drawn already", out)
        return
    parts = out / ".parts"
    _claim(parts, made_by)
    combinations = list(_combinations())
    shards = range(0, len(combinations), SHARD)
    todo = [first for first in shards if not _part(parts, first).exists()]
    done = (len(shards) - len(todo)) * SHARD * per_combination
    with (
        meter("avatars", len(combinations) * per_combination, done) as bar,
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=_follow_parent) as pool,
    ):
        jobs = [pool.submit(_draw_shard, parts, first, settings) for first in todo]
        try:
            for job in as_completed(jobs):
                bar.advance(job.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _assemble(out, [np.load(_part(parts, first)) for first in shards], settings, made_by)
    shutil.rmtree(parts)


def draw(values: Mapping[str, str], seed: str, size: int) -> np.ndarray:
    """One avatar, uint8 [size, size, 3]; see :func:`options`."""
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    style = values["style"]
    svg = Avatar(_style(style), options(values, seed)).to_string()
    if fix := STYLES[style].fix:
        svg = svg.replace(*fix)
    png = svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def shows_its_labels(values: Mapping[str, str], seed: str) -> bool:
    """Does changing hair, glasses or beard, one at a time to the next value under the same seed,
    change more than the share ``VISIBLE`` of the pixels?"""
    picture = draw(values, seed, CHECKED_AT).astype(int)
    for name, least in VISIBLE.items():
        known = ATTRIBUTES[name]
        other = known[(known.index(values[name]) + 1) % len(known)]
        flipped = draw({**values, name: other}, seed, CHECKED_AT)
        if (np.abs(picture - flipped).max(-1) > CHANGED).mean() <= least:
            return False
    return True


def draw_checked(values: Mapping[str, str], number: int, settings: AvatarSettings) -> np.ndarray:
    """The ``number``-th picture of a combination: uint8 [size, size, 3], its labels visible."""
    return draw(values, checked_seed(values, number, settings.seed), settings.size)


def checked_seed(values: Mapping[str, str], number: int, seed: int) -> str:
    """The seed string of the ``number``-th picture of a combination: the first whose labels
    show."""
    name = "/".join(values[attribute] for attribute in ATTRIBUTES)
    for attempt in range(ATTEMPTS):
        found = f"{seed}/{name}/{number}/{attempt}"
        if shows_its_labels(values, found):
            return found
    raise RuntimeError(f"{name}: no picture shows its labels in {ATTEMPTS} attempts.")


def _combinations() -> Iterator[dict[str, str]]:
    for values in product(*ATTRIBUTES.values()):
        yield dict(zip(ATTRIBUTES, values, strict=True))


@lru_cache
def _style(name: str) -> Any:
    from dicebear import Style

    return Style(definition(name))


def definition(name: str) -> dict[str, Any]:
    """A style as the package dicebear-styles has it."""
    return json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))


def credit(name: str) -> dict[str, str]:
    """The licence of a style: its name, address and text."""
    licence = definition(name)["meta"]["license"]
    return {key: licence[key] for key in ("name", "url", "text")}


def installed(package: str) -> str:
    """The version of a package of the extra."""
    try:
        return version(package)
    except ModuleNotFoundError:  # PackageNotFoundError is one
        raise UsageError(
            f"drawing avatars needs the package {package}, which is not installed; "
            f"run {pip_install('ctrak-jax[avatars]')}."
        ) from None


def _finished(out: Path, made_by: dict[str, Any]) -> bool:
    """Is the folder drawn? What is there and was made otherwise is never written over."""
    if not (out / "images.npy").exists():
        return False
    try:
        found = json.loads((out / "meta.json").read_text()).get("drawn_by")
    except (OSError, ValueError, AttributeError):
        found = None
    if found != made_by:
        raise UsageError(
            f"{out}: holds a data set made by {found}, expected {made_by}; give another --out."
        )
    return True


def _claim(parts: Path, made_by: dict[str, Any]) -> None:
    """Make the folder of parts, or resume in it where it was begun with the same settings."""
    begun, wanted = parts / "drawn_by.json", json.dumps(made_by)
    if begun.exists():
        if (found := begun.read_text()) != wanted:
            raise UsageError(
                f"{parts}: begun with {found}, now asked for {wanted}; give another --out, or "
                "delete it."
            )
        return
    if parts.parent.exists() and any(parts.parent.iterdir()):
        raise UsageError(
            f"{parts.parent}: holds other files, expected an empty folder; give another --out."
        )
    parts.mkdir(parents=True, exist_ok=True)
    write_atomically(begun, wanted.encode())


def _part(parts: Path, first: int) -> Path:
    return parts / f"{first:05d}.npy"


def _follow_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _draw_shard(parts: Path, first: int, settings: AvatarSettings) -> int:
    """Draw and keep the pictures of some combinations; how many they are."""
    chosen = list(_combinations())[first : first + SHARD]
    numbers = range(settings.per_combination)
    images = np.stack([draw_checked(values, n, settings) for values in chosen for n in numbers])
    stream = io.BytesIO()
    np.save(stream, images)
    write_atomically(_part(parts, first), stream.getvalue())
    return len(images)


def _assemble(
    out: Path, parts: list[np.ndarray], settings: AvatarSettings, made_by: dict[str, Any]
) -> None:
    rows = [values for values in _combinations() for _ in range(settings.per_combination)]
    meta = {
        "name": "avatars",
        "source": "drawn with DiceBear (https://www.dicebear.com)",
        "licence": "by style, see credits",
        "credits": {name: credit(name) for name in STYLES},
        "drawn_by": made_by,
    }
    avatars = RawImages(
        name="avatars",
        images=np.concatenate(parts),
        attributes={name: tuple(values[name] for values in rows) for name in ATTRIBUTES},
        prompts=tuple(caption(values) for values in rows),
        meta=meta,
    )
    write_folder(avatars, out)
