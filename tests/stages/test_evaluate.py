"""The summary of metrics.json: means over concepts, images and seeds; hidden carriers."""

import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.metrics import Among
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.metrics import HiddenRow, PrecisionRow
from ctrak_jax.run.questions import Question, write_questions
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.evaluate import hidden_rows, summarise, summarise_hidden
from ctrak_jax.store import write_scores


def row(seed: int, query: str, attribute: str, precision: float, **changes) -> PrecisionRow:
    fields = {
        "method": "trak", "scope": "local", "scenario": "ood", "k": 10, "base_rate": 0.5,
        "seed": seed, "query": query, "attribute": attribute, "value": "v", "precision": precision,
    }  # fmt: skip
    return PrecisionRow(**(fields | changes))


def test_the_summary_averages_concepts_then_images_then_seeds():
    rows = [
        row(0, "a", "shape", 1.0), row(0, "a", "color", 0.0), row(0, "b", "shape", 1.0),
        row(1, "a", "shape", 0.2), row(1, "a", "color", 0.2),
    ]  # fmt: skip
    found = {entry.attribute: entry for entry in summarise(rows, 200)}
    assert set(found) == {"all", "shape", "color"}
    # Seed 0: image a has (1 + 0) / 2, image b has 1; seed 1: image a has 0.2.
    assert found["all"].precision == pytest.approx((0.75 + 0.2) / 2)
    assert found["shape"].precision == pytest.approx((1.0 + 0.2) / 2)
    assert found["color"].precision == pytest.approx((0.0 + 0.2) / 2)
    assert [found[name].queries for name in ("all", "shape", "color")] == [3, 3, 2]
    low, high = found["all"].ci95
    assert 0.2 - 1e-9 <= low <= found["all"].precision <= high <= 1.0


def test_the_summary_keeps_methods_scopes_scenarios_and_depths_apart():
    changes = [{}, {"method": "das"}, {"scope": "global"}, {"scenario": "id"}, {"k": 20}]
    rows = [row(0, "a", "shape", n / 10, **change) for n, change in enumerate(changes)]
    found = [entry for entry in summarise(rows, 100) if entry.attribute == "all"]
    assert [entry.precision for entry in found] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert all(entry.queries == 1 for entry in found)


FINDER, LOOKUP, SILENT = "concept-trak", "trak", "unlearning"
"""Whose scores are planted: hidden carriers first; carriers that are named first; no answer."""


@pytest.fixture
def hiding(tmp_path) -> Context:
    """A run in which training hid a colour of 3 in 10, with scores of our own and no model."""
    config = cfg.Config(
        data=cfg.DataConfig(size=200, image_size=8, unlabelled={"color": 0.3}),
        methods=(FINDER, LOOKUP, SILENT),
        references=(),
        evaluate=cfg.EvaluateConfig(k=(10,), hidden_k=25),
    )
    data = build(config.data)
    ctx = Context(
        config=config,
        folder=RunFolder(root=tmp_path),
        seed=7,
        training_set=data,
        dataset=data,
        mesh=local_mesh(1),
    )
    condition = {"shape": "circle", "color": "red"}
    asked = [
        Question(
            query=f"circle-red-local-0{number}",
            condition=condition,
            attribute=attribute,
            minus={},
            scope="local",
            scenario="id",
            split="report" if number else "validation",
            image=f"images/{number}.png",
        )
        for number in range(2)
        for attribute in condition
    ]
    write_questions(ctx.folder.questions, asked)
    red, named = data.carries("color", "red"), data.named("color")
    places = np.linspace(0, 0.5, len(red))
    for method, first in ((FINDER, red & ~named), (LOOKUP, red & named)):
        write_scores(ctx.folder.scores(method), np.tile(first + places, (len(asked), 1)))
    write_scores(ctx.folder.scores(SILENT), np.full((len(asked), len(red)), np.nan))
    return ctx


def test_hidden_carriers_are_those_of_reported_questions_about_what_training_hid(hiding):
    rows = hidden_rows(hiding)
    assert {(r.method, r.query, r.attribute, r.value, r.seed) for r in rows} == {
        (method, "circle-red-local-01", "color", "red", 7) for method in (FINDER, LOOKUP)
    }
    found = {(r.method, r.among, r.k): (r.precision, r.recall) for r in rows}
    assert len(found) == len(rows) == 2 * 3 * 2
    red, named = hiding.dataset.carries("color", "red"), hiding.dataset.named("color")
    hidden = (red & ~named).sum()
    assert 25 <= hidden < (red & named).sum()
    for k in (10, 25):
        assert found[FINDER, "all", k] == found[FINDER, "unnamed", k] == (1.0, k / hidden)
        assert found[LOOKUP, "all", k] == (0.0, 0.0)
        assert found[LOOKUP, "named", k] == (1.0, k / (red & named).sum())
    rates = {r.among: r.base_rate for r in rows}
    expected = {
        "all": (red & ~named).mean(),
        "unnamed": red[~named].mean(),
        "named": red[named].mean(),
    }
    assert rates == pytest.approx(expected)


def test_the_summary_of_hidden_carriers_keeps_apart_what_was_ranked():
    about = {"scope": "local", "scenario": "ood", "attribute": "hair", "value": "red", "k": 50}
    found_at: list[tuple[str, Among, float]] = [
        ("a", "all", 0.2),
        ("b", "all", 0.6),
        ("a", "named", 1.0),
    ]
    rows = [
        HiddenRow(
            **about,
            seed=0,
            method="trak",
            query=query,
            among=among,
            precision=precision,
            recall=precision / 2,
            base_rate=0.1,
        )
        for query, among, precision in found_at
    ]
    found = {(s.among, s.attribute): s for s in summarise_hidden(rows, 200)}
    assert set(found) == {(a, name) for a in ("all", "named") for name in ("all", "hair")}
    share = found["all", "all"]
    assert (share.precision, share.recall, share.queries) == pytest.approx((0.4, 0.2, 2))
    assert share.intervals[0] == (share.precision, *share.precision_ci95)
    assert share.precision_ci95 == pytest.approx((0.2, 0.6))
    assert found["named", "hair"].precision == 1.0
