"""The report of a small made-up run: what page and sheets show, and what fails how."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.metrics import Among
from ctrak_jax.report import measures
from ctrak_jax.report.contact import (
    FRAME,
    LABEL,
    MARGIN,
    picture_scale,
    sheet_size,
    write_contact_sheets,
)
from ctrak_jax.report.labels import MAIN, is_ablation, label
from ctrak_jax.report.rows import main_methods
from ctrak_jax.run.metrics import (
    HiddenSummary,
    HiddenTable,
    PrecisionSummary,
    read_metrics,
    write_metrics,
)
from ctrak_jax.run.tops import write_tops
from tests.report.made_up import METHODS, NOTHING, FakeRun, Outline, make_run


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("two"), seeds=(0, 3))


@pytest.fixture(scope="module")
def page(two_seeds: FakeRun) -> str:
    return two_seeds.page()


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
    # A sheet of each method, one of all, and one of all where no condition names the attribute.
    assert len([name for name in names if "contact" in name]) == 9 * 2 * (len(METHODS) + 2)
    assert not [name for name in names if "circle-red-local-00" in name]


def test_the_page_asks_nothing_from_outside(page: str) -> None:
    assert "//" not in re.sub(r"^ *//.*$|data:[^\"]*", "", page, flags=re.MULTILINE)
    outline = Outline(page)
    links = [a[n] for _, a in outline.tags for n in ("src", "href", "srcset", "action") if n in a]
    assert links
    assert all(link is not None and link.startswith("data:") for link in links)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", page)
    assert not re.search(r"\{[{%]", re.sub(r"\$\{.*?\}", "", page))


@pytest.mark.parametrize("size", [16, 64])
def test_contact_sheets_have_the_size_of_their_rows(tmp_path: Path, size: int) -> None:
    run = make_run(tmp_path, size=size, images=30, queries=2)
    contact = tmp_path / "contact"
    write_contact_sheets(contact, run.answers(0), run.images, run.attributes)
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


def test_only_what_was_run_is_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = read_metrics(tmp_path / "metrics.json")
    alone = tuple(row for row in metrics.summary if row.method == "das")
    few = replace(metrics, damping={}, controls={}, summary=alone, unnamed=NOTHING)
    write_metrics(tmp_path / "metrics.json", few)
    written = {path.name for path in run.write() if path.parent.name == "report"}
    assert written == {"index.html", "precision.png"}
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    sections = {a.get("id") for tag, a in Outline(page).tags if tag == "section"}
    assert sections == {"precision", "explorer", "attributes", "samples", "settings"}


def test_hidden_carriers_have_a_table_for_each_scope(tmp_path: Path) -> None:
    run, path = make_run(tmp_path), tmp_path / "metrics.json"
    rows = [
        HiddenSummary(
            method=method,
            scope=scope,
            scenario="ood",
            attribute=attribute,
            among=among,
            k=k,
            precision=0.61 if among == "all" else 0.72,
            precision_ci95=(0.5, 0.8),
            recall=0.43,
            recall_ci95=(0.4, 0.5),
            queries=8,
            base_rate=0.1,
        )
        for method in ("concept-trak", "d-trak")
        for scope in ("local", "global")
        for attribute in ("all", "color")
        for among in get_args(Among)
        for k in (10, 50)
    ]
    assert 'id="hidden"' not in run.page()
    table = HiddenTable(k=50, rows=(), summary=tuple(rows))
    write_metrics(path, replace(read_metrics(path), hidden=table))
    page = run.page()
    section = page[page.index('id="hidden"') : page.index('id="controls"')]
    assert section.count("<table") == 2
    assert section.count('class="num"') == 2 * 2 * 5
    assert [section.count(f">{value}<") for value in ("0.61", "0.72", "0.43")] == [4, 8, 8]
    assert "OOD, local, share of the top 50" in section


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


def test_an_attribute_outside_the_data_set_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shapes = run._replace(attributes={"shape": run.attributes["shape"]})
    with pytest.raises(UsageError, match=r"queries\.csv: attribute 'color' of triangle-red"):
        shapes.write()


# References


def with_references(run: FakeRun) -> FakeRun:
    """The same run with labels and pixels, better than every method, and a random order."""
    names = ("labels", "random", "similarity-pixels")

    def better(rows: tuple[PrecisionSummary, ...]) -> tuple[PrecisionSummary, ...]:
        first = [row for row in rows if row.method == MAIN]
        best = [replace(row, precision=1.0, ci95=(1.0, 1.0)) for row in first]
        return (*(replace(row, method=name) for name in names for row in best), *rows)

    found = read_metrics(run.out / "metrics.json")
    unnamed = replace(found.unnamed, summary=better(found.unnamed.summary))
    write_metrics(
        run.out / "metrics.json", replace(found, summary=better(found.summary), unnamed=unnamed)
    )
    for seed, part in product(run.seeds.values(), (None, "shape", "color")):
        for name in names:
            write_tops(seed.part(part).top(name), seed.tops("das", without=part))
    return run


def test_references_stand_below_the_methods_and_take_no_part_in_the_comparison(tmp_path):
    before = measures.headlines(make_run(tmp_path).results)
    run = with_references(make_run(tmp_path))
    for found in measures.main_tables(run.results).values():
        below = [line.name.reference for line in found.lines]
        assert below == sorted(below)
        assert sum(below) == 3
        for column, best in enumerate(found.best):
            numbers = [line.entries[column] for line in found.lines if not line.name.reference]
            assert best == max(entry.interval.mean for entry in numbers if entry is not None)
    assert measures.headlines(run.results) == before
    page = run.page()
    assert page.count('<tr class="reference">') >= 3
    for line in page.split('<tr class="reference">')[1:]:
        assert "num best" not in line[: line.index("</tr>")]


def test_what_is_drawn_at_random_is_shown_in_numbers_alone(tmp_path):
    shown = with_references(make_run(tmp_path)).answers(0).methods
    assert "similarity-pixels" in shown
    assert not {"labels", "random"} & set(shown)


def test_a_ladder_with_references_alone_is_the_main_table(tmp_path):
    found = read_metrics(with_references(make_run(tmp_path)).out / "metrics.json").summary
    rows = [row for row in found if is_ablation(row.method) or label(row.method).reference]
    assert main_methods(rows)[:4] == tuple(f"ablation-{step}" for step in ("base", "a", "b", "c"))
