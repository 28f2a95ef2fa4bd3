"""The measured table of a run as text."""

from dataclasses import replace
from typing import get_args

import pytest

from ctrak_jax.metrics import Among
from ctrak_jax.run.metrics import HiddenSummary, HiddenTable, write_metrics
from ctrak_jax.terminal.summary import table
from tests.report.made_up import fake_metrics


@pytest.fixture
def metrics():
    return replace(fake_metrics([0]), settings={"evaluate": {"k": [10]}})


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
