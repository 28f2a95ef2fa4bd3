"""The whole command line on a run small enough to repeat: results, resumption, invariance."""

import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ctrak_jax import open_run
from ctrak_jax.attribution import TrainBatch, train_features
from ctrak_jax.config import load
from ctrak_jax.data import draw_dataset
from ctrak_jax.methods import METHODS as METHODS_BY_NAME
from ctrak_jax.pipeline import prepare
from ctrak_jax.report.explanation.arrays import read_explanation
from ctrak_jax.report.explanation.maps import read_maps
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.metrics import read_metrics
from ctrak_jax.run.questions import read_questions
from ctrak_jax.run.tops import read_tops
from ctrak_jax.run.variants import unnamed
from ctrak_jax.store import FeatureStore, read_manifest, read_scores
from tests.command import command, ctrak, ctrak_here, environment

CONFIG = """
name: Small run
data: {size: 60, hold_out: [{shape: triangle, color: red}]}
model: {width: 16, depth: 1, heads: 2}
train: {steps: 40, batch: 16, scan: 10, checkpoint_every: 20}
trajectory: {steps: 10, record_every: 2}
gradient: {time_chunk: 2, batch: 16}
projection: {k: 64}
store: {chunk: 16}
query: {trajectories: 2, per_combination: 1, validation: 1, repetitions: 1, check: none}
score: {damping: [1.0, 100.0], top: 20}
evaluate: {bootstrap: 100}
methods: [concept-trak, d-trak, das]
controls: [wrong-label]
unnamed: {attributes: [color]}
"""
METHODS = ("concept-trak", "d-trak", "das")
REFERENCES = ("labels", "random", "similarity-pixels")


