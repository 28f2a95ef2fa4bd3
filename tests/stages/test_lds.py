"""Retraining on random subsets, on models whose outputs are known: sums over what they saw."""

import json
import shutil
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from ctrak_jax import config as cfg
from ctrak_jax import hosts, pipeline
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.report import labels
from ctrak_jax.run import model_file
from ctrak_jax.run.dampings import write_dampings
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.questions import Question, write_questions
from ctrak_jax.run.retraining import LdsTable, QuestionOutputs, read_lds
from ctrak_jax.run.tops import write_tops
from ctrak_jax.run.variants import MAIN, Variant, unnamed
from ctrak_jax.stages import query, score, train
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.retrain import lds, summary
from ctrak_jax.store import write_scores
from tests.command import ctrak

MODELS, TRAINED, RANKED = 6, 45, 30
CONFIG = cfg.Config(
    data=cfg.DataConfig(
        size=60, candidates=RANKED, hold_out=({"shape": "triangle", "color": "red"},)
    ),
    run=cfg.RunConfig(devices=1),
    model=cfg.ModelConfig(width=16, depth=1, heads=2),
    train=cfg.TrainConfig(steps=20, batch=8, scan=10, checkpoint_every=10),
    trajectory=cfg.TrajectoryConfig(steps=4, record_every=1),
    gradient=cfg.GradientConfig(time_chunk=1, batch=16),
    query=cfg.QueryConfig(check="none"),
    evaluate=cfg.EvaluateConfig(bootstrap=100),
    methods=("concept-trak", "d-trak", "unlearning"),
    references=(),
    controls=(),
    lds=cfg.LdsConfig(subsets=MODELS),
)
COMBINATIONS = (("triangle", "red", "ood"), ("triangle", "blue", "id"), ("circle", "red", "id"))


def question(shape: str, color: str, scenario, scope, name: str, attribute: str) -> Question:
    return Question(
        query=f"{shape}-{color}-{name}",
        condition={"shape": shape, "color": color},
        attribute=attribute,
        minus={},
        scope=scope,
        scenario=scenario,
        split="validation" if name.startswith("v") else "report",
        image=f"images/{shape}-{color}-{name}.png",
    )


QUESTIONS = [
    question(*combination, "global" if name == "global" else "local", name, attribute)
    for combination in COMBINATIONS
    for name in ("v00", "00", "01", "global")
    for attribute in ("shape", "color")
]


def truth(index: np.ndarray, row: int, which: int) -> np.ndarray:
    """How much every image of the data set weighs in an output of a question."""
    return np.random.default_rng((row, which)).normal(size=60)[index]


def plant_scores(ctx: Context, planted: dict[str, np.ndarray], variant: Variant = MAIN) -> None:
    """What the score stage leaves, with scores of our own."""
    folder = ctx.folder.part(variant.folder)
    for method, scores in planted.items():
        folder.fisher(method).mkdir(parents=True)
        write_scores(folder.scores(method), scores)
        write_tops(folder.top(method), {})
    write_dampings(folder.dampings, {})
    folder.finish("score", score.key(ctx, variant))


def plant(ctx: Context) -> None:
    """An untrained model, questions and scores: Concept-TRAK's are the truth of the concept, those
    of D-TRAK of the loss; unlearning answers no global question."""
    training, folder = train.training_of(ctx), ctx.folder
    about = train.described(training.architecture, training.data)
    model_file.save(training.folder, ctx.architecture.create(0), about, training.made_from)
    (folder.queries / "images").mkdir(parents=True)
    for q in QUESTIONS:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder.queries / q.image)
    write_questions(folder.questions, QUESTIONS)
    index, rows = ctx.dataset.train_index, range(len(QUESTIONS))
    planted = {
        method: np.stack([truth(index, row, which) for row in rows])
        for method, which in (("concept-trak", 1), ("d-trak", 0), ("unlearning", 2))
    }
    if "reward" in ctx.config.methods:
        planted["reward"] = planted["concept-trak"]
    planted["unlearning"][[q.scope == "global" for q in QUESTIONS]] = np.nan
    plant_scores(ctx, planted)
    for variant in unnamed(ctx.config):  # nothing named: only D-TRAK's scores tell anything
        rows = ctx.question_rows(variant)
        blind = np.random.default_rng(7).normal(size=(len(rows), RANKED))
        scores = dict.fromkeys(ctx.config.methods, blind) | {"d-trak": planted["d-trak"][rows]}
        plant_scores(ctx, scores, variant)


