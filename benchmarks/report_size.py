"""The report of a large run: what it weighs, how fast it opens, how much memory it takes to write.

Rankings and pictures are made up: N pictures of 32 x 32 with two attributes, Q questions, four
methods and a reference by both measures. An image's rank has a part that is the same for all
questions, so that some images return under many of them. Opened by Chromium from the disk.

    python -m benchmarks.report_size OUT [--questions 5000] [--candidates 100000] [--json FILE]
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ctrak_jax.config import Config
from ctrak_jax.report import write_report
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.metrics import Metrics, PrecisionSummary, PrecisionTable, write_metrics
from ctrak_jax.run.questions import Question, write_questions
from ctrak_jax.run.reader import SeedRun
from ctrak_jax.run.variants import folder_without
from ctrak_jax.store.place import create_array

SIDE = 32
SHAPES = tuple(f"shape{n}" for n in range(8))
COLORS = tuple(f"color{n}" for n in range(8))
METHODS = ("concept-trak", "das", "d-trak", "trak")
REFERENCE = "similarity-pixels"
TOP = 100
BLOCK = 40
"""Questions whose scores are drawn at a time."""
SPREAD = 1.5
"""Standard deviation of an image's own part of a score, in units of the rest."""

PROBE = """<script>
const tell = (what, time) => console.log(`TIME ${what} ${Math.round(time)}`);
new PerformanceObserver((list) => {
  for (const paint of list.getEntries()) tell(paint.name, paint.startTime);
}).observe({ type: "paint", buffered: true });
new MutationObserver(() => tell("answer", performance.now()))
  .observe(document.body, { attributes: true, attributeFilter: ["data-shown"] });
addEventListener("load", () => tell("load", performance.now()));
</script>"""


