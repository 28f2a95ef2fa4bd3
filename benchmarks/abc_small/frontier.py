"""Cost against quality: Concept-TRAK's training features with less work, on the customisations that
are not reported and a part of the portraits."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.abc_small.measures import (
    PUBLISHED,
    Found,
    best_damping,
    by_damping,
    cell,
    interval,
    table,
)
from ctrak_jax import abc
from ctrak_jax.abc.prepared import prepare
from ctrak_jax.attribution.train import passes
from ctrak_jax.config import Config, TrajectoryConfig

METHOD = "concept-trak"
CANDIDATES = 300


class Point(NamedTuple):
    """Settings of the training samples' trajectories; nine states are recorded, the ``timesteps``
    of the least noise are kept."""

    steps: int
    timesteps: int
    negative: str
    guidance: float

    @property
    def name(self) -> str:
        return f"{self.steps}-{self.timesteps}-{self.negative}-{self.guidance:g}"

    def of(self, trajectory: TrajectoryConfig) -> TrajectoryConfig:
        changed = self._asdict() | {"record_every": self.steps // 10, "negatives": 1}
        return TrajectoryConfig.model_validate(trajectory.model_dump() | changed)


CENTRE = Point(20, 9, "other", 3.0)
"""The setting of the main table."""


def points() -> Iterator[Point]:
    """The centre, what differs from it in one setting, and what saves in two."""
    yield CENTRE
    yield from (CENTRE._replace(steps=steps) for steps in (50, 10))
    yield from (CENTRE._replace(timesteps=count) for count in (3, 1))
    yield from (CENTRE._replace(guidance=scale) for scale in (1.0, 7.5))
    yield from (CENTRE._replace(negative="null", guidance=scale) for scale in (3.0, 7.5))
    yield CENTRE._replace(steps=10, timesteps=3)


def part_of(data: Path, out: Path, wanted: set[str]) -> Path:
    """A benchmark's folder with the tasks about some customisations alone."""
    out.mkdir(parents=True, exist_ok=True)
    for file in data.iterdir():
        link = out / file.name
        if file.name != "all_tasks.json" and not link.exists():
            os.symlink(file.resolve(), link)
    tasks = json.loads((data / "all_tasks.json").read_text())
    kept = [task for task in tasks if Path(task["model_path"]).name in wanted]
    (out / "all_tasks.json").write_text(json.dumps(kept))
    return out


def measured_points(config: Config, data: Path, out: Path) -> dict[Point, Found]:
    """Every point, at the damping that is best for it."""
    found = {}
    for point in points():
        settings: dict[str, Any] = {
            "data": config.data.model_copy(update={"path": data, "candidates": CANDIDATES}),
            "trajectory": point.of(config.trajectory),
            "methods": (METHOD,),
            "references": (),
            "controls": (),
        }
        abc.run(config.model_copy(update=settings), out / point.name)
        by = by_damping(out / point.name, PUBLISHED, METHOD)
        found[point] = by[best_damping(by)]
        print(point.name, cell(interval(found[point].of("recall@10"))), flush=True)
    return found


def gigaflops(config: Config, run: Path, point: Point) -> float:
    """Of one candidate's feature by forward passes, the projection left out."""
    bench = prepare(config, run)
    network, params, _ = bench.placed()
    eps_fn = network.given(params.others).eps_fn
    sample = jax.ShapeDtypeStruct(bench.architecture.sample, jnp.float32)
    inputs = params.chosen, sample, jnp.int32(1), bench.architecture.condition
    compiled = jax.jit(eps_fn).lower(*inputs).compile()
    costs = compiled.cost_analysis()
    count = passes(
        [config.table[METHOD].train],  # type: ignore[list-item]
        timesteps=point.timesteps,
        stride=point.steps // 10,
        negatives=1,
        guidance=point.guidance,
    )
    return count * costs["flops"] / 1e9  # type: ignore[index]


def frontier_table(found: dict[Point, Found], cost: dict[Point, float]) -> str:
    """By cost."""
    header = ["steps", "timesteps", "negative", "guidance", "GFLOP", "Recall@10", "mAP"]
    rows = []
    for point in sorted(found, key=lambda p: cost[p]):
        measures = [cell(interval(found[point].of(name))) for name in ("recall@10", "mAP")]
        negative = point.negative if point.guidance != 1 else "none"
        settings = [str(point.steps), str(point.timesteps), negative, f"{point.guidance:g}"]
        rows.append([*settings, f"{cost[point]:.2f}", *measures])
    return table(header, rows)


def draw(found: dict[Point, Found], cost: dict[Point, float], file: Path) -> None:
    """Recall@10 against GFLOP per candidate; the line is the frontier."""
    figure, axes = plt.subplots(figsize=(6, 4), dpi=120)
    recall = {point: float(found[point].of("recall@10").mean()) for point in found}
    for point in found:
        axes.plot(cost[point], recall[point], "o", color="C0" if point != CENTRE else "C1")
        at = cost[point], recall[point]
        beside = any(
            1 < cost[other] / at[0] < 1.6 and abs(recall[other] - at[1]) < 0.05 for other in found
        )
        side, shift = ("right", -4) if beside else ("left", 4)
        how = {"xytext": (shift, 3), "textcoords": "offset points", "ha": side}
        axes.annotate(point.name, at, fontsize=7, **how)
    ordered = sorted(found, key=lambda p: (cost[p], -recall[p]))
    best = np.maximum.accumulate([recall[p] for p in ordered])
    axes.step([cost[p] for p in ordered], best, where="post", color="C0", linewidth=0.8)
    axes.set(xlabel="GFLOP per candidate", ylabel="Recall@10", xscale="log")
    axes.set(xlim=(1, 60), ylim=(0, 1.02))
    axes.set_xticks(ticks := (1, 2, 5, 10, 20, 50), list(map(str, ticks)))
    axes.minorticks_off()
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)