class Model(NamedTuple):
    """Stands for a model: the images it was trained on, and from which seed."""

    images: np.ndarray
    seed: int


class Measured:
    """Measures such models: an output is the sum of the weights of the images trained on, with
    noise of the subset and question, whose sign is another for the run's seed than for others."""

    noise = 0.0

    def __init__(self, ctx: Context) -> None:
        self._rows = lds.asked_of(ctx)

    def __call__(self, model: Model):
        index = model.images
        for row in self._rows:
            drawn = np.random.default_rng((row, *index.tolist())).normal()
            accident = self.noise * drawn * (1 if model.seed == CONFIG.run.seeds[0] else -1)
            yield QuestionOutputs(
                query=QUESTIONS[row].query,
                attribute=QUESTIONS[row].attribute,
                loss=float(truth(index, row, 0).sum() + accident),
                concept=float(truth(index, row, 1).sum() + accident),
                presence=None,
            )


class Trainings:
    """Counts the trainings; ``stop_after`` of them it is killed."""

    def __init__(self) -> None:
        self.done: list[Path] = []
        self.seen: list[np.ndarray] = []
        self.seeds: list[int] = []
        self.stop_after: int | None = None

    def __call__(self, again, program, command: str) -> Model:
        if len(self.done) == self.stop_after:
            raise KeyboardInterrupt
        self.done.append(again.folder.parent)
        self.seen.append(again.data.train_index)
        self.seeds.append(again.seed)
        again.folder.mkdir(parents=True)
        return Model(again.data.train_index, again.seed)


@pytest.fixture
def models(monkeypatch) -> Trainings:
    found = Trainings()
    monkeypatch.setattr(lds, "trained", found)
    monkeypatch.setattr(lds, "_OutputMeasure", Measured)
    return found


@pytest.fixture
def trainings(models, monkeypatch) -> Trainings:
    """The same without pictures, which take longer than all the rest."""
    monkeypatch.setattr(summary, "_draw", lambda *_: None)
    return models


@pytest.fixture
def ctx(tmp_path) -> Context:
    (found,) = pipeline.prepare(CONFIG, tmp_path / "out")
    plant(found)
    return found


def run(ctx: Context, *part: int) -> LdsTable | None:
    return lds.run(ctx.folder.root, [ctx], lds.CommandPart(*part))


def with_settings(ctx: Context, **sections) -> Context:
    """The same run under other settings."""
    return replace(ctx, config=cfg.Config.model_validate(CONFIG.model_dump() | sections))


def reached(
    table: LdsTable, method: str, output: str, condition: str = "named"
) -> dict[tuple[str, str], float]:
    return {
        (row.scope, row.scenario): row.lds
        for row in table.summary
        if (row.method, row.output, row.condition) == (method, output, condition)
    }


def test_scores_that_are_the_truth_predict_every_model(ctx, trainings):
    table = run(ctx)
    assert table is not None
    groups = {("local", "id"), ("local", "ood"), ("global", "id"), ("global", "ood")}
    for method, output in (("concept-trak", "concept"), ("d-trak", "loss")):
        found = reached(table, method, output)
        assert set(found) == groups
        np.testing.assert_allclose(list(found.values()), 1.0)
    assert abs(np.mean(list(reached(table, "d-trak", "concept").values()))) < 0.9
    assert len(trainings.done) == MODELS


def test_every_method_and_reference_has_its_rows(ctx, trainings):
    table = run(ctx)
    assert table is not None
    everyone = {*CONFIG.methods, "carriers", "random"}
    assert {row.method for row in table.summary} == everyone
    assert {row.output for row in table.summary} == {"loss", "concept"}
    named = [row for row in table.summary if row.condition == "named"]
    assert {row.scope for row in named if row.method == "unlearning"} == {"local"}
    without = {row.method for row in table.summary if row.condition == "unnamed"}
    assert without == set(CONFIG.methods)
    assert {row.rival for row in table.differences} == everyone - {labels.MAIN}
    counts = {(row.scope, row.scenario): row.queries for row in table.summary}
    assert counts[("local", "id")] == 4  # images, each asked about twice
    assert counts[("global", "ood")] == 1
    assert {row.subsets for row in table.summary} == {MODELS}
    assert not [row for row in table.rows if "-v0" in row.query]


