"""The linear datamodeling scores where people read them: page, text table and Markdown."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ctrak_jax.report.figures import write_scatter
from ctrak_jax.report.page import write_page
from ctrak_jax.report.read import results_of
from ctrak_jax.run.metrics import read_metrics
from ctrak_jax.run.retraining import LdsDifference, LdsSummary, LdsTable
from ctrak_jax.terminal.lds import lds_markdown, lds_table
from tests.report.made_up import FakeRun, make_run


def summary(method: str, lds: float, condition: str = "named", **about: str) -> LdsSummary:
    where = {"output": "concept", "scope": "local", "scenario": "ood", **about}
    return LdsSummary(
        method=method,
        condition=condition,
        **where,
        lds=lds,
        ci95_queries=(lds - 0.01, lds + 0.01),
        ci95_subsets=(lds - 0.2, lds + 0.2),
        subsets=40,
        queries=8,
    )


TABLE = LdsTable(
    summary=(
        summary("trak", 0.11),
        summary("concept-trak", 0.51),
        summary("carriers", 0.41),
        summary("concept-trak", 0.33, "unnamed"),
        summary("trak", -0.12, output="loss"),
        summary("concept-trak", 0.62, output="loss", scope="global"),
    ),
    differences=(
        LdsDifference(
            method="concept-trak",
            rival="trak",
            condition="named",
            output="concept",
            scope="local",
            scenario="ood",
            difference=0.4,
            ci95_queries=(0.3, 0.5),
            ci95_subsets=(0.1, 0.7),
            queries=8,
        ),
    ),
    rows=(),
    subsets=((1, 2),) * 40,
    settings={"lds": {"share": 0.5}},
)


def rows_of(text: str) -> list[list[str]]:
    marks = str.maketrans("│┃", "||")
    lines = [line.translate(marks).strip("|") for line in text.splitlines()]
    return [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line]


def test_the_text_table_has_a_line_per_method_and_condition():
    concept, loss = lds_table(TABLE).split("LDS, ")[1:]
    assert rows_of(concept)[1:] == [
        ["concept-trak", "0.51 [0.31, 0.71]"],
        ["trak", "0.11 [-0.09, 0.31]"],
        ["carriers", "0.41 [0.21, 0.61]"],
        ["concept-trak (unnamed)", "0.33 [0.13, 0.53]"],
    ]
    assert rows_of(loss) == [
        ["method", "local OOD", "global OOD"],
        ["concept-trak", "-", "0.62 [0.42, 0.82]"],
        ["trak", "-0.12 [-0.32, 0.08]", "-"],
    ]
    assert "40 models" in concept


def test_the_markdown_has_both_intervals_and_the_differences():
    text = lds_markdown(TABLE)
    assert "| concept-trak | 0.51 [0.50, 0.52] [0.31, 0.71] |" in text
    assert "| trak | +0.40 [0.30, 0.50] [0.10, 0.70] |" in text
    assert "40 models" in text
    assert "a share of 0.5" in text
    assert "Presence is not measured" in text


def test_several_trainings_are_said():
    rows = (summary("best-possible", 0.71), summary("trained-again", 0.25))
    several = replace(TABLE, trainings=3, summary=(*TABLE.summary, *rows))
    names = [row[0] for row in rows_of(lds_table(several).split("LDS, ")[1])]
    assert names[-3:] == ["trained-again", "best-possible", "concept-trak (unnamed)"]
    assert "the reliability r of one training" in lds_table(several)
    assert "the reliability r of one training" in lds_markdown(several)
    assert "the reliability r of one training" not in lds_table(TABLE) + lds_markdown(TABLE)
    assert "120 models, 3 per subset" in " ".join(lds_table(several).split())
    assert "120 models, 3 per subset" in lds_markdown(several)
    assert "what its models give on average" in lds_markdown(several)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("lds"))


def page(run: FakeRun, table: LdsTable | None, *pictures) -> str:
    path, *_ = write_page(
        run.out / "index.html",
        title="LDS",
        results=results_of(read_metrics(run.out / "metrics.json")),
        seeds=[run.answers(0)],
        images=run.images,
        attributes=run.attributes,
        run=run.out,
        lds=table,
        scatters=pictures,
    )
    return path.read_text("utf-8")


def test_the_page_has_a_section_where_models_were_retrained(run, tmp_path):
    picture = tmp_path / "scatter.png"
    Image.new("RGB", (3, 3)).save(picture)
    section = page(run, TABLE, picture).split('<section id="lds">')[1].split("</section>")[0]
    assert "40 models" in section
    assert section.index("Loss of the concept") > 0
    assert base64.b64encode(picture.read_bytes()).decode() in section
    assert section.count("<table") == 3
    assert "unnamed" in section
    concept, loss = section.split("<h3>")[1:]
    assert "minus" not in loss
    differences = concept.split("Concept-TRAK’s LDS minus")[1]
    assert re.findall(r"[+-]\d\.\d\d", differences) == ["+0.40", "+0.10", "+0.70"]
    assert re.findall(r"<th scope=row>(\w+)", differences) == ["TRAK"]
    assert "Presence is not measured" in section
    assert "Best possible" not in section
    assert '<section id="lds">' not in page(run, None)
    several = replace(TABLE, trainings=2, summary=(*TABLE.summary, summary("best-possible", 0.7)))
    assert page(run, several).count("Best possible") == 2


def test_a_scatter_has_a_panel_per_output_and_method_that_answers(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 9))

    def size(predicted: dict, measured: dict) -> tuple[int, int]:
        write_scatter(tmp_path / "a.png", "which?", predicted, measured)
        with Image.open(tmp_path / "a.png") as picture:
            return picture.size

    one = size({("trak", "named"): values[0]}, {"loss": values[3]})
    silent = {("trak", "named"): values[0], ("das", "named"): np.full(9, np.nan)}
    assert size(silent, {"loss": values[3]}) == one
    wider = size(
        {("trak", "named"): values[0], ("trak", "unnamed"): values[1]}, {"loss": values[3]}
    )
    taller = size({("trak", "named"): values[0]}, {"loss": values[3], "concept": values[2]})
    assert wider[0] > one[0]
    assert wider[1] == one[1]
    assert taller[1] > one[1]
