"""Unnamed precision beside named precision: opening sentence, tables, averages and notes."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrak_jax.report import measures
from ctrak_jax.report.figures import PRECISION, write_figures
from ctrak_jax.report.labels import MAIN
from ctrak_jax.run.metrics import (
    EnsembleTables,
    Metrics,
    PrecisionSummary,
    PrecisionTable,
    read_metrics,
    write_metrics,
)
from ctrak_jax.run.tops import write_tops
from ctrak_jax.run.variants import folder_without
from tests.report.made_up import HOSTILE, METHODS, NOTHING, FakeRun, Outline, make_run

Cell = tuple[str, str, str]


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return make_run(tmp_path)


def found(run: FakeRun) -> Metrics:
    return read_metrics(run.out / "metrics.json")


def rewrite(run: FakeRun, **changes: Any) -> Metrics:
    metrics = replace(found(run), **changes)
    write_metrics(run.out / "metrics.json", metrics)
    return metrics


def planted(
    rows: tuple[PrecisionSummary, ...], precision: Mapping[Cell, float]
) -> tuple[PrecisionSummary, ...]:
    """The same rows with our own means by (method, scope, scenario), intervals .04 wide."""

    def plant(row: PrecisionSummary) -> PrecisionSummary:
        mean = precision.get((row.method, row.scope, row.scenario), row.precision)
        return replace(row, precision=mean, ci95=(mean - 0.02, mean + 0.02))

    return tuple(map(plant, rows))


def text_of(page: str, pattern: str) -> str:
    part = re.search(pattern, page, re.DOTALL)
    assert part is not None
    return " ".join(re.sub(r"<[^>]+>", "", part[1]).split())


def answer(page: str) -> str:
    return text_of(page, r'<p class="answer">(.*?)</p>')


def test_the_sentence_leads_with_what_is_found_unnamed_and_then_named(run):
    where = ("local", "ood")
    unnamed: dict[Cell, float] = {(m, *where): 0.1 for m in METHODS}
    unnamed |= {(MAIN, *where): 0.72, ("trak", *where): 0.31, ("ablation-c", *where): 0.99}
    named: dict[Cell, float] = {(m, *where): 0.2 for m in METHODS}
    named |= {(MAIN, *where): 0.64, ("d-trak", *where): 0.83, ("das", *where): 0.83}
    metrics = found(run)
    rewrite(
        run,
        unnamed=PrecisionTable(rows=(), summary=planted(metrics.unnamed.summary, unnamed)),
        summary=planted(metrics.summary, named),
    )
    first, second = answer(run.page()).split(" Where they do, ")
    assert first == (
        "Where the candidates’ conditions do not name the attribute asked about, 72% of "
        "Concept-TRAK’s top 10 training images carry the queried concept out of distribution "
        "(95% interval 70% to 74%), against 31% for the best other method, TRAK (29% to 33%); "
        "chance gives 33%."
    )
    assert second == (
        "looking the label up is always right; Concept-TRAK has 64%, DAS and D-TRAK 83%."
    )


def test_captions_are_called_captions(run):
    rewrite(run, settings={"model": {"kind": "text-to-image"}})
    assert "Where the candidates’ captions do not name" in answer(run.page())


def test_both_figures_of_the_sentence_are_of_the_same_questions(run):
    metrics = found(run)
    seen = tuple(row for row in metrics.unnamed.summary if row.scenario == "id")
    rewrite(run, unnamed=PrecisionTable(rows=(), summary=seen))
    both = measures.headlines(run.results)
    assert both.unnamed is not None
    assert both.named is not None
    assert both.unnamed.column == both.named.column == ("local", "id")


def test_concept_trak_asked_by_a_reward_is_no_rival_of_it(run):
    better = tuple(
        replace(row, method="reward", precision=0.99) if row.method == "trak" else row
        for row in found(run).unnamed.summary
    )
    rewrite(run, unnamed=PrecisionTable(rows=(), summary=better))
    first = measures.headlines(run.results).unnamed
    assert first is not None
    assert not set(first.rivals) & {"Concept-TRAK", "Concept-TRAK, reward", "TRAK"}


def test_without_unnamed_precision_the_page_says_nothing_of_it(run):
    rewrite(run, unnamed=NOTHING)
    page = run.page()
    text = answer(page)
    assert "On combinations held out of training, 9.0 of Concept-TRAK" in text
    assert "(95% interval 8.3 to 9.5)" in text
    assert "against 6.0 for the best rival, DAS (95%" in text
    assert text.endswith("chance gives 3.3.")
    body = page[: page.index('<script type="application/json"')]
    assert not re.search(r"[Uu]nnamed", body)
    assert list(measures.main_tables(run.results)) == [""]
    assert {"Local queries", "Global queries"} == set(measures.attribute_tables(run.results))
    assert not run.answers(0).unnamed


def test_a_table_per_scope_has_both_measures_side_by_side(run):
    metrics = found(run)
    tables = measures.main_tables(run.results)
    assert list(tables) == ["Local queries", "Global queries"]
    columns = [
        (name, of, scenario)
        for name, of in (("Unnamed", metrics.unnamed.summary), ("Named", metrics.summary))
        for scenario in ("id", "ood")
    ]
    for title, table in tables.items():
        scope = title.split()[0].lower()
        assert [head.name for head in table.heads] == [f"{n}, {s.upper()}" for n, _, s in columns]
        (line,) = [line for line in table.lines if line.name.short == "DAS"]
        for entry, (_, rows, scenario) in zip(line.entries, columns, strict=True):
            (truth,) = [
                row.interval
                for row in rows
                if (row.method, row.scope, row.scenario, row.attribute)
                == ("das", scope, scenario, "all")
            ]
            assert entry is not None
            assert entry.interval == truth
        assert table.chance == pytest.approx([0.33] * 4)


def test_a_scope_without_unnamed_questions_has_named_columns_alone(run):
    local = tuple(row for row in found(run).unnamed.summary if row.scope == "local")
    rewrite(run, unnamed=PrecisionTable(rows=(), summary=local))
    tables = measures.main_tables(run.results)
    heads = [head.name for head in tables["Global queries"].heads]
    assert heads == ["Named, ID", "Named, OOD"]
    assert len(tables["Local queries"].heads) == 4
    assert write_figures(run.out, run.results)[0].name == PRECISION


def test_attributes_have_a_table_of_each_measure(run):
    tables = measures.attribute_tables(run.results)
    kinds = ["Local queries, unnamed", "Global queries, unnamed"]
    assert list(tables) == [*kinds, "Local queries, named", "Global queries, named"]
    lines = {
        title: tables[title].lines[0].entries[0] for title in (kinds[0], "Local queries, named")
    }
    (unnamed, named) = lines.values()
    assert unnamed is not None
    assert named is not None
    assert unnamed.interval.mean == pytest.approx(named.interval.mean - 0.15)


def test_averages_of_several_models_stand_below_their_methods(tmp_path):
    run = make_run(tmp_path, seeds=(0, 3, 5))
    metrics = found(run)

    def averaged(rows: tuple[PrecisionSummary, ...]) -> PrecisionTable:
        kept = [row for row in rows if row.method in ("trak", MAIN)]
        above = tuple(replace(row, precision=row.precision + 0.01) for row in kept)
        labels = tuple(replace(row, method="labels") for row in above if row.method == MAIN)
        return PrecisionTable(rows=(), summary=(*above, *labels))

    before = measures.main_tables(run.results)
    tables = EnsembleTables(
        named=averaged(metrics.summary), unnamed=averaged(metrics.unnamed.summary)
    )
    rewrite(run, ensemble=tables)
    after = measures.main_tables(run.results)
    for title, table in after.items():
        names = [(line.name.short, line.name.note) for line in table.lines]
        assert [name for name in names if name[1]] == [
            ("Concept-TRAK", "average of 3 models"),
            ("TRAK", "average of 3 models"),
        ]
        for short in ("Concept-TRAK", "TRAK"):
            place = names.index((short, ""))
            assert names[place + 1][0] == short
            own, average = (table.lines[place + step].entries for step in (0, 1))
            for a, b in zip(own, average, strict=True):
                assert a is not None
                assert b is not None
                assert b.interval.mean == pytest.approx(a.interval.mean + 0.01)
        assert table.best == before[title].best, "the best single model"
    assert run.page().count('<tr class="average">') == 4


@pytest.mark.parametrize(
    ("settings", "says", "silent"),
    [
        (
            {"trajectory": {"condition": "null"}},
            "Concept-TRAK reads no labels in this run",
            "a part is ranked",
        ),
        (
            {"trajectory": {"condition": "null"}, "unnamed": {"candidates": 100}},
            "by the candidates, of which a part is ranked unnamed",
            "Unnamed questions are",
        ),
        (
            {"trajectory": {"condition": "unnamed"}},
            "Concept-TRAK reads no label of the attribute asked about",
            "Concept-TRAK reads no labels in this run",
        ),
        (
            {"trajectory": {"condition": "own"}},
            "denoised under the candidates’ conditions in this run (trajectory.condition: own)",
            "reads no labels",
        ),
    ],
)
def test_the_note_says_what_concept_trak_reads(run, settings, says, silent):
    rewrite(run, settings=settings)
    note = text_of(run.page(), r'<section id="precision">(.*?)</section>')
    assert "looking the label up gets 1.00" in note
    assert says in note
    assert silent not in note


def test_attributes_that_are_not_measured_unnamed_are_left_out_and_names_stay_text(tmp_path):
    run = make_run(tmp_path, hostile=True)
    rows = tuple(
        replace(row, attribute=HOSTILE if row.attribute == "shape" else row.attribute)
        for row in found(run).unnamed.summary
        if row.attribute != "color"
    )
    rewrite(run, unnamed=PrecisionTable(rows=(), summary=rows))
    for method in METHODS:
        write_tops(run.out / folder_without(HOSTILE) / "top" / f"{method}.csv", {})
    page = run.page(title=HOSTILE)
    assert measures.conditions_of(run.results).only == (HOSTILE,)
    assert "Unnamed questions are those about &lt;/script&gt;" in page
    outline = Outline(page)
    assert "alert(1)" not in outline.scripts
    assert not [tag for tag, _ in outline.tags if tag == "b"]


def test_the_chart_of_both_measures_is_in_the_page(run):
    run.write()
    page = (run.out / "report" / "index.html").read_text("utf-8")
    charts = [
        a for tag, a in Outline(page).tags if tag == "img" and a.get("class") == "sheet chart"
    ]
    assert len(charts) == 1
    rewrite(run, unnamed=NOTHING)
    run.write()
    page = (run.out / "report" / "index.html").read_text("utf-8")
    assert "sheet chart" not in page