def test_a_reward_does_not_predict_the_slider_s_concept(tmp_path, trainings):
    """Though its scores are the truth of it here."""
    file = tmp_path / "mine.py"
    file.write_text("def light(image):\n    return image.mean()\n")
    asked = CONFIG.query.model_dump() | {"reward": f"python:{file}:light"}
    config = cfg.Config.model_validate(CONFIG.model_dump() | {"query": asked})
    (own,) = pipeline.prepare(config, tmp_path / "out")
    plant(own)
    table = run(own)
    assert table is not None
    assert {row.output for row in table.summary if row.method == "reward"} == {"loss"}
    assert {row.output for row in table.differences if row.rival == "reward"} == {"loss"}
    assert {row.output for row in table.summary if row.method == "unlearning"} == {
        *("loss", "concept")
    }


def test_differences_are_those_of_the_means(ctx, trainings):
    table = run(ctx)
    assert table is not None
    mine = reached(table, "concept-trak", "concept")
    for row in table.differences:
        if (row.rival, row.output, row.condition) == ("d-trak", "concept", "named"):
            group = (row.scope, row.scenario)
            expected = mine[group] - reached(table, "d-trak", "concept")[group]
            assert row.difference == pytest.approx(expected)


def test_unnamed_scores_predict_the_same_models(ctx, trainings):
    table = run(ctx)
    assert table is not None
    found = list(reached(table, "d-trak", "loss", "unnamed").values())
    np.testing.assert_allclose(found, 1.0)
    assert np.mean(list(reached(table, "concept-trak", "concept", "unnamed").values())) < 0.8
    rivals = {row.rival for row in table.differences if row.condition == "unnamed"}
    assert rivals == {"d-trak", "unlearning"}


def test_training_seeds_are_pooled(tmp_path, trainings):
    config = cfg.Config.model_validate(
        CONFIG.model_dump() | {"run": {"seeds": [0, 1], "devices": 1}}
    )
    contexts = pipeline.prepare(config, tmp_path / "out")
    for one in contexts:
        plant(one)
    table = lds.run(tmp_path / "out", contexts)
    assert table is not None
    assert len(trainings.done) == 2 * MODELS
    assert {row.seed for row in table.rows} == {0, 1}
    np.testing.assert_allclose(list(reached(table, "concept-trak", "concept").values()), 1.0)
    assert {(r.queries, r.scenario) for r in table.summary if r.scope == "local"} == {
        (8, "id"),
        (4, "ood"),
    }
    assert len(table.subsets) == MODELS


def test_part_of_the_candidates_unnamed_predicts_nothing(ctx, trainings):
    fewer = with_settings(ctx, unnamed={"candidates": RANKED - 1})
    fewer.folder.finish("score", score.key(fewer, MAIN))
    table = run(fewer)
    ctx.folder.finish("score", score.key(ctx, MAIN))
    assert table is not None
    assert {row.condition for row in table.summary} == {"named"}


def test_the_models_saw_their_part_and_every_image_that_is_no_candidate(ctx, trainings):
    table = run(ctx)
    assert table is not None
    everyone, ranked = set(ctx.training_set.train_index), set(ctx.dataset.train_index)
    assert len(everyone) > len(ranked)
    for index, subset in zip(trainings.seen, table.subsets, strict=True):
        assert set(index) == (everyone - ranked) | set(subset)
        assert set(subset) <= ranked
        assert len(subset) == RANKED // 2


def test_subsets_are_as_many_as_asked_and_more_keep_the_first_ones():
    few, many = (lds.subsets(np.arange(100, 140), n, 0.5, 3) for n in (2, 5))
    for one, two in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, two)
    assert len({tuple(subset) for subset in many}) == 5
    other = lds.subsets(np.arange(100, 140), 2, 0.5, 4)
    assert not np.array_equal(few[0], other[0])


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_empty_or_whole_subset_is_refused(share):
    with pytest.raises(UsageError, match="expected at least one and not all"):
        lds.subsets(np.arange(10), 3, share, 0)