def pictures(count: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Noisy discs, rings, bars and squares in eight colors on a gradient, and their attributes."""
    y, x = (np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5).astype(np.float32)
    distance = [np.hypot(x, y), np.maximum(abs(x), abs(y)), abs(x), abs(y)]
    masks = np.stack([d < 10 for d in distance] + [(d < 12) & (d > 6) for d in distance])
    palette = rng.integers(30, 226, (len(COLORS), 3))
    shape, color = (rng.integers(0, len(names), count) for names in (SHAPES, COLORS))
    found = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, 4096):
        part = slice(start, min(count, start + 4096))
        n = part.stop - part.start
        ground = 128 + x * rng.normal(0, 3, (n, 1, 1)) + y * rng.normal(0, 3, (n, 1, 1))
        inside, paint = masks[shape[part], ..., None], palette[color[part], None, None]
        drawn = np.where(inside, paint, ground[..., None])
        found[part] = np.clip(drawn + rng.normal(0, 6, drawn.shape), 0, 255)
    values = {"shape": [SHAPES[n] for n in shape], "color": [COLORS[n] for n in color]}
    return found, values


def questions(
    count: int, folder: Path, images: np.ndarray, values: Mapping[str, Sequence[str]]
) -> list[Question]:
    """Two questions about every picture, whose files are written."""
    (folder / "images").mkdir(parents=True)
    asked = []
    for nth in range(count // 2):
        condition = {name: values[name][nth] for name in ("shape", "color")}
        combination = "-".join(condition.values())
        name = f"{combination}-{nth:04d}"
        Image.fromarray(images[nth]).save(folder / "images" / f"{name}.png")
        asked += [
            Question(
                query=name,
                condition=condition,
                attribute=attribute,
                minus={},
                scope="local",
                scenario="id" if zlib.crc32(combination.encode()) % 4 else "ood",
                split="report",
                image=f"images/{name}.png",
            )
            for attribute in condition
        ]
    write_questions(folder / "queries.csv", asked)
    return asked


def write_rankings(
    folder: Path,
    asked: Sequence[Question],
    values: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """A top list of every method: carriers come three times as often as others."""
    weight = np.exp(SPREAD * rng.standard_normal(len(values["shape"])))
    sums = {
        q.value: np.cumsum(weight * np.where(values[q.attribute] == q.value, 3, 1)) for q in asked
    }
    folder.mkdir(parents=True)
    for method in (*METHODS, REFERENCE):
        with (folder / f"{method}.csv").open("w") as file:
            file.write("query,rank,index,score,attribute\n")
            for q in asked:
                drawn = np.searchsorted(sums[q.value], rng.random(3 * TOP) * sums[q.value][-1])
                distinct = list(dict.fromkeys(drawn.tolist()))[:TOP]
                file.writelines(
                    f"{q.query},{rank},{index},{0.5 / (rank + 3):.6g},{q.attribute}\n"
                    for rank, index in enumerate(distinct, 1)
                )


def write_all_scores(folder: Path, count: int, candidates: int, rng: np.random.Generator) -> None:
    """Scores of every question, drawn once: all methods have them by links."""
    folder.mkdir(parents=True)
    first, *others = (folder / f"{method}.zarr" for method in METHODS)
    rows = max(1, 2**24 // (4 * candidates))
    array = create_array(first, (count, candidates), rows, "float32")
    own = SPREAD * rng.standard_normal(candidates, np.float32)
    for start in range(0, count, rows):
        stop = min(count, start + rows)
        drawn = rng.standard_normal((stop - start, candidates), np.float32)
        array[start:stop].write(drawn + own).result()
    for other in others:
        other.symlink_to(first.name)


def made_up_metrics(count: int) -> Metrics:
    """Numbers to fill the tables with."""
    rows = tuple(
        PrecisionSummary(
            method=method,
            scope="local",
            scenario=scenario,
            attribute=attribute,
            k=10,
            precision=0.5,
            ci95=(0.45, 0.55),
            queries=count // 2,
            base_rate=0.125,
        )
        for method, scenario, attribute in product(
            (*METHODS, REFERENCE), ("id", "ood"), ("all", "shape", "color")
        )
    )
    return Metrics(
        rows=(),
        summary=rows,
        unnamed=PrecisionTable(rows=(), summary=rows),
        damping={},
        controls={},
        settings=Config().model_dump(mode="json"),
    )


def make_run(out: Path, count: int, candidates: int) -> None:
    """A run's tables, its pictures (``images.npy``) and their attributes (``values.json``)."""
    rng = np.random.default_rng(0)
    drawn, values = pictures(candidates, rng)
    np.save(out / "images.npy", drawn)
    asked = questions(count, out / "queries", drawn, values)
    known = {name: np.array(found) for name, found in values.items()}
    write_rankings(out / "top", asked, known, rng)
    write_all_scores(out / "scores", len(asked), candidates, rng)
    for name in values:
        about = [q for q in asked if q.attribute == name]
        write_rankings(out / folder_without(name) / "top", about, known, rng)
        write_all_scores(out / folder_without(name) / "scores", len(about), candidates, rng)
    (out / "values.json").write_text(json.dumps(values))
    write_metrics(out / "metrics.json", made_up_metrics(count))


def opened(page: Path, address: str = "") -> dict[str, int]:
    """Milliseconds from the start of loading a page in Chromium to: its first content, its load
    event, the explorer's first answer."""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text(encoding="utf-8").replace("<body>", f"<body>{PROBE}"))
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--enable-logging=stderr", "--window-size=1280,800"]
        command += [f"--user-data-dir={profile}", f"--screenshot={profile}/page.png"]
        done = subprocess.run(
            [*command, f"{probed.resolve().as_uri()}{address}"],
            capture_output=True,
            text=True,
            check=True,
        )
    probed.unlink()
    found = re.findall(r"TIME ([\w-]+) (\d+)", done.stderr)
    names = {"first-contentful-paint": "first content", "load": "load event", "answer": "answer"}
    return {names[what]: int(ms) for what, ms in found if what in names}


def main() -> None:
    """Make the run, write its report, open it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3, help="how often the page is opened")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not (args.out / "metrics.json").exists():
        args.out.mkdir(parents=True)
        make_run(args.out, args.questions, args.candidates)
    images = np.load(args.out / "images.npy", mmap_mode="r")
    values = json.loads((args.out / "values.json").read_text())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    files = write_report(
        args.out,
        seeds=[SeedRun(seed=0, folder=RunFolder(root=args.out), config=Config())],
        images=images,
        attributes=values,
        title="Made up",
        candidates=dict.fromkeys((None, *values), np.arange(len(images))),
    )
    seconds = time.monotonic() - start
    sizes: dict[str, int] = {}
    for file in files:
        kind = file.parent.name if file.parent.name != "report" else file.suffix[1:]
        kind = file.name.split("-")[0] + file.suffix if kind == "data" else kind
        sizes[kind] = sizes.get(kind, 0) + file.stat().st_size
    found: dict[str, Any] = {
        "questions": args.questions,
        "candidates": args.candidates,
        "seconds": round(seconds, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_before_mb": before // 1024,
        "files": len(files),
        "bytes": {"all": sum(sizes.values()), **sizes},
    }
    if shutil.which("chromium"):
        query = (args.out / "queries" / "queries.csv").read_text().splitlines()[-1].split(",")[0]
        page = args.out / "report" / "index.html"
        for name, address in {"opened": "", "opened at a link": f"#query={query}"}.items():
            found[name] = [opened(page, address) for _ in range(args.repeat)]
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