def features(root: Path, method: str) -> np.ndarray:
    return open_run(root).features(method).read()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(f"{CONFIG}run: {{devices: 1}}\n")
    done = ctrak("run", folder / "small.yaml", "--out", folder / "out", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert {row["method"] for row in summary} == {*METHODS, *REFERENCES}
    return folder / "out"


@pytest.fixture
def copy(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "out")
    return tmp_path / "out"


def test_every_promised_file_is_there(run):
    expected = ["config.yaml", "model/model.json", "metrics.json", "report/index.html", "log.jsonl"]
    expected += [f"features/{m}/manifest.json" for m in METHODS]
    expected += [f"queries/{m}/queries.csv" for m in METHODS]
    expected += [f"top/{m}.csv" for m in (*METHODS, *REFERENCES)]
    expected += [f"scores/{m}.zarr/zarr.json" for m in (*METHODS, *REFERENCES)]
    assert [name for name in expected if not (run / name).exists()] == []
    stages = [json.loads(line)["stage"] for line in (run / "log.jsonl").read_text().splitlines()]
    order = ["train", "featurize", "query images", "query", "score", "evaluate", "report"]
    assert [s for s in stages if s in order] == order


def test_metrics_agree_with_the_top_lists(run):
    """precision@10 recomputed here from the CSV and the attributes of the drawn data."""
    raw = draw_dataset(
        size=60, image_size=16, shapes=("triangle", "circle"), colors=("red", "blue"), seed=0
    )
    rows = read_metrics(run / "metrics.json").rows
    both_scopes = (*METHODS, "labels", "random")
    assert len(rows) == len(both_scopes) * 4 * 2 * 2 + 4 * 2
    assert all(row.precision == 1 for row in rows if row.method == "labels")
    for row in rows:
        tops = read_tops(run / "top" / f"{row.method}.csv")
        top = [hit.index for hit in tops[row.query, row.attribute]]
        hits = [raw.attributes[row.attribute][i] == row.value for i in top[:10]]
        assert row.precision == pytest.approx(np.mean(hits))
        held_out = row.query.startswith("triangle-red")
        assert (row.scenario == "ood") == held_out
        assert not any(
            raw.attributes["shape"][i] == "triangle" and raw.attributes["color"][i] == "red"
            for i in top
        )


def test_unnamed_precision_is_that_of_candidates_that_do_not_name_the_attribute(run):
    """Questions about colour alone; features are those of the plain call of the library with the
    colour's coordinates zero; precision recomputed from the lists."""
    found = read_metrics(run / "metrics.json").unnamed
    both_scopes = (*METHODS, "labels", "random")
    assert len(found.rows) == len(both_scopes) * 4 * 2 + 4
    ctx = prepare(load(run / "config.yaml"), run)[0]
    (variant,) = unnamed(ctx.config)
    store, index = ctx.features("d-trak", variant), ctx.samples(variant).indices
    color = np.array(ctx.dataset.raw.attributes["color"])
    for row in found.rows:
        tops = read_tops(run / "unnamed" / "color" / "top" / f"{row.method}.csv")
        top = [hit.index for hit in tops[row.query, "color"]]
        assert set(top) <= set(index)
        assert row.precision == pytest.approx(np.mean(color[top[:10]] == row.value))
        assert row.base_rate == pytest.approx(np.mean(color[index] == row.value))
    rows = np.searchsorted(ctx.dataset.train_index, index)
    cond = ctx.dataset.train_conditions[rows] * [1, 1, 0, 0]
    x0 = ctx.dataset.train_images(rows)
    network, weights, _ = ctx.placed(ctx.load())
    spec = METHODS_BY_NAME["d-trak"].train
    assert spec is not None
    batch = TrainBatch(x0, cond, index)
    plain = train_features(ctx.recipe, network, weights, [spec], batch).features[:, 0]
    assert np.linalg.norm(store.read() - plain) <= 1e-4 * np.linalg.norm(plain)


def test_concept_trak_answers_for_an_attribute_without_it(run):
    """Of colour the main rankings, scores and damping are those without it; of shape they are of
    the features under the null condition."""
    asked = read_questions(run / "queries" / "queries.csv")
    main, part = (read_tops(run / at / "top" / "concept-trak.csv") for at in (".", "unnamed/color"))
    scores, without = (
        read_scores(run / at / "scores" / "concept-trak.zarr") for at in (".", "unnamed/color")
    )
    colour = [row for row, q in enumerate(asked) if q.attribute == "color"]
    assert {asked[row].key for row in colour} == part.keys()
    assert all(main[key] == found for key, found in part.items())
    np.testing.assert_array_equal(scores[colour], without)
    chosen, apart = (
        read_dampings(run / at / "scores" / "damping.json")["concept-trak"]
        for at in (".", "unnamed/color")
    )
    assert chosen.of("color") == apart.of("color")
    ctx = prepare(load(run / "config.yaml"), run)[0]
    network, weights, _ = ctx.placed(ctx.load())
    spec = METHODS_BY_NAME["concept-trak"].train
    assert spec is not None
    x0, cond = ctx.dataset.train_images(), np.zeros_like(ctx.dataset.train_conditions)
    batch = TrainBatch(x0, cond, ctx.dataset.train_index)
    plain = train_features(ctx.recipe, network, weights, [spec], batch, null=cond[0])
    stored = ctx.features("concept-trak").read()
    assert np.linalg.norm(stored - plain.features[:, 0]) <= 1e-4 * np.linalg.norm(stored)


def test_damping_is_chosen_on_validation_queries_alone(run):
    files = [run / name / "scores" / "damping.json" for name in (".", "unnamed/color")]
    for damping in [found for file in files for found in read_dampings(file).values()]:
        points = [point for point in damping.curve if point.split == "validation"]
        curve = {point.r: point.precision for point in points}
        assert all(curve[r] < max(curve.values()) for r in curve if r > damping.chosen)
        assert {point.scenario for point in points} == {"id"}


def test_damping_by_attribute_is_chosen_on_its_validation_queries_alone(run, copy):
    """The largest r within one standard error of the best alone on an attribute's validation
    questions, and its rankings."""
    asked = read_questions(run / "queries" / "queries.csv")
    values = draw_dataset(
        size=60, image_size=16, shapes=("triangle", "circle"), colors=("red", "blue"), seed=0
    ).attributes

    def scored(*settings: str) -> dict[tuple[str, str, str], list[int]]:
        """The top lists by method, query and attribute."""
        done = ctrak_here("score", copy, *settings, "--controls", "[]")
        assert done.returncode == 0, done.stderr
        return {
            (method, *key): [hit.index for hit in hits]
            for method in METHODS
            for key, hits in read_tops(copy / "top" / f"{method}.csv").items()
        }

    alone = {r: scored("--score.damping", f"[{r}]") for r in (1.0, 100.0)}
    both = ("--score.damping", "[1.0, 100.0]")  # a command leaves its settings in the run's config
    mine = scored(*both, "--score.damping_for", "attribute")
    dampings = read_dampings(copy / "scores" / "damping.json")
    for method, name in itertools.product(METHODS, ("shape", "color")):
        about = [q for q in asked if q.attribute == name]

        def precision(r: float, name=name, about=about, method=method) -> np.ndarray:
            found = [
                [values[name][index] == q.value for index in alone[r][method, q.query, name][:10]]
                for q in about
                if q.split == "validation"
            ]
            return np.mean(found, axis=1)

        small, large = precision(1.0), precision(100.0)
        top = small if small.mean() > large.mean() else large
        error = top.std() / np.sqrt(len(top))
        best = 100.0 if large.mean() >= top.mean() - error else 1.0
        assert dampings[method].by_attribute[name] == best
        for q in about:
            key = (method, q.query, name)
            assert mine[key] == alone[best][key]


def test_a_second_run_computes_nothing(copy):
    before = (copy / "log.jsonl").read_text().splitlines()
    done = ctrak_here("run", copy)
    assert done.returncode == 0, done.stderr
    assert (copy / "log.jsonl").read_text().splitlines() == before


def test_settings_that_change_no_number_compute_nothing_anew(copy):
    """Of speed and memory nothing, of evaluation the evaluation alone and its report."""

    def stages(*settings: str) -> list[str]:
        """What a run under these settings went through."""
        before = len((copy / "log.jsonl").read_text().splitlines())
        done = ctrak_here("run", copy, *settings)
        assert done.returncode == 0, done.stderr
        new = (copy / "log.jsonl").read_text().splitlines()[before:]
        return [json.loads(line)["stage"] for line in new]

    speed = ("--gradient.batch", "8", "--gradient.time_chunk", "1", "--projection.tile", "100")
    assert stages(*speed) == []
    assert stages("--evaluate.bootstrap", "200", "--evaluate.k", "[5, 10]") == [
        "evaluate",
        "report",
    ]


@pytest.mark.parametrize("methods", [METHODS, ("concept-trak",)], ids=len)
def test_featurization_goes_on_where_it_was_killed(run, copy, methods):
    """A lost chunk alone is computed again, to the same bytes, also with fewer methods than the
    program that made the others served."""
    store = copy / "features" / "concept-trak"
    manifest = read_manifest(store)
    lost = manifest["complete"].pop()
    (store / "manifest.json").write_text(json.dumps(manifest))
    chunk = store / "features" / "c" / str(lost // 16) / "0"
    original = chunk.read_bytes()
    chunk.unlink()
    done = ctrak_here("featurize", copy, "--methods", json.dumps(methods))
    assert done.returncode == 0, done.stderr
    assert read_manifest(store) == read_manifest(run / "features" / "concept-trak")
    assert np.allclose(
        np.frombuffer(chunk.read_bytes()[:-4], "<f4"),
        np.frombuffer(original[:-4], "<f4"),
        rtol=1e-5,
        atol=1e-6,
    )
    last = json.loads((copy / "log.jsonl").read_text().splitlines()[-1])
    assert last["stage"] == "featurize"


@pytest.mark.slow
def test_a_killed_featurization_goes_on_to_the_same_bytes(run, tmp_path):
    """SIGKILL once the first rows are on disk: no finished row is computed again, and the store is
    that of a run that nobody disturbed."""

    def begun(name: str) -> list[str]:
        shutil.copytree(run / "model", tmp_path / name / "model")
        shutil.copy(run / "config.yaml", tmp_path / name / "config.yaml")
        return one_by_one(name)

    def one_by_one(name: str) -> list[str]:
        settings = ("--store.chunk", "1", "--gradient.batch", "1", "--controls", "[]")
        return command("featurize", tmp_path / name, *settings)

    process = subprocess.Popen(begun("killed"), env=environment(), stderr=subprocess.DEVNULL)
    store = tmp_path / "killed" / "features" / METHODS[0]
    while process.poll() is None:
        if any((store / "complete").glob("[0-9]")):
            process.kill()
            break
        time.sleep(0.001)
    process.wait()
    begun_store = FeatureStore(store, read_manifest(store))
    done = len(begun_store.chunks) - len(begun_store.missing)
    total = len(features(run, METHODS[0]))
    assert 0 < done < total

    def finish(arguments: list[str]) -> None:
        subprocess.run(arguments, env=environment(), check=True, stderr=subprocess.DEVNULL)

    finish(one_by_one("killed"))
    resumed = json.loads((tmp_path / "killed" / "log.jsonl").read_text().splitlines()[-1])
    assert total - done <= resumed["samples"] <= total - done + 1

    finish(begun("whole"))
    for method in METHODS:
        expected = features(tmp_path / "whole", method)
        np.testing.assert_array_equal(features(tmp_path / "killed", method), expected)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_a_lost_question_alone_is_computed_again(run, copy, scope):
    store = copy / "queries" / "d-trak"
    asked = read_questions(store / "queries.csv")
    row = next(i for i, question in enumerate(asked) if question.scope == scope)
    manifest = read_manifest(store)
    manifest["complete"].remove(row)
    (store / "manifest.json").write_text(json.dumps(manifest))
    (store / "features" / "c" / str(row // 2) / "0").unlink()
    done = ctrak_here("query", copy)
    assert done.returncode == 0, done.stderr
    original = run / "queries" / "d-trak"
    found, expected = (FeatureStore(s, read_manifest(s)).read() for s in (store, original))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    last = json.loads((copy / "log.jsonl").read_text().splitlines()[-1])
    assert (last["stage"], last["samples"]) == ("query", 2)


@pytest.mark.parametrize("model", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_batch_chunk_tile_and_devices_do_not_change_a_feature(run, tmp_path, model):
    shutil.copytree(run / "model", tmp_path / "out" / "model")
    shutil.copy(run / "config.yaml", tmp_path / "out" / "config.yaml")
    done = ctrak_here(
        "featurize",
        tmp_path / "out",
        *("--gradient.batch", "24", "--gradient.time_chunk", "1"),
        *("--projection.tile", "100", "--store.chunk", "24", "--controls", "[]"),
        *("--run.devices", "8", "--mesh.model", str(model)),
    )
    assert done.returncode == 0, done.stderr
    for method in METHODS:
        one, eight = features(run, method), features(tmp_path / "out", method)
        distance = np.linalg.norm(one - eight, axis=1) / np.linalg.norm(one, axis=1)
        assert distance.max() <= 1e-5


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [("--projection.k", "96", "projection"), ("--trajectory.seed", "3", "trajectory")],
)
def test_features_of_other_settings_are_never_reused(copy, setting, value, field):
    done = ctrak_here("featurize", copy, setting, value)
    assert done.returncode == 1
    line = [x for x in done.stderr.splitlines() if x.startswith("ctrak: ")]
    assert len(line) == 1
    assert f"differing fields: {field}" in line[0]


def test_features_of_another_model_are_never_reused(copy):
    """Also where the settings are the same: a model trained again on another machine."""
    sha256 = json.loads((copy / "model" / "model.json").read_text())["sha256"]
    for store in (*(copy / "features").iterdir(), copy / "queries" / "concept-trak"):
        assert read_manifest(store)["key"]["model"] == sha256
    file = copy / "features" / "concept-trak" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["key"]["model"] = "0" * 64
    file.write_text(json.dumps(manifest))
    done = ctrak_here("featurize", copy)
    assert done.returncode == 1
    assert "differing fields: model" in done.stderr


def test_a_refused_setting_does_not_become_the_run_s(copy):
    before = (copy / "config.yaml").read_text()
    assert ctrak_here("query", copy, "--query.eta", "0.1").returncode == 1
    assert (copy / "config.yaml").read_text() == before
    assert ctrak_here("run", copy).returncode == 0


def test_rankings_of_other_settings_are_never_evaluated(copy):
    done = ctrak_here("evaluate", copy, "--projection.k", "96")
    assert done.returncode == 1
    assert "run `ctrak score` first" in done.stderr


def test_lost_scores_are_made_again(copy):
    before = (copy / "metrics.json").read_bytes()
    (copy / "scores" / "damping.json").unlink()
    shutil.rmtree(copy / "scores" / "das.zarr")
    done = ctrak_here("run", copy, "--json")
    assert done.returncode == 0, done.stderr
    assert (copy / "scores" / "das.zarr").exists()
    assert (copy / "metrics.json").read_bytes() == before


def test_features_on_disk_and_in_memory_score_the_same(run, copy):
    """Conjugate gradients over four devices, the control's replaced rows included."""

    def scores(root: Path, method: str) -> np.ndarray:
        return read_scores(root / "scores" / f"{method}.zarr")

    before = (run / "scores" / "damping.json").read_text()
    for name in (".", "controls/wrong-label"):  # another solver makes no scores anew
        shutil.rmtree(copy / name / "scores")
    done = ctrak_here("score", copy, "--score.solver", "cg", "--run.devices", "4")
    assert done.returncode == 0, done.stderr
    assert (copy / "scores" / "damping.json").read_text() == before
    for name in (".", "controls/wrong-label"):
        for method in METHODS:
            one, two = (scores(root / name, method) for root in (run, copy))
            assert np.linalg.norm(one - two) <= 5e-3 * np.linalg.norm(one)
    lines = [json.loads(line) for line in (copy / "log.jsonl").read_text().splitlines()]
    ran = [line["solvers"] for line in lines if "solvers" in line]
    assert [{s["solver"] for s in solvers.values()} for solvers in ran] == [{"spectrum"}, {"cg"}]
    assert all(max(s["residual"]) <= 1e-3 for s in ran[-1].values())


def test_a_query_picture_changed_afterwards_is_noticed(copy):
    images = copy / "queries" / "images"
    shutil.copy(images / "circle-red-00.png", images / "circle-blue-00.png")
    done = ctrak_here("query", copy)
    assert done.returncode == 1
    assert "differing fields: questions" in done.stderr


def test_a_model_of_other_settings_is_never_reused(copy):
    done = ctrak_here("train", copy, "--train.steps", "50")
    assert done.returncode == 1
    assert "(train.steps differ)" in done.stderr


def test_one_question_to_the_store(run):
    done = ctrak_here(
        *("attribute", run, "--image", run / "queries" / "images" / "circle-red-00.png"),
        *("--condition", "shape=circle,color=red", "--concept", "color", "--top", "5", "--json"),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["concept"] == {"color": "red"}
    assert answer["minus"] == {"shape": "circle", "color": "blue"}
    assert [item["rank"] for item in answer["top"]] == [1, 2, 3, 4, 5]
    scores = [item["score"] for item in answer["top"]]
    assert scores == sorted(scores, reverse=True)


def test_an_explained_answer_is_the_ranking_taken_apart(run, tmp_path):
    """The run's own question: the same images and scores, to which the parts sum."""
    question = next(q for q in open_run(run).questions if q.scope == "local")
    page = tmp_path / "page.html"
    done = ctrak_here(
        *("explain", run, "--query", question.query, "--concept", question.attribute),
        *("--out", page),
    )
    assert done.returncode == 0, done.stderr
    found = read_explanation(page.with_suffix(".npz"))
    top = read_tops(run / "top" / "concept-trak.csv")[question.key][:10]
    assert found.index.tolist() == [hit.index for hit in top]
    scores = np.array([hit.score for hit in top])
    np.testing.assert_allclose(found.score, scores, atol=1e-4 * abs(scores).max())
    assert found.gap < 1e-4
    assert found.maps.shape == found.query_maps.shape == (10, 16, 16)
    assert page.with_suffix(".png").exists()
    assert page.read_text().count("<article>") == 10


def test_maps_of_the_report_are_kept_and_made_once(copy):
    """Of the run's own rankings: they sum to the scores; what fits is not made again."""
    told = ("report", copy, "--report.maps", "2", "--report.groups", "[color]")
    done = ctrak_here(*told)
    assert done.returncode == 0, done.stderr
    page = (copy / "report" / "index.html").read_text()
    assert 'id="maps-1"' in page
    assert "Which groups taught it?" in page
    tops = read_tops(copy / "top" / "concept-trak.csv")
    files = sorted((copy / "maps").glob("*.npz"))
    assert [file.stem for file in files] == [
        f"triangle-red-00-{attribute}-concept-trak" for attribute in ("color", "shape")
    ]
    for file, attribute in zip(files, ("color", "shape"), strict=True):
        found, hits = read_maps(file), tops["triangle-red-00", attribute][:10]
        assert found is not None
        assert found.index.tolist() == [hit.index for hit in hits]
        scores = np.array([hit.score for hit in hits])
        for parts in (found.maps, found.query_maps):
            np.testing.assert_allclose(parts.sum((1, 2)), scores, atol=1e-4 * abs(scores).max())
    kept, other = files
    before = kept.stat().st_mtime_ns
    other.write_bytes(b"of a write that was cut off")
    (copy / "report" / "index.html").unlink()
    assert ctrak_here(*told).returncode == 0
    assert kept.stat().st_mtime_ns == before
    assert read_maps(other) is not None


def test_an_answer_can_be_explained_at_once(run):
    done = ctrak_here(
        *("attribute", run, "--image", run / "queries" / "images" / "circle-red-00.png"),
        *("--condition", "shape=circle,color=red", "--concept", "color", "--method", "das"),
        *("--top", "3", "--explain", "--json"),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    page = Path(answer["page"])
    found = read_explanation(page.with_suffix(".npz"))
    assert found.index.tolist() == [item["index"] for item in answer["top"]]
    assert found.score.tolist() == [item["score"] for item in answer["top"]]
    assert found.gap < 1e-4
    assert page.read_text().count("<article>") == 3


@pytest.mark.parametrize("method", ["similarity-pixels", "labels"])
def test_a_reference_answers_as_in_the_run_and_without_damping(run, method):
    """The order of labels is random among equals, and of its own for every question."""
    image = run / "queries" / "images" / "circle-red-00.png"
    done = ctrak_here(
        *("attribute", run, "--image", image),
        *("--condition", "shape=circle,color=red", "--concept", "color", "--top", "20", "--json"),
        *("--method", method),
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "damping" not in answer
    found = [item["index"] for item in answer["top"]]
    wanted = [h.index for h in read_tops(run / "top" / f"{method}.csv")["circle-red-00", "color"]]
    if method == "similarity-pixels":
        told = ("groups", run, "--by", "shape", "--method", method, "--concept", "color")
        told += ("--top", "10", "--json")
        own = ("--image", image, "--condition", "shape=circle,color=red")
        again, asked = (
            json.loads(ctrak_here(*told, *given).stdout)["rows"]
            for given in (("--query", "circle-red-00"), own)
        )
        assert [row["total"] for row in asked] == pytest.approx([row["total"] for row in again])
        assert [row["first"] for row in asked] == [row["first"] for row in again]
    if method == "labels":
        assert found != wanted
        assert all(item["attributes"]["color"] == "red" for item in answer["top"][:10])
    else:
        assert found == wanted


def test_info_verifies_the_run(run):
    done = ctrak_here("info", run, "--json")
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert all(store["missing"] == 0 for store in about["stores"].values())
    assert len(about["models"]) == 1