def test_it_resumes_between_two_retrainings(ctx, trainings):
    trainings.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(ctx)
    assert not (ctx.folder.root / "lds.json").exists()
    first, trainings.done, trainings.stop_after = trainings.done, [], None
    table = run(ctx)
    assert len(first) == 2
    assert len(trainings.done) == MODELS - 2
    assert not set(first) & set(trainings.done)
    trainings.done = []
    assert run(ctx) == table
    assert not trainings.done


def test_parts_together_are_the_whole(ctx, trainings, tmp_path):
    whole = run(ctx)
    (apart,) = pipeline.prepare(CONFIG, tmp_path / "apart")
    plant(apart)
    counts = []
    for number in (2, 1, 3):
        trainings.done = []
        last = run(apart, number, 3)
        counts.append(len(trainings.done))
        assert (last is None) == (number != 3)
    assert counts == [2, 2, 2]
    assert last == whole == read_lds(apart.folder.root / "lds.json")


def test_processes_share_the_retrainings_and_the_first_sums_them_up(ctx, trainings, monkeypatch):
    """Process 1 does its share while process 0 waits where both have looked what is missing."""
    me, found = [0], []

    def barrier(name: str) -> None:
        if me == [0] and name == "lds asked":
            me[0] = 1
            found.append(run(ctx))
            me[0] = 0

    monkeypatch.setattr(hosts, "barrier", barrier)
    monkeypatch.setattr(hosts, "share", lambda items: items[me[0] :: 2])
    monkeypatch.setattr(hosts, "is_first", lambda: me == [0])
    table = run(ctx)
    assert found == [None]
    assert table is not None
    assert len(table.subsets) == MODELS
    assert [folder.name[-1] for folder in trainings.done] == list("135024")


def test_more_models_use_those_that_are_there(ctx, trainings):
    run(ctx)
    trainings.done = []
    table = run(with_settings(ctx, lds={"subsets": MODELS + 2}))
    assert table is not None
    assert [folder.name for folder in trainings.done] == ["subset-006", "subset-007"]
    assert len(table.subsets) == MODELS + 2


def test_further_trainings_have_seeds_and_folders_of_their_own(ctx, trainings):
    run(with_settings(ctx, lds={"subsets": 3, "trainings": 3}))
    first, second, third = (set(trainings.seeds[i : i + 3]) for i in (0, 3, 6))
    assert first == {ctx.seed}
    assert len(second) == len(third) == 1
    assert len(first | second | third) == 3
    assert lds.training_seed(1, 1) not in second
    subsets = [{tuple(index) for index in trainings.seen[i : i + 3]} for i in (0, 3, 6)]
    assert subsets[0] == subsets[1] == subsets[2]
    assert len(set(trainings.done)) == 9
    root = ctx.folder.root / "lds"
    files = {str(file.relative_to(root)) for file in root.rglob("outputs.json")}
    assert {"subset-002/outputs.json", "subset-002/again-1/outputs.json"} <= files
    assert len(files) == 9


def test_outputs_are_averaged_over_trainings(ctx, trainings, monkeypatch):
    """Noise that is opposite in two trainings hides the truth from one and cancels in their mean;
    what is there of the first training is kept."""
    monkeypatch.setattr(Measured, "noise", 100.0)
    once = run(ctx)
    assert once is not None
    assert np.mean(list(reached(once, "concept-trak", "concept").values())) < 0.9
    trainings.done = []
    twice = run(with_settings(ctx, lds={"subsets": MODELS, "trainings": 2}))
    assert twice is not None
    assert {folder.name for folder in trainings.done} == {"again-1"}
    assert len(trainings.done) == MODELS
    np.testing.assert_allclose(list(reached(twice, "concept-trak", "concept").values()), 1.0)
    assert (once.trainings, twice.trainings) == (1, 2)
    # What one training gives is the opposite of what the other does.
    assert max(reached(twice, summary.AGAIN, "concept").values()) < 0
    assert set(reached(twice, summary.BOUND, "concept").values()) == {0.0}
    assert not reached(once, summary.AGAIN, "concept")
    assert not reached(once, summary.BOUND, "concept")
    assert once.subsets == twice.subsets
    trainings.done = []
    assert run(ctx) == once
    assert not trainings.done


