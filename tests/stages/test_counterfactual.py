"""Retraining without the top samples, on rankings whose truth is known: they are planted."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from ctrak_jax import config as cfg
from ctrak_jax import pipeline
from ctrak_jax.data import build, draw_dataset
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.run import model_file
from ctrak_jax.run.dampings import write_dampings
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.questions import read_questions, write_questions
from ctrak_jax.run.retraining import NOTHING, RANDOM, RemovalRow, read_counterfactual
from ctrak_jax.run.tops import write_tops
from ctrak_jax.run.variants import MAIN
from ctrak_jax.stages import query, score, train
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.retrain import counterfactual
from ctrak_jax.store import write_scores
from tests.command import ctrak

TEACHERS, OTHERS, BLIND = "concept-trak", "d-trak", "trak"
"""Whose scores are planted: one ranks the carriers of each concept first, one last, and one has the
same ranking for every concept."""
REMOVED, TRAINED, RANKED = 40, 126, 110
CONFIG = cfg.Config(
    data=cfg.DataConfig(
        size=168, candidates=RANKED, hold_out=({"shape": "triangle", "color": "red"},)
    ),
    run=cfg.RunConfig(devices=1),
    model=cfg.ModelConfig(width=32, depth=2, heads=2),
    train=cfg.TrainConfig(steps=400, batch=32, checkpoint_every=400),
    trajectory=cfg.TrajectoryConfig(steps=10, record_every=2),
    gradient=cfg.GradientConfig(time_chunk=2, batch=16),
    query=cfg.QueryConfig(trajectories=2, per_combination=1, validation=1, check="none"),
    methods=(TEACHERS, OTHERS, BLIND),
    references=(),
    controls=(),
    counterfactual=cfg.CounterfactualConfig(
        remove=REMOVED, images=20, methods=(TEACHERS, OTHERS, BLIND)
    ),
)
COLUMNS = draw_dataset(
    size=168, image_size=16, shapes=("triangle", "circle"), colors=("red", "blue"), seed=0
).attributes


def plant_scores(ctx: Context) -> None:
    """What the score stage leaves, with scores of our own."""
    folder, asked = ctx.folder, ctx.questions()
    carriers = np.stack([ctx.dataset.carries(q.attribute, q.value) for q in asked])
    alike = np.tile(np.arange(RANKED), (len(asked), 1))
    for method, scores in ((TEACHERS, 1.0 * carriers), (OTHERS, -1.0 * carriers), (BLIND, alike)):
        folder.fisher(method).mkdir(parents=True)
        write_scores(folder.scores(method), scores)
        write_tops(folder.top(method), {})
    write_dampings(folder.dampings, {})
    folder.finish("score", score.key(ctx, MAIN))
    assert score.done(ctx, MAIN)


@pytest.fixture(scope="module")
def asked_run(tmp_path_factory) -> Context:
    """A trained model that was asked and ranked for; nothing was trained again yet."""
    (found,) = pipeline.prepare(CONFIG, tmp_path_factory.mktemp("asked"))
    train.run(found)
    query.generate(found)
    plant_scores(found)
    return found


@pytest.fixture(scope="module")
def ctx(asked_run, tmp_path_factory) -> Context:
    """The same once the command has gone through; tests that change it work on a copy."""
    root = tmp_path_factory.mktemp("done") / "out"
    shutil.copytree(asked_run.folder.root, root)
    found = replace(asked_run, folder=RunFolder(root=root))
    counterfactual.run(root, [found])
    return found


@pytest.fixture
def copy(ctx, tmp_path) -> Context:
    shutil.copytree(ctx.folder.root, tmp_path / "out")
    return replace(ctx, folder=RunFolder(root=tmp_path / "out"))


def rows_of(ctx: Context) -> tuple[RemovalRow, ...]:
    return read_counterfactual(ctx.folder.root / "counterfactual.json").rows


def with_settings(ctx: Context, **sections) -> Context:
    """The same run under other settings."""
    return replace(ctx, config=cfg.Config.model_validate(CONFIG.model_dump() | sections))


def carriers(index, row: RemovalRow) -> int:
    return sum(COLUMNS[row.attribute][i] == row.value for i in index)


@pytest.mark.slow
def test_the_first_of_each_ranking_are_left_out(ctx):
    rows, ranked, trained = rows_of(ctx), ctx.dataset.train_index, ctx.training_set.train_index
    assert (len(ranked), len(trained)) == (RANKED, TRAINED)
    questions_asked = [("triangle-red-global", name) for name in ("shape", "color")]
    by = [NOTHING, RANDOM, TEACHERS, OTHERS, BLIND]
    assert sorted((r.query, r.attribute, r.removed_by) for r in rows) == sorted(
        (*question, method) for question in questions_asked for method in by
    )
    for row in rows:
        among = carriers(ranked, row)
        expected = {
            NOTHING: 0,
            TEACHERS: min(REMOVED, among),
            OTHERS: max(0, REMOVED - (RANKED - among)),
            BLIND: carriers(ranked[-REMOVED:], row),
        }
        found = row.carriers_removed
        assert found == expected.get(row.removed_by, found)
        assert found + row.carriers_left == carriers(trained, row)
        assert row.removed == (0 if row.removed_by == NOTHING else REMOVED)


@pytest.mark.slow
def test_the_models_were_trained_without_them(ctx):
    """Also: a ranking that is the same for both concepts costs one training."""
    ranked = ctx.dataset.train_index
    made = {
        folder.name: model_file.about(folder / "model")["made_from"]["data"]
        for folder in (ctx.folder.root / "counterfactual").iterdir()
        if folder.is_dir()
    }
    counts = {m: sum(n.startswith(f"{m}-") for n in made) for m in (*CONFIG.methods, RANDOM)}
    assert counts == {TEACHERS: 2, OTHERS: 2, BLIND: 1, RANDOM: 1}
    last = set(ranked[-REMOVED:])
    kept = np.array([i for i in ctx.training_set.train_index if i not in last])
    expected = replace(ctx.training_set, train_index=kept).fingerprint
    assert [data for name, data in made.items() if name.startswith(f"{BLIND}-")] == [expected]


@pytest.mark.slow
def test_a_model_that_never_saw_the_concepts_loses_them(ctx):
    """The run's images fit worse to models trained without the carriers of a concept than to those
    trained without as many others; mean over both concepts."""

    def rise(by: str) -> float:
        return float(np.mean([row.loss_rise for row in rows_of(ctx) if row.removed_by == by]))

    assert rise(TEACHERS) > max(rise(OTHERS), rise(RANDOM))


def test_random_images_are_ranked_ones_and_others_for_another_seed(asked_run):
    def drawn(seed: int) -> set[int]:
        planned = counterfactual.removals(replace(asked_run, seed=seed))
        (found,) = [r for r in planned if r.by == RANDOM]
        return set(found.index.tolist())

    assert len(drawn(0)) == len(drawn(1)) == REMOVED
    assert drawn(0) != drawn(1)
    assert drawn(0) <= set(asked_run.dataset.train_index.tolist())


HIDING = {"unlabelled": {"color": 0.4}}


@pytest.fixture
def hiding(asked_run, tmp_path) -> Context:
    """The same where training hid a colour of 4 in 10, which alone may be left out."""
    sections = {
        "data": CONFIG.data.model_dump() | HIDING,
        "counterfactual": {
            **CONFIG.counterfactual.model_dump(),
            "among": "unlabelled",
            "remove": 12,
        },
    }
    shutil.copytree(asked_run.folder.root, tmp_path / "out")
    config = with_settings(asked_run, **sections).config
    data = build(config.data)
    ctx = replace(
        asked_run,
        config=config,
        training_set=data,
        dataset=data.subset(RANKED, config.data.seed),
        folder=RunFolder(root=tmp_path / "out"),
    )
    ctx.folder.finish("score", score.key(ctx, MAIN))
    return ctx


def test_among_the_unlabelled_only_they_are_left_out_and_only_what_is_hidden_is_tested(hiding):
    ranked, named = hiding.dataset.train_index, hiding.dataset.named("color")
    red = hiding.dataset.carries("color", "red") & ~named
    assert 12 < red.sum() < (~named).sum() - 12
    planned = counterfactual.removals(hiding)
    assert [removal.by for removal in planned] == [NOTHING, RANDOM, *CONFIG.methods]
    assert {q.attribute for removal in planned for q in removal.asked} == {"color"}
    for removal in planned[1:]:
        assert len(removal.index) == 12
        assert set(removal.index) <= set(ranked[~named])
    by = {removal.by: removal.index.tolist() for removal in planned}
    assert by[TEACHERS] == ranked[red][:12].tolist()
    assert by[OTHERS] == ranked[~named & ~red][:12].tolist()
    assert by[BLIND] == ranked[~named][-12:].tolist()


def test_of_two_hidden_attributes_each_has_images_at_random_of_its_own(hiding):
    data = replace(hiding.dataset, hidden={**hiding.dataset.hidden, "shape": hidden_shapes(hiding)})
    both = replace(hiding, dataset=data)
    both.folder.finish("score", score.key(both, MAIN))
    drawn = [r for r in counterfactual.removals(both) if r.by == RANDOM]
    assert [{q.attribute for q in removal.asked} for removal in drawn] == [{"shape"}, {"color"}]
    for removal in drawn:
        able = ~data.named(removal.asked[0].attribute)
        assert set(removal.index) <= set(data.train_index[able])


def hidden_shapes(ctx: Context) -> np.ndarray:
    """The images of an even index."""
    return np.arange(len(ctx.dataset.raw.images)) % 2 == 0


def test_more_than_are_unlabelled_cannot_be_left_out(hiding):
    able = (~hiding.dataset.named("color")).sum()
    settings = {**hiding.config.counterfactual.model_dump(), "remove": int(able)}
    config = cfg.Config.model_validate(hiding.config.model_dump() | {"counterfactual": settings})
    with pytest.raises(UsageError, match=f"than the {able} training images that are ranked and do"):
        counterfactual.removals(replace(hiding, config=config))


def test_presence_is_the_share_of_images_that_show_the_concept(asked_run):
    """Of drawn images, whose values are known."""
    checked = with_settings(asked_run, query={**CONFIG.query.model_dump(), "check": "shapes"})
    asked = asked_run.questions()[0]
    images = checked.dataset.raw.images[:50]
    share = np.mean([value == asked.value for value in COLUMNS[asked.attribute][:50]])
    assert counterfactual.presence(checked, images, asked) == pytest.approx(share)
    assert counterfactual.presence(asked_run, images, asked) is None


@pytest.mark.slow
def test_a_second_run_makes_nothing_anew(copy):
    before = {
        path: path.stat().st_mtime_ns for path in copy.folder.root.rglob("*") if path.is_file()
    }
    counterfactual.run(copy.folder.root, [copy])
    assert {p: p.stat().st_mtime_ns for p in copy.folder.root.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_models_that_are_there_are_measured_again_in_batches_of_any_size(copy):
    rows = rows_of(copy)
    other = with_settings(copy, gradient={**CONFIG.gradient.model_dump(), "batch": 7})
    other.folder.finish("score", score.key(other, MAIN))
    again = counterfactual.run(copy.folder.root, [other]).rows
    for one, two in zip(rows, again, strict=True):
        assert replace(two, loss_rise=0.0) == replace(one, loss_rise=0.0)
        assert two.loss_rise == pytest.approx(one.loss_rise, rel=1e-3, abs=1e-6)
    logs = list((copy.folder.root / "counterfactual").rglob("log.jsonl"))
    assert [len(log.read_text().splitlines()) for log in logs] == [1] * 6


@pytest.mark.slow
def test_a_damaged_model_is_named_with_what_to_do(copy):
    (folder,) = (copy.folder.root / "counterfactual").glob(f"{RANDOM}-*")
    (folder / "model" / "model.json").write_text("{")
    (copy.folder.root / "counterfactual.json").unlink()
    with pytest.raises(StoreError, match="run `ctrak counterfactual` again") as refused:
        counterfactual.run(copy.folder.root, [copy])
    assert f"delete {folder}" in str(refused.value)
    assert "ctrak train" not in str(refused.value)


@pytest.mark.slow
def test_the_command_prints_what_is_written_and_draws(ctx):
    done = ctrak("counterfactual", ctx.folder.root, "--json")
    assert done.returncode == 0, done.stderr
    assert [RemovalRow(**row) for row in json.loads(done.stdout)["rows"]] == list(rows_of(ctx))
    sheets = sorted((ctx.folder.root / "counterfactual").glob("*.png"))
    assert [s.stem for s in sheets] == ["triangle-red-global-color", "triangle-red-global-shape"]


LOCAL = {**CONFIG.query.model_dump(), "scopes": ["local"]}
IN_AND_OUT = {"scenarios": ["id", "ood"]}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"counterfactual": {"remove": RANKED}}, f"must be less than the {RANKED} training"),
        (
            {"counterfactual": {"methods": ["das"]}},
            "use some of ['concept-trak', 'd-trak', 'trak']",
        ),
        ({"methods": ["unlearning"]}, "add concept-trak to methods"),
        ({"score": {"keep_all": False}}, "score.keep_all=false keeps the first ones"),
        ({"query": LOCAL}, "query.scopes=['local']; add global"),
        ({"model": {"checkpoint": "a.safetensors"}}, "model.checkpoint=a.safetensors does not"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_trained(asked_run, sections, message):
    with pytest.raises(UsageError) as refused:
        counterfactual.run(asked_run.folder.root, [with_settings(asked_run, **sections)])
    assert message in str(refused.value)
    assert not (asked_run.folder.root / "counterfactual").exists()


def test_a_scenario_without_a_question_is_refused(asked_run, tmp_path):
    shutil.copytree(asked_run.folder.root, tmp_path / "out")
    known = [q for q in read_questions(tmp_path / "out/queries/queries.csv") if q.scenario == "id"]
    write_questions(tmp_path / "out" / "queries" / "queries.csv", known)
    fewer = replace(asked_run, folder=RunFolder(root=tmp_path / "out"))
    fewer.folder.finish("score", score.key(fewer, MAIN))
    with pytest.raises(UsageError, match=r"no global question of \['ood'\]"):
        counterfactual.run(fewer.folder.root, [fewer])


def test_rankings_of_other_settings_are_refused(asked_run):
    with pytest.raises(StoreError, match="run `ctrak score` first"):
        counterfactual.run(asked_run.folder.root, [with_settings(asked_run, projection={"k": 64})])


def test_the_settings_of_the_command_leave_scores_and_metrics_as_they_are(asked_run):
    other = with_settings(asked_run, counterfactual={"remove": 3})
    assert score.done(other, MAIN)


def test_an_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'concept-trak'"):
        cfg.Config(counterfactual=cfg.CounterfactualConfig(methods=("concept-trk",)))
