"""The report of a small made-up run: what page and sheets show, and what fails how."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ctrak_jax.errors import StoreError
from ctrak_jax.report import write_report
from ctrak_jax.report.contact import (
    FRAME,
    LABEL,
    MARGIN,
    picture_scale,
    sheet_size,
    write_contact_sheets,
)
from ctrak_jax.report.page import script_json, write_page
from ctrak_jax.report.read import read_metrics, read_run

SIZE = 24
IMAGES = 120
METHODS = (
    *("concept-trak", "das", "d-trak", "trak", "unlearning"),
    *("ablation-base", "ablation-a", "ablation-b", "ablation-c"),
)
# How often a method's hits carry the concept, so that the page shows something plausible.
SKILL = dict(zip(METHODS, (0.9, 0.6, 0.5, 0.45, 0.4, 0.3, 0.5, 0.6, 0.8), strict=True))
HOSTILE = "</script><script>alert(1)</script><b title='x\">&"
COLOURS = {"red": (214, 60, 52), "blue": (52, 98, 200)}
CONDITIONS = (
    *(("triangle", "red", "ood"), ("triangle", "blue", "id")),
    *(("circle", "red", "id"), ("circle", "blue", "id")),
)


class FakeRun(NamedTuple):
    out: Path
    runs: Mapping[int, Path]
    images: np.ndarray
    attributes: Mapping[str, Sequence[str]]

    def write(self) -> list[Path]:
        return write_report(
            self.out,
            runs=self.runs,
            images=self.images,
            attributes=self.attributes,
            title="Synthetic",
        )

    def page(self, *, title: str = "Synthetic", limit: int = 24) -> str:
        """The page alone: the charts take most of a report's time."""
        path = write_page(
            self.out / "index.html",
            title=title,
            metrics=read_metrics(self.out / "metrics.json"),
            seeds=[read_run(n, path, images=len(self.images)) for n, path in self.runs.items()],
            images=self.images,
            attributes=self.attributes,
            limit=limit,
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


def write_csv(path: Path, header: str, rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([header.split(","), *rows])


def fake_seed(
    folder: Path,
    attributes: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
    *,
    size: int,
    queries: int,
    samples: bool,
) -> None:
    asked, tops = [], {method: [] for method in METHODS}
    for shape, colour, scenario in CONDITIONS:
        for nth in range(queries):
            scope = "global" if nth == queries - 1 else "local"
            split = "validation" if nth == 0 and scenario == "id" else "report"
            name = f"{shape}-{colour}-{scope}-{nth:02d}"
            image = folder / "queries" / "images" / f"{name}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            strip = Image.new("RGB", (size * (8 if scope == "global" else 1), size))
            for left in range(0, strip.width, size):
                strip.paste(draw(shape, colour, size, rng), (left, 0))
            strip.save(image)
            for attribute, value in (("shape", shape), ("color", colour)):
                other = next(v for v in sorted(set(attributes[attribute])) if v != value)
                asked.append(
                    [
                        *(name, f"shape={shape};color={colour}", f"{attribute}={value}"),
                        *(f"{attribute}={other}", scope, scenario, split, f"images/{name}.png"),
                    ]
                )
                carrying = np.array([v == value for v in attributes[attribute]])
                for method in METHODS:
                    weight = np.where(carrying, SKILL[method] / carrying.sum(), 0)
                    weight += np.where(carrying, 0, (1 - SKILL[method]) / (~carrying).sum())
                    hits = rng.choice(len(carrying), 12, replace=False, p=weight)
                    # Written worst first: a reader has to go by the rank column.
                    tops[method] += [
                        [name, rank + 1, hits[rank], 1.5 - 0.1 * rank, attribute]
                        for rank in reversed(range(12))
                    ]
    header = "query,condition,concept,minus,scope,scenario,split,image"
    write_csv(folder / "queries" / "queries.csv", header, asked)
    for method, rows in tops.items():
        write_csv(folder / "top" / f"{method}.csv", "query,rank,index,score,attribute", rows)
    if samples:
        sheet = Image.new("RGB", (size * 16, size * 4), "white")
        for nth in range(64):
            shape, colour, _ = CONDITIONS[nth // 16]
            sheet.paste(draw(shape, colour, size, rng), (nth % 16 * size, nth // 16 * size))
        sheet.save(folder / "samples.png")


def fake_metrics(seeds: Sequence[int]) -> dict[str, Any]:
    def summary(method: str, scope: str, scenario: str, attribute: str, drop: float = 0) -> dict:
        precision = SKILL[method] - drop + (0.1 if scenario == "id" else 0)
        return {
            "method": method,
            "scope": scope,
            "scenario": scenario,
            "attribute": attribute,
            "k": 10,
            "precision": precision,
            "queries": 64,
            "base_rate": 0.33,
            "ci95": [precision - 0.07, min(1.0, precision + 0.05)],
        }

    cells = [(scope, scenario) for scope in ("local", "global") for scenario in ("id", "ood")]
    curve = [
        {"r": 10.0**power, "split": split, "scope": "local", "scenario": scenario, "precision": p}
        for power in range(-4, 3)
        for split, scenario, top in (
            *(("validation", "id", 0.95), ("report", "id", 0.92), ("report", "ood", 0.85)),
        )
        for p in [top - 0.04 * abs(power + 1) ** 1.5]
    ]
    rows = [
        {
            "seed": seed,
            "method": "das",
            "scope": "local",
            "scenario": "ood",
            "query": "triangle-red-local-01",
            "attribute": attribute,
            "value": value,
            "k": 10,
            "precision": 0.5,
            "base_rate": rate,
        }
        for seed in seeds
        for attribute, value, rate in (("color", "red", 0.333), ("shape", "triangle", 0.333))
    ]
    control = [summary(m, "local", s, "all", 0.1) for m in METHODS[:4] for s in ("id", "ood")]
    wrong = [
        {
            "method": method,
            "scope": "local",
            "scenario": "id",
            "queries": 32,
            "picture_only": 0.9 - 0.1 * nth,
            "picture_only_ci95": [0.75 - 0.1 * nth, 0.95],
            "label_only": 0.3 + 0.1 * nth,
            "label_only_ci95": [0.25, 0.4 + 0.1 * nth],
        }
        for nth, method in enumerate(METHODS[:5])
    ]
    return {
        "rows": rows,
        "summary": [
            summary(method, scope, scenario, attribute)
            for method in METHODS
            for scope, scenario in cells
            for attribute in ("all", "color", "shape")
            if scope == "local" or method in METHODS[:4]
        ],
        "damping": {
            method: {"chosen": {str(seed): 0.1 for seed in seeds}, "curve": curve}
            for method in METHODS[:2]
        },
        "controls": {
            "no-condition-embedding": {"rows": [], "summary": control},
            "wrong-label": {"rows": [], "summary": wrong},
        },
        "settings": {"model": {"width": 128, "seeds": list(seeds)}, "note": HOSTILE},
    }


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
    (out / "metrics.json").write_text(json.dumps(fake_metrics(seeds)))
    return FakeRun(out, folders, pictures, attributes)


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


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("two"), seeds=(0, 3))


@pytest.fixture(scope="module")
def page(two_seeds: FakeRun) -> str:
    return two_seeds.page()


@pytest.fixture(scope="module")
def data(page: str) -> Any:
    return json.loads(Outline(page).scripts[0])


def test_every_file_is_written_and_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    written = run.write()
    assert all(path.is_file() for path in written)
    assert set(written) == {path for path in (tmp_path / "report").rglob("*") if path.is_file()}
    names = {str(path.relative_to(tmp_path / "report")) for path in written}
    charts = {"precision", "ablation", "damping", "wrong_label", "no_condition_embedding"}
    assert {"index.html", *(f"{chart}.png" for chart in charts)} <= names
    contact = {"triangle-red-local-01-color.png", "triangle-red-local-01-color-d-trak.png"}
    assert {f"contact/{name}" for name in contact} <= names
    # Three queries a condition, two concepts each, less one validation query for each ID condition.
    assert len([name for name in names if "contact" in name]) == 9 * 2 * (len(METHODS) + 1)
    assert not [name for name in names if "circle-red-local-00" in name]


def test_the_page_asks_nothing_from_outside(page: str) -> None:
    assert "//" not in re.sub(r"^ *//.*$|data:[^\"]*", "", page, flags=re.MULTILINE)
    outline = Outline(page)
    links = [a[n] for _, a in outline.tags for n in ("src", "href", "srcset", "action") if n in a]
    assert links
    assert all(link is not None and link.startswith("data:") for link in links)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page)
    assert "{{" not in page


def test_framed_images_are_the_carriers_by_rank(two_seeds: FakeRun, data: Any) -> None:
    framed = 0
    for run in data["runs"]:
        ranked: dict[tuple[str, str, str], dict[int, int]] = {}
        for method in METHODS:
            with (two_seeds.runs[run["seed"]] / "top" / f"{method}.csv").open() as lines:
                for row in csv.DictReader(lines):
                    key = (method, row["query"], row["attribute"])
                    ranked.setdefault(key, {})[int(row["rank"])] = int(row["index"])
        for query in run["queries"]:
            for concept in query["concepts"]:
                values = two_seeds.attributes[concept["attribute"]]
                assert len(concept["rows"]) == len(METHODS)
                for method, hits in concept["rows"]:
                    key = (data["methods"][method]["id"], query["id"], concept["attribute"])
                    truth = [ranked[key][rank] for rank in range(1, 11)]
                    assert [data["index"][hit[0]] for hit in hits] == truth
                    carriers = [int(values[index] == concept["value"]) for index in truth]
                    assert [hit[2] for hit in hits] == carriers
                    framed += sum(carriers)
    assert framed > 0
    for attribute in data["attributes"]:
        shown = [attribute["values"][code] for code in attribute["codes"]]
        truth = two_seeds.attributes[attribute["name"]]
        assert shown == [truth[index] for index in data["index"]]


def test_the_atlas_holds_the_images_it_names(two_seeds: FakeRun, data: Any, tmp_path: Path) -> None:
    atlas = tmp_path / "atlas.png"
    atlas.write_bytes(base64.b64decode(data["atlas"]["src"].partition(",")[2]))
    with Image.open(atlas) as opened:
        pixels = np.asarray(opened)
    assert len(set(data["index"])) == len(data["index"])
    for tile, index in enumerate(data["index"]):
        row, column = divmod(tile, data["atlas"]["columns"])
        cut = pixels[row * SIZE : (row + 1) * SIZE, column * SIZE : (column + 1) * SIZE]
        np.testing.assert_array_equal(cut, two_seeds.images[index])


def test_both_seeds_and_only_report_queries_are_in_the_explorer(data: Any) -> None:
    assert [run["seed"] for run in data["runs"]] == [0, 3]
    for run in data["runs"]:
        names = [query["id"] for query in run["queries"]]
        assert len(names) == len(set(names)) == 9
        assert "circle-red-local-00" not in names


def test_the_answer_compares_with_the_best_rival_out_of_distribution(page: str) -> None:
    answer = re.search(r'<p class="answer">(.*?)</p>', page, re.DOTALL)
    assert answer is not None
    text = re.sub(r"<[^>]+>", "", answer[1])
    assert "held out of training, 9.0 of Concept-TRAK" in text
    assert "(95% interval 8.3 to 9.5)" in text
    assert "against 6.0 for the best rival, DAS (95%" in text
    assert "chance gives 3.3" in text


@pytest.mark.parametrize("size", [16, 64])
def test_contact_sheets_have_the_size_of_their_rows(tmp_path: Path, size: int) -> None:
    run = make_run(tmp_path, size=size, images=30, queries=2)
    contact = tmp_path / "contact"
    seed = read_run(0, tmp_path, images=len(run.images))
    write_contact_sheets(contact, seed, run.images, run.attributes)
    scale = picture_scale(size, size)
    name = "triangle-red-local-00-color"
    with Image.open(contact / f"{name}.png") as every:
        assert every.size == sheet_size(size, size, rows=len(METHODS))
    with Image.open(contact / f"{name}-trak.png") as one:
        assert one.size == sheet_size(size, size, rows=1)
        corner = (MARGIN + LABEL + FRAME, one.height - MARGIN - FRAME - size * scale)
        cut = one.crop((*corner, corner[0] + size * scale, corner[1] + size * scale))
    query = tmp_path / "queries" / "images" / "triangle-red-local-00.png"
    with Image.open(query) as truth:
        np.testing.assert_array_equal(np.asarray(cut)[::scale, ::scale], np.asarray(truth))


def test_hostile_strings_stay_text(tmp_path: Path) -> None:
    run = make_run(tmp_path, hostile=True)
    page = run.page(title=HOSTILE)
    outline = Outline(page)
    assert "alert(1)</script>" not in page
    assert len(outline.scripts) == 2
    assert not [tag for tag, _ in outline.tags if tag == "b"]
    attributes = {a["name"]: a for a in json.loads(outline.scripts[0])["attributes"]}
    assert attributes["note"]["values"] == [HOSTILE]


def test_script_json_gives_the_value_back_and_cannot_end_its_script() -> None:
    value = {HOSTILE: ["<!--", "]]>", "\u2028", "é"]}
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028") & set(text)


def test_a_limit_keeps_the_first_queries_and_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, queries=5)
    page = run.page(limit=2)
    queries = json.loads(Outline(page).scripts[0])["runs"][0]["queries"]
    # Two of the four local ones and the one global one, for each of four conditions.
    assert len(queries) == 12
    assert "The first 2 queries of each combination are here, 12 of 17" in page


def test_only_what_was_run_is_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics |= {"damping": {}, "controls": {}}
    metrics["summary"] = [row for row in metrics["summary"] if row["method"] == "das"]
    for row in metrics["summary"]:
        row["ci95"] = None
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    written = {path.name for path in run.write() if path.parent.name == "report"}
    assert written == {"index.html", "precision.png"}
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    sections = {a.get("id") for tag, a in Outline(page).tags if tag == "section"}
    assert sections == {"precision", "explorer", "attributes", "samples", "settings"}


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("metrics.json", "ctrak evaluate"),
        ("queries/queries.csv", "ctrak query"),
        ("queries/images/triangle-red-local-01.png", "ctrak query"),
        ("top", "ctrak score"),
    ],
)
def test_a_missing_file_is_named_with_the_command(
    tmp_path: Path, missing: str, command: str
) -> None:
    run = make_run(tmp_path)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError) as caught:
        run.write()
    assert str(tmp_path / missing) in str(caught.value)
    assert f"`{command}`" in str(caught.value)


def test_an_index_outside_the_data_set_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    short = run._replace(
        images=run.images[:5], attributes={k: v[:5] for k, v in run.attributes.items()}
    )
    with pytest.raises(StoreError, match="expected 0 to 4; give the data set"):
        short.write()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_csv(tmp_path / "top" / "das.csv", "query,rank,index,score", [])
    with pytest.raises(StoreError, match=r"das\.csv: columns \['attribute'\] are missing"):
        run.write()


def test_a_missing_metrics_key_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "metrics.json").write_text('{"rows": []}')
    with pytest.raises(StoreError, match=r"metrics\.json: key 'summary' is missing"):
        run.page()
