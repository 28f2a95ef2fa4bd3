"""A small made-up run: made-up rankings of drawn images, and numbers to go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ctrak_jax.config import Config
from ctrak_jax.report import write_report
from ctrak_jax.report.explanation.maps import MapFiles
from ctrak_jax.report.groups.section import ReportedGroups
from ctrak_jax.report.page import write_page
from ctrak_jax.report.read import Answers, Results, answers_of, results_of
from ctrak_jax.run.dampings import DampingPoint
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.metrics import (
    DampingCurve,
    LabelShiftSummary,
    LabelShiftTable,
    Metrics,
    PrecisionRow,
    PrecisionSummary,
    PrecisionTable,
    read_metrics,
    write_metrics,
)
from ctrak_jax.run.questions import Question, Scenario, write_questions
from ctrak_jax.run.reader import SeedRun
from ctrak_jax.run.tops import Hit, write_tops
from ctrak_jax.run.variants import folder_without
from ctrak_jax.store import write_scores

SIZE = 24
IMAGES = 120
METHODS = (
    *("concept-trak", "das", "d-trak", "trak", "unlearning"),
    *("ablation-base", "ablation-a", "ablation-b", "ablation-c"),
)
# How often a method's hits carry the concept, so that the page shows something plausible.
SKILL = dict(zip(METHODS, (0.9, 0.6, 0.5, 0.45, 0.4, 0.3, 0.5, 0.6, 0.8), strict=True))
SCORED = METHODS[:2]
"""Those that kept all scores."""
DROP = 0.15
"""How much less often where no condition names the attribute."""
NOTHING = PrecisionTable(rows=(), summary=())
HOSTILE = "</script><script>alert(1)</script><b title='x\">&"
COLOURS = {"red": (214, 60, 52), "blue": (52, 98, 200)}
CONDITIONS: tuple[tuple[str, str, Scenario], ...] = (
    *(("triangle", "red", "ood"), ("triangle", "blue", "id")),
    *(("circle", "red", "id"), ("circle", "blue", "id")),
)


class Outline(HTMLParser):
    """Start tags with their attributes, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data


class FakeRun(NamedTuple):
    out: Path
    seeds: Mapping[int, SeedRun]
    images: np.ndarray
    attributes: Mapping[str, Sequence[str]]

    def write(self) -> list[Path]:
        return write_report(
            self.out,
            seeds=list(self.seeds.values()),
            images=self.images,
            attributes=self.attributes,
            title="Synthetic",
            candidates=self.candidates,
        )

    @property
    def candidates(self) -> dict[str | None, np.ndarray]:
        """All images, whatever their conditions do not name."""
        return dict.fromkeys((None, *self.attributes), np.arange(len(self.images)))

    def answers(self, seed: int) -> Answers:
        run = self.seeds[seed]
        return answers_of(
            run,
            images=len(self.images),
            attributes=list(self.attributes),
            unnamed=self.results.unnamed_attributes,
            candidates=self.candidates,
        )

    @property
    def results(self) -> Results:
        return results_of(read_metrics(self.out / "metrics.json"))

    def page(
        self,
        *,
        title: str = "Synthetic",
        maps: MapFiles | None = None,
        groups: Sequence[ReportedGroups] = (),
    ) -> str:
        """The page alone: the charts take most of a report's time."""
        path, *_ = write_page(
            self.out / "index.html",
            title=title,
            results=self.results,
            seeds=[self.answers(seed) for seed in self.seeds],
            images=self.images,
            attributes=self.attributes,
            run=self.out,
            maps=maps,
            groups=groups,
        )
        return path.read_text(encoding="utf-8")


