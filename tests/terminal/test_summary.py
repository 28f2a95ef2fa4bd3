"""The measured table of a run as text."""

import json
from dataclasses import replace
from typing import get_args

import pytest

from ctrak_jax.metrics import Among
from ctrak_jax.run.metrics import EnsembleTables, HiddenSummary, HiddenTable, write_metrics
from ctrak_jax.terminal.summary import read, table
from tests.report.made_up import DROP, NOTHING, SKILL, fake_metrics


@pytest.fixture
def metrics():
    return replace(fake_metrics([0]), settings={"evaluate": {"k": [10]}})


def cells_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line[:1] in ("│", "┃")]
    marks = str.maketrans("┃", "│")
    return [[cell.strip() for cell in line.translate(marks)[1:-1].split("│")] for line in lines]


def test_both_measures_stand_side_by_side_in_the_width_of_a_terminal(metrics, tmp_path):
    write_metrics(tmp_path / "metrics.json", metrics)
    text = table(tmp_path)
    assert max(map(len, text.partition("report: ")[0].splitlines())) <= 110
    local, _, rest = text.partition("global queries")
    assert "precision@10, local queries" in local
    rows = {name: cells for name, *cells in cells_of(local)}
    assert rows["method"] == ["unnamed ID", "unnamed OOD", "named ID", "named OOD"]
    skill = SKILL["d-trak"]
    truth = [skill + 0.1 - DROP, skill - DROP, skill + 0.1, skill]
    assert [cell.split()[0] for cell in rows["d-trak"]] == [f"{mean:.2f}" for mean in truth]
    assert {name for name, *_ in cells_of(rest.partition("control")[0])} == {
        "method",
        "concept-trak",
        *("das", "d-trak", "trak"),
    }


def test_a_program_reads_both_measures_of_every_row(metrics, tmp_path):
    path = tmp_path / "metrics.json"
    unnamed = metrics.unnamed.summary
    less = replace(metrics.unnamed, summary=unnamed[1:])
    write_metrics(path, replace(metrics, unnamed=less))
    found = json.loads(json.dumps(read(tmp_path)))
    kept = [{key: value for key, value in row.items() if key != "unnamed"} for row in found]
    assert kept == json.loads(path.read_text())["summary"], "the keys of before, as they were"
    at = [[row[key] for key in ("method", "scope", "scenario", "k", "attribute")] for row in found]
    for key, row in zip(at, found, strict=True):
        same = [u for u in unnamed if [u.method, u.scope, u.scenario, u.k, u.attribute] == key]
        wanted = [u.precision for u in same if u is not unnamed[0]]
        assert wanted == ([row["unnamed"]["precision"]] if row["unnamed"] else [])
    assert sum(row["unnamed"] is not None for row in found) == len(unnamed) - 1


def test_without_unnamed_precision_scopes_stand_side_by_side(metrics, tmp_path):
    write_metrics(tmp_path / "metrics.json", replace(metrics, unnamed=NOTHING))
    first = table(tmp_path).partition("control")[0]
    assert cells_of(first)[0] == ["method", "local ID", "local OOD", "global ID", "global OOD"]
    assert "unnamed" not in first


def test_the_average_of_models_stands_below_its_method(tmp_path):
    metrics = replace(fake_metrics([0, 1]), settings={"evaluate": {"k": [10]}})
    trak = tuple(
        replace(row, precision=0.25) for row in metrics.summary if row.method in ("trak", "labels")
    )
    named = replace(NOTHING, summary=trak)
    path = tmp_path / "metrics.json"
    write_metrics(path, replace(metrics, ensemble=EnsembleTables(named=named, unnamed=NOTHING)))
    lines = cells_of(table(tmp_path).partition("global queries")[0])
    place = [name for name, *_ in lines].index("trak")
    name, *numbers = lines[place + 1]
    assert name == "average of 2"
    assert [number.split()[0] for number in numbers] == ["-", "-", "0.25", "0.25"]
    assert sum(name == "average of 2" for name, *_ in lines) == 1


def test_hidden_carriers_have_lines_where_training_hid_them(metrics, tmp_path):
    def row(method: str, among: Among, k: int, attribute: str, share: float) -> HiddenSummary:
        return HiddenSummary(
            method=method,
            scope="local",
            scenario="ood",
            among=among,
            k=k,
            attribute=attribute,
            precision=share,
            precision_ci95=(0.25, 0.75),
            recall=0.5,
            recall_ci95=(0.5, 0.5),
            queries=3,
            base_rate=0.125,
        )

    rows = [
        row(method, among, k, name, share if (among, k, name) == ("all", 50, "all") else 0.99)
        for method, share in (("labels", 0.0), ("concept-trak", 0.4))
        for among in get_args(Among)
        for k in (10, 50)
        for name in ("all", "color")
    ]
    path = tmp_path / "metrics.json"
    write_metrics(path, metrics)
    assert "hidden carriers" not in table(tmp_path)
    hidden = HiddenTable(k=50, rows=(), summary=tuple(rows))
    write_metrics(path, replace(metrics, hidden=hidden))
    _, _, shown = table(tmp_path).partition("hidden carriers: share of the top 50")
    lines = [line for line in shown.splitlines() if line.startswith("│")][:3]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [
        ["concept-trak", "0.40 [0.25, 0.75]"],
        ["labels", "0.00 [0.25, 0.75]"],
        ["chance", "0.12"],
    ]


def test_the_wrong_label_control_of_a_run_that_holds_nothing_out(metrics, tmp_path):
    """Its questions are in distribution."""
    control = metrics.controls["wrong-label"]
    inside = control.summary
    outside = tuple(replace(row, scenario="ood") for row in inside)
    for rows, shown in (((*inside, *outside), "local OOD"), (inside, "local ID")):
        changed = {"wrong-label": replace(control, summary=rows)}
        write_metrics(tmp_path / "metrics.json", replace(metrics, controls=changed))
        _, _, text = table(tmp_path).partition(f"control: wrong-label, {shown}, rank")
        assert {name for name, *_ in cells_of(text)} > {"concept-trak"}
