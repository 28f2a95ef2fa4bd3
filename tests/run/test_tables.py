"""Rankings, dampings, metrics, counterfactuals: what is written comes back, damage is named."""

import json
from dataclasses import replace

import pytest

from ctrak_jax.errors import StoreError
from ctrak_jax.run.dampings import Damping, DampingPoint, read_dampings, write_dampings
from ctrak_jax.run.metrics import (
    DampingCurve,
    HiddenRow,
    HiddenSummary,
    HiddenTable,
    LabelShiftRow,
    LabelShiftSummary,
    LabelShiftTable,
    Metrics,
    PrecisionRow,
    PrecisionSummary,
    PrecisionTable,
    read_metrics,
    write_metrics,
)
from ctrak_jax.run.retraining import (
    NOTHING,
    LdsDifference,
    LdsRow,
    LdsSummary,
    LdsTable,
    QuestionOutputs,
    RemovalRow,
    RemovalTable,
    SubsetOutputs,
    read_counterfactual,
    read_lds,
    read_outputs,
    write_counterfactual,
    write_lds,
    write_outputs,
)
from ctrak_jax.run.tops import Hit, read_tops, write_tops

ABOUT = {"method": "das", "scope": "local", "scenario": "id"}
ASKED = {**ABOUT, "seed": 0, "query": "q", "attribute": "color", "value": "red"}
POINT = DampingPoint(r=0.1, split="report", scope="local", scenario="id", precision=0.5)
ROW = PrecisionRow(**ASKED, k=10, precision=0.7, base_rate=0.3)
SUMMARY = PrecisionSummary(
    **ABOUT, attribute="all", k=10, precision=0.7, ci95=(0.6, 0.8), queries=3, base_rate=0.3
)
METRICS = Metrics(
    rows=(ROW,),
    summary=(SUMMARY,),
    unnamed=PrecisionTable(rows=(ROW,), summary=(SUMMARY,)),
    damping={"das": DampingCurve(chosen={"0/color": 0.1}, curve=(POINT,))},
    controls={
        "no-condition-embedding": PrecisionTable(rows=(ROW,), summary=(SUMMARY,)),
        "wrong-label": LabelShiftTable(
            rows=(LabelShiftRow(**ASKED, picture_only=0.9, label_only=0.2),),
            summary=(
                LabelShiftSummary(
                    **ABOUT,
                    picture_only=0.9,
                    picture_only_ci95=(0.8, 1.0),
                    label_only=0.2,
                    label_only_ci95=(0.1, 0.3),
                    queries=3,
                ),
            ),
        ),
    },
    settings={"evaluate": {"k": [10]}},
)


def test_rankings_come_back_best_first_and_by_question(tmp_path):
    tops = {("q", "a"): [Hit(7, 2.0), Hit(3, 1.5)], ("q", "b"): [Hit(9, 1e-7)]}
    write_tops(tmp_path / "top" / "m.csv", tops)
    assert read_tops(tmp_path / "top" / "m.csv") == tops


def test_the_order_of_a_ranking_is_that_of_its_ranks(tmp_path):
    rows = "q,10,1,0,a\nq,2,3,1,a\nq,1,7,2,a\n"
    (tmp_path / "m.csv").write_text(f"query,rank,index,score,attribute\n{rows}")
    assert [hit.index for hit in read_tops(tmp_path / "m.csv")["q", "a"]] == [7, 3, 1]


@pytest.mark.parametrize(
    "content",
    [
        b"query,rank\nq,1\n",
        b"query,rank,index,score,attribute\nq,1,x,2,a\n",
        b"query,rank,index,score,attribute\nq,1,3,2\n",
        b"query,rank,index,score,attribute\nq,1,3,2,a",
        b"query,rank,index,score,attribute\n\xff,1,3,2,a\n",
        b"query,rank,index,score,attribute\nq,1,3,nan,a\n",
    ],
    ids=["columns missing", "no number", "short", "cut off", "not text", "not finite"],
)
def test_damaged_rankings_are_named(tmp_path, content):
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"m\.csv is damaged.*run `ctrak score`"):
        read_tops(path)


def test_dampings_come_back_and_hold_for_their_attribute(tmp_path):
    one = Damping(chosen=0.1, curve=(POINT,))
    several = replace(one, by_attribute={"color": 1.0})
    write_dampings(tmp_path / "damping.json", {"das": one, "trak": several})
    assert read_dampings(tmp_path / "damping.json") == {"das": one, "trak": several}
    assert [several.of(name) for name in ("color", "shape", None)] == [1.0, 0.1, 0.1]
    assert one.of("color") == 0.1