def test_trainings_that_are_alike_are_wholly_reliable(ctx, trainings):
    table = run(with_settings(ctx, lds={"subsets": MODELS, "trainings": 3}))
    assert table is not None
    for name, output in product((summary.AGAIN, summary.BOUND), ("loss", "concept")):
        found = reached(table, name, output)
        assert found.keys() == reached(table, "d-trak", output).keys()
        np.testing.assert_allclose(list(found.values()), 1.0)
    assert {row.value for row in table.rows if row.method == summary.AGAIN}
    assert not {summary.AGAIN, summary.BOUND} & {row.rival for row in table.differences}


def test_it_resumes_between_two_trainings_of_a_part(ctx, trainings):
    again = with_settings(ctx, lds={"subsets": 3, "trainings": 2})
    trainings.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        run(again)
    first, trainings.done, trainings.stop_after = trainings.done, [], None
    assert run(again) is not None
    assert [folder.name for folder in first] == [
        "subset-000",
        "subset-001",
        "subset-002",
        "again-1",
    ]
    assert len(trainings.done) == 2
    assert not set(first) & set(trainings.done)


def test_parts_take_training_by_training(ctx, trainings):
    again = with_settings(ctx, lds={"subsets": 3, "trainings": 2})
    assert run(again, 2, 4) is None
    assert [str(f.relative_to(ctx.folder.root / "lds")) for f in trainings.done] == [
        "subset-001",
        "subset-002/again-1",
    ]
    trainings.done = []
    assert run(again) is not None
    assert len(trainings.done) == 4


@pytest.mark.parametrize("kept", [False, True])
def test_models_are_kept_only_where_asked(ctx, trainings, kept):
    run(with_settings(ctx, lds={"subsets": MODELS, "keep_models": kept}))
    there = [(folder / "model").exists() for folder in trainings.done]
    assert there == [kept] * MODELS


@pytest.mark.parametrize(
    ("sections", "field"),
    [({"seed": 5}, "training"), ({"images": 3}, "lds.images"), ({"members": 1}, "lds.members")],
)
def test_outputs_of_other_settings_are_refused_before_a_model_is_trained(
    ctx, trainings, sections, field
):
    run(ctx)
    trainings.done = []
    other = with_settings(ctx, lds={"subsets": MODELS + 1, **sections})
    with pytest.raises(StoreError, match=f"{field} differ.*delete .*lds to retrain"):
        run(other)
    assert not trainings.done


def test_damaged_outputs_are_named(ctx, trainings):
    run(ctx)
    file = ctx.folder.root / "lds" / "subset-001" / "outputs.json"
    file.write_text(file.read_text()[:100])
    (ctx.folder.root / "lds.json").unlink()
    with pytest.raises(StoreError, match=r"outputs\.json is damaged .* run `ctrak lds` again"):
        run(ctx)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"score": {"keep_all": False}}, "lds needs every score, score.keep_all=false"),
        ({"model": {"checkpoint": "a.safetensors"}}, "lds trains the run's model again"),
        ({"lds": {"share": 0.001}}, "lds.share=0.001 of 30 candidates"),
    ],
)
def test_what_cannot_be_asked_is_refused(ctx, trainings, sections, message):
    with pytest.raises(UsageError) as refused:
        run(with_settings(ctx, **sections))
    assert message in str(refused.value)
    assert not trainings.done


def test_rankings_of_other_settings_are_refused(ctx, trainings):
    with pytest.raises(StoreError, match="run `ctrak score` first"):
        run(with_settings(ctx, projection={"k": 64}))


def test_fewer_questions_go_round_the_combinations(ctx):
    asked = [QUESTIONS[row] for row in lds.asked_of(with_settings(ctx, lds={"questions": 2}))]
    local = [q.query for q in asked if (q.scope, q.scenario) == ("local", "id")]
    assert sorted(set(local)) == ["circle-red-00", "triangle-blue-00"]
    assert all(local.count(query) == 2 for query in local)
    ood = {q.query for q in asked if (q.scope, q.scenario) == ("local", "ood")}
    assert ood == {"triangle-red-00", "triangle-red-01"}
    assert len(lds.asked_of(ctx)) == sum(q.split == "report" for q in QUESTIONS)


