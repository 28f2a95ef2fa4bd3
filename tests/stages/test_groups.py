"""Influence of groups on the questions of a run, with scores of our own."""

import csv
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax.data import build
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.fisher import Block
from ctrak_jax.methods import store_of
from ctrak_jax.report.groups import write_groups
from ctrak_jax.report.groups.picture import write_picture
from ctrak_jax.run.dampings import Damping, write_dampings
from ctrak_jax.run.features import in_memory, solve
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.questions import Question, Scope, Split, write_questions
from ctrak_jax.run.variants import MAIN, Variant, unnamed
from ctrak_jax.score import Ranking, standardised
from ctrak_jax.stages import ensemble, score
from ctrak_jax.stages.ask import groups
from ctrak_jax.stages.ask.attribute import AttributedAnswer
from ctrak_jax.stages.ask.question import Answering, Asking, SolvedRanking
from ctrak_jax.stages.context import Context
from ctrak_jax.store import FeatureStore, Place, write_scores
from ctrak_jax.terminal.groups import groups_table


def question(
    query: str, attribute: str, *, scope: Scope = "local", split: Split = "report"
) -> Question:
    return Question(
        query=query,
        condition={"shape": "circle", "color": "red"},
        attribute=attribute,
        minus={},
        scope=scope,
        scenario="id",
        split=split,
        image="q.png",
    )


ASKED = [
    question("one", "color"),
    question("one", "shape"),
    question("two", "color"),
    question("v", "color", split="validation"),
    question("global", "color", scope="global"),
]


@pytest.fixture
def scored(tmp_path) -> Context:
    """A run that kept its scores, which count as those of its settings."""
    config = cfg.Config(
        data=cfg.DataConfig(size=120, image_size=8), methods=("trak", "d-trak"), references=()
    )
    data = build(config.data)
    ctx = Context(
        config=config,
        folder=RunFolder(root=tmp_path),
        seed=0,
        training_set=data,
        dataset=data.subset(90, 0),
        mesh=local_mesh(1),
    )
    write_questions(ctx.folder.questions, ASKED)
    scores = np.random.default_rng(0).normal(1, 3, (len(ASKED), 90)).astype(np.float32)
    write_scores(ctx.folder.scores("trak"), scores)
    write_scores(ctx.folder.scores("d-trak"), np.full((len(ASKED), 90), np.nan))
    return ctx


def test_sums_are_those_of_the_kept_scores_question_by_question_and_of_their_mean(scored):
    table = groups.influence_of_groups(scored, "color", [0, 1, 2], "trak", 10)
    kept = score.read_scores(scored.folder.scores("trak"))[:3].astype(float)
    values = np.array(scored.dataset.raw.attributes["color"])[scored.dataset.train_index]
    assert table.samples == 90
    assert len(table.rows) == 4 * 2
    by_key = {(q.query, q.attribute): row for q, row in zip(ASKED, kept, strict=False)}
    by_key["all", "all"] = kept.mean(0)
    for row in table.rows:
        scores, members = by_key[row.query, row.attribute], values == row.group
        assert row.total == pytest.approx(scores[members].sum(), rel=1e-6)
        assert row.mean == pytest.approx(scores[members].mean(), rel=1e-6)
        top = np.argsort(-scores, kind="stable")
        assert row.share == pytest.approx(members[top[:10]].mean())
        assert row.base_rate == members.mean()
        first = scored.dataset.train_index[top[members[top]][:8]]
        assert [hit.index for hit in row.first] == first.tolist()
    assert [row.query for row in table.overview] == ["all", "all"]
    totals = [row.total for row in table.overview]
    assert totals == sorted(totals, reverse=True)


def test_blocks_of_any_size_give_the_same(scored, monkeypatch):
    whole = groups.influence_of_groups(scored, "color", [0, 2], "trak", 10)
    monkeypatch.setattr(groups, "CELLS", 21)
    pieces = groups.influence_of_groups(scored, "color", [0, 2], "trak", 10)
    for one, other in zip(whole.rows, pieces.rows, strict=True):
        assert one.total == pytest.approx(other.total, rel=1e-9)
        assert one.first == other.first
        assert one.share == other.share


def test_all_that_is_written_says_the_same(scored, tmp_path):
    table = groups.influence_of_groups(scored, "shape", [2], "trak", 10)
    assert len(table.rows) == 2
    files = write_groups(tmp_path / "out", table)
    found = json.loads(files[0].read_text())
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    for row, plain, line in zip(table.rows, found["rows"], rows, strict=True):
        assert plain["total"] == row.total
        assert tuple(plain["total_ci95"]) == row.total_ci95
        assert float(line["total"]) == pytest.approx(row.total)
        assert row.mean_ci95 is not None
        assert float(line["mean_high"]) == pytest.approx(row.mean_ci95[1])
        assert line["first"].split() == [str(hit.index) for hit in row.first]
    text = groups_table(table)
    assert "two, color: red" in text
    assert all(row.group in text for row in table.rows)
    picture = write_picture(tmp_path / "groups.png", table, scored.dataset.raw.images)
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 200


