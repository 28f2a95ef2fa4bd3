"""Rows of metrics.json: hidden carriers."""

import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.questions import Question, write_questions
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.evaluate import hidden_rows
from ctrak_jax.store import write_scores

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
        assert found[FINDER, "all", k] == found[FINDER, "unlabelled", k] == (1.0, k / hidden)
        assert found[LOOKUP, "all", k] == (0.0, 0.0)
        assert found[LOOKUP, "labelled", k] == (1.0, k / (red & named).sum())
    rates = {r.among: r.base_rate for r in rows}
    expected = {
        "all": (red & ~named).mean(),
        "unlabelled": red[~named].mean(),
        "labelled": red[named].mean(),
    }
    assert rates == pytest.approx(expected)