def test_tables_and_pictures_are_written(ctx, models):
    run(ctx)
    root = ctx.folder.root
    text = (root / "lds.md").read_text()
    assert "| concept-trak | 1.00 [" in text
    assert "Presence is not measured" in text
    names = {path.name for path in (root / "lds").glob("scatter-*.png")}
    assert "scatter-triangle-red-00-shape.png" in names
    assert len(names) == 4
    found = json.loads((root / "lds.json").read_text())
    assert {"summary", "differences", "subsets", "settings", "rows"} <= set(found)
    assert {"lds", "ci95_queries", "ci95_subsets"} <= set(found["summary"][0])


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Context:
    """A trained run that was asked, with two models of each of three random halves, which are
    kept."""
    settings = CONFIG.model_dump() | {
        "lds": {"subsets": 3, "trainings": 2, "members": 2, "keep_models": True},
        "query": {"check": "none", "per_combination": 1, "validation": 1},
    }
    (ctx,) = pipeline.prepare(
        cfg.Config.model_validate(settings), tmp_path_factory.mktemp("real") / "out"
    )
    train.run(ctx)
    query.generate(ctx)
    shape = (len(ctx.questions()), RANKED)
    values = np.random.default_rng(0).normal(size=(3, *shape))
    for variant in (MAIN, *unnamed(ctx.config)):
        rows = ctx.question_rows(variant)
        plant_scores(ctx, dict(zip(CONFIG.methods, values[:, rows], strict=True)), variant)
    lds.run(ctx.folder.root, [ctx])
    return ctx


def outputs(ctx: Context) -> dict[tuple[str, str], np.ndarray]:
    """loss and concept of every question [model, output]."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for one in chain(*lds.Retrainings(ctx).all()):
        for row in one.outputs:
            found.setdefault((row.query, row.attribute), []).append((row.loss, row.concept))
    return {key: np.array(values) for key, values in found.items()}


@pytest.mark.slow
def test_real_models_differ_and_are_measured_alike_in_batches_of_any_size(real, tmp_path):
    before = outputs(real)
    assert set(before) == {q.key for q in real.questions() if q.split == "report"}
    for values in before.values():
        assert values.shape == (6, 2)
        assert (values < 0).all()
        assert len(np.unique(values[:, 0])) == len(np.unique(values[:, 1])) == 6
    root = tmp_path / "out"
    shutil.copytree(real.folder.root, root)
    for file in root.glob("lds/**/outputs.json"):
        file.unlink()
    gradient = real.config.gradient.model_copy(update={"batch": 3})
    config = real.config.model_copy(update={"gradient": gradient})
    again = replace(real, folder=RunFolder(root=root), config=config)
    for variant in (MAIN, *unnamed(config)):
        again.folder.part(variant.folder).finish("score", score.key(again, variant))
    lds.run(root, [again])
    for key, values in outputs(again).items():
        np.testing.assert_allclose(values, before[key], rtol=1e-4)
    logs = [log.read_text().splitlines() for log in root.glob("lds/**/log.jsonl")]
    assert [len(lines) for lines in logs] == [1] * 6  # measured again, not trained again


@pytest.mark.slow
def test_presence_is_measured_where_there_is_a_rule(real):
    """A model whose pictures show nothing."""
    config = real.config.query.model_copy(update={"check": "shapes"})
    checked = replace(real, config=real.config.model_copy(update={"query": config}))
    measured = list(lds._OutputMeasure(checked)(checked.load().params))
    assert {one.presence for one in measured} == {0.0}
    assert {one.presence for one in lds._OutputMeasure(real)(real.load().params)} == {None}


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_part_that_is_none_is_refused(part, tmp_path):
    (tmp_path / "c.yaml").write_text("name: a\n")
    done = ctrak("lds", tmp_path / "c.yaml", f"--part={part}", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"--part {part}: expected I/N" in done.stderr