def draw(shape: str, colour: str, size: int, rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(picture)
    half = int(rng.integers(size // 5, size // 3))
    x, y = rng.integers(half, size - half, 2).tolist()
    if shape == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), COLOURS[colour], "black")
    else:
        corners = [(x, y - half), (x - half, y + half), (x + half, y + half)]
        pen.polygon(corners, COLOURS[colour], "black")
    return picture


def fake_seed(
    folder: Path,
    attributes: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
    *,
    size: int,
    queries: int,
    samples: bool,
) -> None:
    asked: list[Question] = []
    everything = len(next(iter(attributes.values())))
    folders = ("", *map(folder_without, ("shape", "color")))
    tops: dict[tuple[str, str], dict[tuple[str, str], list[Hit]]] = {
        (part, method): {} for part in folders for method in METHODS
    }
    for shape, colour, scenario in CONDITIONS:
        for nth in range(queries):
            scope = "global" if nth == queries - 1 else "local"
            name = f"{shape}-{colour}-{scope}-{nth:02d}"
            image = folder / "queries" / "images" / f"{name}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            strip = Image.new("RGB", (size * (8 if scope == "global" else 1), size))
            for left in range(0, strip.width, size):
                strip.paste(draw(shape, colour, size, rng), (left, 0))
            strip.save(image)
            condition = {"shape": shape, "color": colour}
            for attribute, value in condition.items():
                other = next(v for v in sorted(set(attributes[attribute])) if v != value)
                question = Question(
                    query=name,
                    condition=condition,
                    attribute=attribute,
                    minus={attribute: other},
                    scope=scope,
                    scenario=scenario,
                    split="validation" if nth == 0 and scenario == "id" else "report",
                    image=f"images/{name}.png",
                )
                asked.append(question)
                carrying = np.array([v == value for v in attributes[attribute]])
                for part, method in product(("", folder_without(attribute)), METHODS):
                    skill = SKILL[method] - (DROP if part else 0)
                    weight = np.where(carrying, skill / carrying.sum(), 0)
                    weight += np.where(carrying, 0, (1 - skill) / (~carrying).sum())
                    found = rng.choice(len(carrying), 12, replace=False, p=weight).tolist()
                    tops[part, method][question.key] = [
                        Hit(index, 1.5 - 0.1 * rank) for rank, index in enumerate(found)
                    ]
    write_questions(folder / "queries" / "queries.csv", asked)
    for (part, method), found in tops.items():
        write_tops(folder / part / "top" / f"{method}.csv", found)
        if method in SCORED:
            scores = rng.uniform(-2, -1, (len(found), everything))
            for row, hits in zip(scores, found.values(), strict=True):
                row[[hit.index for hit in hits]] = [hit.score for hit in hits]
            write_scores(RunFolder(root=folder / part).scores(method), scores)
    if samples:
        sheet = Image.new("RGB", (size * 16, size * 4), "white")
        for nth in range(64):
            shape, colour, _ = CONDITIONS[nth // 16]
            sheet.paste(draw(shape, colour, size, rng), (nth % 16 * size, nth // 16 * size))
        sheet.save(folder / "samples.png")


def fake_metrics(seeds: Sequence[int]) -> Metrics:
    def summary(
        method: str, scope: str, scenario: str, attribute: str, drop: float = 0
    ) -> PrecisionSummary:
        precision = SKILL[method] - drop + (0.1 if scenario == "id" else 0)
        return PrecisionSummary(
            method=method,
            scope=scope,
            scenario=scenario,
            attribute=attribute,
            k=10,
            precision=precision,
            queries=64,
            base_rate=0.33,
            ci95=(precision - 0.07, min(1.0, precision + 0.05)),
        )

    cells = [(scope, scenario) for scope in ("local", "global") for scenario in ("id", "ood")]
    curve = tuple(
        DampingPoint(r=10.0**power, split=split, scope="local", scenario=scenario, precision=p)
        for power in range(-4, 3)
        for split, scenario, top in (
            *(("validation", "id", 0.95), ("report", "id", 0.92), ("report", "ood", 0.85)),
        )
        for p in [top - 0.04 * abs(power + 1) ** 1.5]
    )
    rows = tuple(
        PrecisionRow(
            seed=seed,
            method="das",
            scope="local",
            scenario="ood",
            query="triangle-red-local-01",
            attribute=attribute,
            value=value,
            k=10,
            precision=0.5,
            base_rate=0.333,
        )
        for seed in seeds
        for attribute, value in (("color", "red"), ("shape", "triangle"))
    )
    control = tuple(summary(m, "local", s, "all", 0.1) for m in METHODS[:4] for s in ("id", "ood"))
    wrong = tuple(
        LabelShiftSummary(
            method=method,
            scope="local",
            scenario="id",
            queries=32,
            picture_only=0.9 - 0.1 * nth,
            picture_only_ci95=(0.75 - 0.1 * nth, 0.95),
            label_only=0.3 + 0.1 * nth,
            label_only_ci95=(0.25, 0.4 + 0.1 * nth),
        )
        for nth, method in enumerate(METHODS[:5])
    )
    return Metrics(
        rows=rows,
        summary=tuple(
            summary(method, scope, scenario, attribute)
            for method in METHODS
            for scope, scenario in cells
            for attribute in ("all", "color", "shape")
            if scope == "local" or method in METHODS[:4]
        ),
        unnamed=PrecisionTable(
            rows=(),
            summary=tuple(
                summary(method, scope, scenario, attribute, DROP)
                for method in METHODS
                for scope, scenario in cells
                for attribute in ("all", "color", "shape")
                if scope == "local" or method in METHODS[:4]
            ),
        ),
        damping={
            method: DampingCurve(chosen={str(seed): 0.1 for seed in seeds}, curve=curve)
            for method in METHODS[:2]
        },
        controls={
            "no-condition-embedding": PrecisionTable(rows=(), summary=control),
            "wrong-label": LabelShiftTable(rows=(), summary=wrong),
        },
        settings={"model": {"width": 128, "seeds": list(seeds)}, "note": HOSTILE},
    )


def make_run(
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    images: int = IMAGES,
    size: int = SIZE,
    queries: int = 3,
    hostile: bool = False,
) -> FakeRun:
    rng = np.random.default_rng(0)
    kinds = [CONDITIONS[1:][nth % 3] for nth in range(images)]
    pictures = np.stack([np.asarray(draw(shape, colour, size, rng)) for shape, colour, _ in kinds])
    attributes = {"shape": [kind[0] for kind in kinds], "color": [kind[1] for kind in kinds]}
    if hostile:
        attributes["note"] = [HOSTILE] * images
    folders = {seed: out if len(seeds) == 1 else out / f"seed-{seed}" for seed in seeds}
    for seed, folder in folders.items():
        fake_seed(folder, attributes, rng, size=size, queries=queries, samples=seed == seeds[0])
    out.mkdir(exist_ok=True)
    write_metrics(out / "metrics.json", fake_metrics(seeds))
    runs = {
        n: SeedRun(seed=n, folder=RunFolder(root=folder), config=Config())
        for n, folder in folders.items()
    }
    return FakeRun(out, runs, pictures, attributes)
