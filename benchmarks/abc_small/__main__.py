"""AbC on a model that is trained here: customisations whose exemplars are known.

    make abc-small
    python -m benchmarks.abc_small --run runs/text-to-image --out runs/abc-small

RUN is a finished run of configs/text_to_image.yaml: its model is customised, and candidates are its
training portraits beside the exemplars. Every part is skipped where it is there, and resumes.

    OUT/concepts/, portraits/   what the model is customised to, and the candidates
    OUT/abc/                    AbC's layout (ctrak customise)
    OUT/run/                    ctrak abc
    OUT/default/                the same with Concept-TRAK's candidates as by default
    OUT/frontier/               the same with less work, on customisations that are not reported
    OUT/tables.md, results.json, sheet.png, frontier.png
"""

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.abc_small import frontier, report
from benchmarks.abc_small.concepts import concepts, is_tuning, write_concepts
from benchmarks.abc_small.measures import tasks_of
from benchmarks.abc_small.sheet import write_sheet
from benchmarks.abc_small.unlearned import unlearning
from ctrak_jax import abc, customise, log
from ctrak_jax import config as settings
from ctrak_jax.abc.prepared import prepare
from ctrak_jax.cli import compilation_cache
from ctrak_jax.config import Config, TrajectoryConfig
from ctrak_jax.data import build, write_folder
from ctrak_jax.data.raw import RawImages
from ctrak_jax.store.files import write_atomically

SETTINGS = Path(__file__).with_name("settings.yaml")
PORTRAITS = 3_400
"""Candidates and, beyond them, those that decoys are drawn from."""
UNLEARNED_OVER = 1_000
"""Portraits that unlearning ranks."""
SHOWN = ("concept-trak", "d-trak", "ablation-a")


def write_portraits(run: Path, out: Path) -> None:
    """Training portraits of a run in a random order, as a data set."""
    if (out / "images.npy").exists():
        return
    data = build(settings.load(run / "config.yaml").data)
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.sort(rng.permutation(data.train_index)[:PORTRAITS]))
    attributes = {
        name: tuple(values[row] for row in rows) for name, values in data.raw.attributes.items()
    }
    captions, images = tuple(data.captions[row] for row in rows), np.asarray(data.raw.images[rows])
    portraits = RawImages(
        name="portraits",
        images=images,
        attributes=attributes,
        prompts=captions,
        meta=dict(data.raw.meta),
    )
    write_folder(portraits, out)


def config_of(run: Path, out: Path, overrides: Mapping[str, str]) -> Config:
    """The settings, with the paths of this benchmark."""
    paths = {
        "model.checkpoint": run / "model",
        "data.path": out / "abc",
        "customise.concepts": out / "concepts" / "concepts.json",
        "customise.candidates": out / "portraits",
    }
    given = {name: json.dumps(str(path)) for name, path in paths.items()}
    return settings.load(SETTINGS, given | dict(overrides))


def main() -> None:
    """All parts in order."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/text-to-image"))
    parser.add_argument("--out", type=Path, default=Path("runs/abc-small"))
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="end after so many, to be resumed"
    )
    asked = parser.parse_args()
    log.set_up()
    log.deadline.set(asked.minutes)
    out = asked.out
    config = config_of(asked.run, out, dict(pair.split("=", 1) for pair in asked.set))
    compilation_cache.switch_on(config.run.compilation_cache)
    write_concepts(out / "concepts", list(concepts()))
    write_portraits(asked.run, out / "portraits")
    customise.run(config, out / "abc")
    abc.run(config, out / "run")
    grid = config.trajectory
    by_default = TrajectoryConfig(steps=grid.steps, record_every=grid.record_every)
    changed = {"methods": ("concept-trak",), "references": (), "trajectory": by_default}
    abc.run(config.model_copy(update=changed), out / "default")
    log.deadline.check()

    tuning = {concept.name for concept in concepts() if is_tuning(concept)}
    unlearned = unlearning(config, out / "run", out / "unlearning", UNLEARNED_OVER)
    runs = {name: (out / "run", name) for name in config.methods}
    runs["default"] = out / "default", "concept-trak"
    found = report.collected(runs, (out / "run", config.references), unlearned, tuning)
    data = frontier.part_of(out / "abc", out / "tuning-tasks", tuning)
    points = frontier.measured_points(config, data, out / "frontier")
    cost = {point: frontier.gigaflops(config, out / "run", point) for point in points}
    frontier.draw(points, cost, out / "frontier.png")

    write_atomically(out / "results.json", json.dumps(report.document(found), indent=1) + "\n")
    text = f"{report.written(found)}\n{frontier.frontier_table(points, cost)}"
    write_atomically(out / "tables.md", text)
    tasks = tasks_of(out / "run")
    reported = [n for n, task in enumerate(tasks) if task.name not in tuning]
    first = [n for n in reported if n == tasks.index(tasks[n])]
    dampings = {name: found.dampings[report.PUBLISHED, name] for name in SHOWN}
    write_sheet(prepare(config, out / "run"), out / "run", first, dampings, out / "sheet.png")
    print(text)


if __name__ == "__main__":
    main()
