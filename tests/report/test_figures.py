"""The charts: what they show lies inside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from ctrak_jax.report.figures import write_figures
from ctrak_jax.report.read import results_of
from ctrak_jax.run.metrics import Metrics, PrecisionSummary
from tests.report.made_up import NOTHING, fake_metrics


def narrow(metrics: Metrics) -> Metrics:
    """Of one scope, one scenario and one method's damping."""

    def only(rows: Sequence[PrecisionSummary]) -> tuple[PrecisionSummary, ...]:
        return tuple(row for row in rows if (row.scope, row.scenario) == ("local", "id"))

    first, *_ = metrics.damping
    return replace(
        metrics,
        summary=only(metrics.summary),
        unnamed=replace(metrics.unnamed, summary=only(metrics.unnamed.summary)),
        damping={first: metrics.damping[first]},
    )


@pytest.fixture
def drawn(monkeypatch) -> dict[str, Figure]:
    """The charts that are saved, by name, laid out."""
    found = {}

    def save(figure: Figure, path: Path, **_: object) -> None:
        figure.draw_without_rendering()
        found[path.name] = figure

    monkeypatch.setattr(Figure, "savefig", save)
    return found


@pytest.mark.parametrize("form", ["wide", "narrow", "named"])
def test_legends_are_whole(tmp_path, drawn, form):
    metrics = fake_metrics((0,))
    metrics = metrics if form == "wide" else narrow(metrics)
    metrics = replace(metrics, unnamed=NOTHING) if form == "named" else metrics
    write_figures(tmp_path, results_of(metrics))
    assert {"precision.png", "damping.png", "ablation.png"} <= set(drawn)
    for name, figure in drawn.items():
        (legend,) = figure.legends
        edges, frame = legend.get_window_extent(), figure.bbox
        assert frame.x0 <= edges.x0 < edges.x1 <= frame.x1, name
        assert frame.y0 <= edges.y0 < edges.y1 <= frame.y1, name
        for axes in figure.axes:
            assert axes.get_window_extent().height > frame.height / 5, f"{name}: panels stay large"