def test_which_questions_are_meant():
    assert groups.chosen_rows(ASKED, (), None, "local") == [0, 1, 2]
    assert groups.chosen_rows(ASKED, (), "color", "local") == [0, 2]
    assert groups.chosen_rows(ASKED, (), None, "global") == [4]
    assert groups.chosen_rows(ASKED, ("v", "one"), "color", "local") == [0, 3]
    with pytest.raises(UsageError, match=r"--query 'three' is no image of the run; it has one"):
        groups.chosen_rows(ASKED, ("three",), None, "local")
    with pytest.raises(UsageError, match=r"--concept style.*\['color', 'shape'\]"):
        groups.chosen_rows(ASKED, (), "style", "local")


@pytest.mark.parametrize(
    ("by", "method", "top", "words"),
    [
        ("artist", "trak", 10, "'artist' is no column"),
        ("color", "das", 10, "'das' is none of the run's"),
        ("color", "trak", 91, "--top 91 must be between 1 and the 90"),
        ("color", "d-trak", 10, "does not answer every question"),
    ],
)
def test_what_cannot_be_asked_is_refused(scored, by, method, top, words):
    with pytest.raises(UsageError, match=words):
        groups.influence_of_groups(scored, by, [0], method, top)


def test_more_groups_than_memory_holds_are_refused(scored, monkeypatch):
    monkeypatch.setattr(groups, "MEMORY", 100)
    with pytest.raises(UsageError, match="--by has 2 values"):
        groups.summed(
            iter([Block(range(0), np.zeros((1, 0)))]), 1, scored.dataset.grouped("color"), 1
        )


def test_the_report_sums_the_mean_of_a_scenario_and_of_every_concept(scored):
    config = scored.config.model_copy(update={"report": cfg.ReportConfig(groups=("color",))})
    (found,) = groups.reported(replace(scored, config=config), averaged=False)
    assert (found.scope, found.scenario) == ("local", "id")
    assert list(found.concepts) == ["color: red", "shape: circle"]
    for table, rows in zip(found.tables, ([0, 1, 2], [0, 2], [1]), strict=True):
        assert table.k == 90
        whole = groups.influence_of_groups(scored, "color", rows, "trak", 90)
        assert table.rows == whole.overview
    assert groups.reported(scored, averaged=False) == []


def test_sums_of_averages_are_above_or_below_the_mean_image(scored, tmp_path):
    """Averaged scores are standardised: all groups of a question add up to 0."""
    ctx = ensemble.context_of(tmp_path, [scored])
    assert ctx.folder.root == tmp_path / "ensemble"
    write_questions(ctx.folder.questions, ASKED)
    kept = score.read_scores(scored.folder.scores("trak"))
    write_scores(ctx.folder.scores("trak"), np.asarray(standardised(kept)))
    table = groups.influence_of_groups(ctx, "color", [0, 2], "trak", 10)
    values = np.array(scored.dataset.raw.attributes["color"])[scored.dataset.train_index]
    for name in ("one", "two"):
        of = {row.group: row.total for row in table.rows if row.query == name}
        own = kept[[q.query for q in ASKED].index(name)].astype(float)
        red = ((own - own.mean()) / own.std())[values == "red"].sum()
        assert of["red"] == pytest.approx(red, abs=1e-4)
        assert of["red"] + of["blue"] == pytest.approx(0, abs=1e-4)


DAMPINGS = {"shape": 10.0, "color": 0.5}
WIDTH = 32


def store(place: Place, rows: int, rng: np.random.Generator, *, errors: bool) -> None:
    """Features that are written in chunks smaller than the data set."""
    widths = {"features": WIDTH} | ({"errors": 4} if errors else {})
    made = FeatureStore.create(place, {}, index=np.arange(rows), widths=widths, chunk=32)
    for part in made.chunks:
        drawn = {name: rng.normal(0.2, 1, (len(part), n)) for name, n in widths.items()}
        drawn["features"] *= 1 + np.arange(WIDTH)
        made.write(part, {name: np.abs(x) if name == "errors" else x for name, x in drawn.items()})
    made.seal()