def test_metrics_come_back(tmp_path):
    write_metrics(tmp_path / "metrics.json", METRICS)
    assert read_metrics(tmp_path / "metrics.json") == METRICS
    assert METRICS.summary[0].interval == (0.7, 0.6, 0.8)


def test_what_is_found_of_hidden_carriers_comes_back(tmp_path):
    row = HiddenRow(**ASKED, among="all", k=50, precision=0.4, recall=0.2, base_rate=0.1)
    summary = HiddenSummary(
        **ABOUT,
        attribute="all",
        among="all",
        k=50,
        precision=0.4,
        precision_ci95=(0.3, 0.5),
        recall=0.2,
        recall_ci95=(0.1, 0.3),
        queries=3,
        base_rate=0.1,
    )
    hiding = replace(METRICS, hidden=HiddenTable(k=50, rows=(row,), summary=(summary,)))
    write_metrics(tmp_path / "metrics.json", hiding)
    assert read_metrics(tmp_path / "metrics.json") == hiding
    assert summary.intervals == ((0.4, 0.3, 0.5), (0.2, 0.1, 0.3))


def test_metrics_are_named_as_others_rely_on(tmp_path):
    write_metrics(tmp_path / "metrics.json", METRICS)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert list(found) == ["rows", "summary", "unnamed", "damping", "controls", "settings"]
    (row,) = found["summary"]
    names = "method scope scenario k attribute precision ci95 queries base_rate"
    assert list(row) == names.split()
    names = "seed method scope scenario query attribute value k precision base_rate"
    assert found["rows"][0].keys() == set(names.split())


def test_counterfactuals_come_back(tmp_path):
    row = RemovalRow(
        **{name: value for name, value in ASKED.items() if name != "method"},
        removed_by=NOTHING,
        removed=0,
        carriers_removed=0,
        carriers_left=4,
        presence=None,
        loss_rise=0.5,
    )
    table = RemovalTable(rows=(row,), settings={"name": "small"})
    write_counterfactual(tmp_path / "counterfactual.json", table)
    assert read_counterfactual(tmp_path / "counterfactual.json") == table


def test_retrained_models_come_back(tmp_path):
    outputs = tuple(
        QuestionOutputs(query="q", attribute=name, loss=-1 / 3, concept=-0.1, presence=share)
        for name, share in (("color", None), ("shape", 0.5))
    )
    model = SubsetOutputs(made_from={"model": "m"}, subset=(3, 5), outputs=outputs)
    write_outputs(tmp_path / "outputs.json", model)
    assert read_outputs(tmp_path / "outputs.json") == model
    where = {**ABOUT, "condition": "named", "output": "loss"}
    intervals = {"ci95_queries": (0.1, 0.2), "ci95_subsets": (0.0, 0.3), "queries": 2}
    asked = {"seed": 0, "query": "q", "attribute": "color", "value": "red"}
    table = LdsTable(
        summary=(LdsSummary(**where, lds=0.15, subsets=4, **intervals),),
        differences=(LdsDifference(**where, rival="trak", difference=0.15, **intervals),),
        rows=(LdsRow(**where, **asked, lds=0.15),),
        subsets=((3, 5), (5, 8)),
        settings={"lds": {"subsets": 2}},
    )
    write_lds(tmp_path / "lds.json", table)
    assert read_lds(tmp_path / "lds.json") == table


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda found: found.pop("summary"), "summary: Field required"),
        (lambda found: found["summary"][0].update(precision="x"), "summary.0.precision: "),
        (lambda found: found["damping"]["das"]["curve"][0].update(r=0), "greater than 0"),
    ],
    ids=["a key is missing", "no number", "a damping that is not positive"],
)
def test_damaged_metrics_are_named_with_their_place(tmp_path, change, fault):
    path = tmp_path / "metrics.json"
    write_metrics(path, METRICS)
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(StoreError) as caught:
        read_metrics(path)
    assert f"{path} is damaged (" in str(caught.value)
    assert fault in str(caught.value)
    assert "run `ctrak evaluate` again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "command"),
    [
        (read_tops, "score"),
        (read_dampings, "score"),
        (read_metrics, "evaluate"),
        (read_counterfactual, "counterfactual"),
    ],
)
def test_a_missing_table_is_named_with_the_command(tmp_path, read, command):
    with pytest.raises(StoreError, match=f"none is missing; run `ctrak {command}` first"):
        read(tmp_path / "none")