@pytest.fixture
def featurized(scored, monkeypatch) -> Context:
    """A run that kept features and no scores: of Concept-TRAK without each attribute, too."""
    ctx = replace(
        scored,
        config=cfg.Config(
            data=scored.config.data,
            methods=("concept-trak", "das"),
            references=(),
            controls=(),
            score=cfg.ScoreConfig(keep_all=False),
        ),
    )
    rng, answered = np.random.default_rng(1), [MAIN, *unnamed(ctx.config)]
    for variant in answered:
        place = ctx.folder.part(variant.folder).features("concept-trak")
        store(place, 90, rng, errors=False)
    store(ctx.folder.features(store_of("das")), 90, rng, errors=True)
    for method in ctx.config.methods:
        store(ctx.folder.query_features(method), len(ASKED), rng, errors=False)
    damping = Damping(chosen=2.0, by_attribute=DAMPINGS, curve=())
    write_dampings(ctx.folder.dampings, dict.fromkeys(ctx.config.methods, damping))
    monkeypatch.setattr(Context, "feature_key", lambda *_: {})
    monkeypatch.setattr(Context, "query_key", lambda *_: {})
    return ctx


def by_numpy(ctx: Context, method: str, row: int) -> np.ndarray:
    """Equations (5.10) and (6.1) in float64 for one question."""
    asked = ASKED[row]
    parts = {v.without: v for v in unnamed(ctx.config)} if method == "concept-trak" else {}
    query = FeatureStore.open(ctx.folder.query_features(method), {}).read()[row]
    variant = parts.get(asked.attribute, MAIN)
    return scores_of(ctx, method, query, DAMPINGS[asked.attribute], variant)


def scores_of(
    ctx: Context, method: str, query: np.ndarray, damping: float, variant: Variant = MAIN
) -> np.ndarray:
    """The same for a query's feature."""
    place = ctx.folder.part(variant.folder).features(store_of(method))
    found = FeatureStore.open(place, {})
    phi = found.read().astype(float)
    gram = phi.T @ phi
    lam = 0.1 * damping * np.trace(gram) / WIDTH
    scores = phi @ np.linalg.solve(gram + lam * np.eye(WIDTH), query.astype(float))
    return scores * found.read("errors").sum(1) if method == "das" else scores


@pytest.mark.parametrize("method", ["concept-trak", "das"])
def test_sums_from_features_are_those_of_the_scores(featurized, method):
    """Each question at its attribute's damping, by the features that answer it."""
    rows = [0, 1, 2]
    table = groups.influence_of_groups(featurized, "color", rows, method, 10)
    values = np.array(featurized.dataset.raw.attributes["color"])[featurized.dataset.train_index]
    scores = {ASKED[row].key: by_numpy(featurized, method, row) for row in rows}
    scores["all", "all"] = np.mean(list(scores.values()), axis=0)
    assert len(table.rows) == 4 * 2
    for row in table.rows:
        found, members = scores[row.query, row.attribute], values == row.group
        size = np.abs(found[members]).sum()
        assert row.total == pytest.approx(found[members].sum(), abs=1e-6 * size)
        best = np.argsort(-found, kind="stable")
        assert row.share == pytest.approx(members[best[:10]].mean())
        first = featurized.dataset.train_index[best[members[best]][:8]]
        assert [hit.index for hit in row.first] == first.tolist()


def test_scores_that_were_not_kept_need_features(featurized):
    config = featurized.config.model_copy(update={"references": ("labels",)})
    ctx = replace(featurized, config=config)
    with pytest.raises(UsageError, match="'labels' has no features, and the run keeps no scores"):
        groups.influence_of_groups(ctx, "color", [0], "labels", 10)


@pytest.mark.parametrize("compared", [False, True])
def test_a_question_of_ones_own_sums_the_scores_behind_its_answer(featurized, compared):
    """Of several concepts first their mean; of a reference the scores that it compared by."""
    phi = np.random.default_rng(3).normal(size=(2, WIDTH)).astype(np.float32)
    scores = np.stack([scores_of(featurized, "das", query, 0.5) for query in phi])
    features = in_memory(score.load_features(featurized, MAIN, "das"))
    nothing = Ranking(np.zeros((2, 10), np.int32), np.zeros((2, 10), np.float32))
    solved = SolvedRanking(features, solve(features, phi, [0.5]), nothing)
    asking = Asking(np.zeros((8, 8, 3), np.uint8), np.zeros(4), {"red": None, "color": "red"}, [])
    given: dict[str, Any] = {"found": {}, "asking": asking, "how": Answering("das", 10)}
    given |= {"denoiser": None, "solved": None if compared else solved}
    answer = AttributedAnswer(**given, compared=scores if compared else None)
    table = groups.influence_on_own(featurized, "color", "q.png", answer)
    assert [q.key for q in table.questions] == [("q.png", "red"), ("q.png", "color")]
    values = np.array(featurized.dataset.raw.attributes["color"])[featurized.dataset.train_index]
    wanted = {("q.png", "red"): scores[0], ("q.png", "color"): scores[1]}
    wanted["all", "all"] = scores.mean(0)
    for row in table.rows:
        found, members = wanted[row.query, row.attribute], values == row.group
        size = np.abs(found[members]).sum()
        assert row.total == pytest.approx(found[members].sum(), abs=1e-6 * size)
        top = np.argsort(-found, kind="stable")[:10]
        assert row.share == pytest.approx(members[top].mean())
