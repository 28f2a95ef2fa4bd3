"""`ctrak abc` on a miniature of the benchmark with a tiny model: from files to metrics."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ctrak_jax import abc, cli
from ctrak_jax.abc.inputs import TaskEncoder, TaskPrompt
from ctrak_jax.abc.prepared import Candidates
from ctrak_jax.attribution.references import SPACING
from ctrak_jax.config import Config
from ctrak_jax.devices import local_mesh
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.models.stable_diffusion.embedding_files import load_embeddings
from ctrak_jax.models.stable_diffusion.textual_inversion import add_tokens, save_embedding
from ctrak_jax.stages import probe
from ctrak_jax.store import FeatureStore, read_manifest
from tests.data.abc_files import dump as write_json
from tests.data.abc_files import put
from tests.tiny_model import write_model

COUNT = 12
"""LAION rows that are candidates."""
TOTAL = COUNT + 3
"""LAION rows in all."""
DECOYS = 2
CONTROL = "decoys-without-token"
EXEMPLARS = {"one": 2, "two": 1}
"""Exemplars of each customised model; "two" has a learned token."""
TASKS = (("one", "ab <new1> c"), ("one", "c <new1> b"), ("two", "b <new1> c"))
K, DAMPING = 32, 0.5
METHODS = ("concept-trak", "ablation-base")
ORACLE = (1e-3, 1.0, 1e3)
DAMPINGS = (1e-3, DAMPING, 1.0, 1e3)

INVERTED = {"path": "inversion", "condition": "own"}


def write_abc(root: Path) -> Path:
    """The layout of the benchmark, rows as the tiny model takes them."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    np.save(root / "laion_latents.npy", rng.normal(size=(2 * TOTAL, 4, 8, 8)).astype("float16"))
    np.save(root / "laion_text_embeddings.npy", rng.normal(size=(TOTAL, 77, 32)).astype("float16"))
    for i in range(TOTAL):
        put(root / "laion_subset" / "images" / f"{i:09d}.png", i)
    (root / "laion_subset" / "captions.txt").write_text("a b\n" * TOTAL)
    entries = []
    for number, (name, count) in enumerate(EXEMPLARS.items()):
        exemplars = [f"exemplar/artchive/{name}/{i}.png" for i in range(count)]
        synth = [f"synth/artchive/{name}/{i}.png" for i in range(len(TASKS))]
        for place, file in enumerate((*exemplars, *synth)):
            put(root / file, 100 * (number + 1) + place)
        entries.append(
            {
                "exemplar": [f"dataset/{file}" for file in exemplars],
                "synth": {"gpt": [f"dataset/{file}" for file in synth]},
                "class_id": name,
                "category": None,
            }
        )
    write_json(root / "json" / "test_artchive.json", entries)
    write_json(
        root / "all_tasks.json",
        [
            {
                "synth_image_path": f"synth/artchive/{name}/{number}.png",
                "prompt": prompt,
                "test_case": "test_artchive",
                "test_case_ind": list(EXEMPLARS).index(name),
                "model_path": f"models/{name}",
                "train_prompt": "a <new1>",
                "category": "art",
            }
            for number, (name, prompt) in enumerate(TASKS)
        ],
    )
    (root / "models" / "two").mkdir(parents=True)
    vector = rng.normal(size=(1, 32)).astype(np.float32)
    save_embedding(root / "models" / "two" / "learned_embeds.safetensors", "<new1>", vector)
    return root


def settings(data: Path, model: Path) -> dict[str, Any]:
    return {
        "name": "Miniature",
        "methods": list(METHODS),
        "references": ["labels"],
        "controls": [CONTROL],
        "run": {"devices": 1},
        "data": {
            "kind": "abc",
            "path": str(data),
            "candidates": COUNT,
            "order": "file",
            "decoys": DECOYS,
        },
        "model": {"kind": "text-to-image", "checkpoint": str(model)},
        "gradient": {"include": ["*attn2*"], "time_chunk": 1, "batch": 4},
        "trajectory": {"steps": 4, "record_every": 2, "negative": "null"},
        "projection": {"k": K},
        "store": {"chunk": 4},
        "query": {"check": "none", "repetitions": 1},
        "score": {"damping": [DAMPING], "oracle": list(ORACLE)},
        "evaluate": {"bootstrap": 100},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_abc(tmp_path_factory.mktemp("abc") / "data")


@pytest.fixture(scope="module")
def config(data, tmp_path_factory) -> Config:
    model = write_model(tmp_path_factory.mktemp("model"), shallow=True)
    return Config.model_validate(settings(data, model))


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    """A finished run, which was interrupted when the second of three chunks was to be written."""
    out = tmp_path_factory.mktemp("run")
    written = []
    whole = FeatureStore.write

    def write(self, rows, arrays):
        if rows.start:
            raise KeyboardInterrupt
        written.append(rows)
        whole(self, rows, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "write", write)
        with pytest.raises(KeyboardInterrupt):
            abc.run(config, out, allow_missing_token=True)
    assert len(written) == len(METHODS)
    abc.run(config, out, allow_missing_token=True)
    return out


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def opened(place: Path) -> FeatureStore:
    return FeatureStore(place, read_manifest(place))


def store_of(method: str) -> str:
    return {"ablation-base": "trak"}.get(method, method)


def rows_of(task: int, control: str = "") -> list[int]:
    """Of its exemplars, then of its decoys."""
    if TASKS[task][0] == "two":
        return [2, 5, 6] if control else [2]
    return [0, 1, 3, 4] if control else [0, 1]


def by_hand(
    out: Path, method: str, damping: float, *, alone: bool = False, control: str = ""
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores of LAION [task, row] and of exemplars, by the matrix itself in float64; ``alone``:
    of LAION."""
    laion, exemplars, queries = (
        opened(folder).read().astype(np.float64)
        for folder in (
            out / "features" / store_of(method),
            out / control / "exemplars" / "features" / store_of(method),
            out / "queries" / method,
        )
    )
    lam = damping * 0.1 * np.trace(laion.T @ laion) / K
    among, mine = [], []
    for number, query in enumerate(queries):
        own = exemplars[rows_of(number, control)]
        g = laion.T @ laion + (not alone) * own.T @ own + lam * np.eye(K)
        z = np.linalg.solve(g, query)
        among.append(laion @ z)
        mine.append(own @ z)
    return np.stack(among), mine


def exemplar_rows(out: Path, method: str) -> list[dict[str, str]]:
    with (out / "exemplars" / f"{method}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_interrupted_featurization_goes_on_where_it_was(run):
    featurized = [line for line in lines(run) if line["stage"] == "featurize"]
    assert [line["status"] for line in featurized] == ["interrupted", "done"]
    assert [line["samples"] for line in featurized] == [4, COUNT - 4]


def test_every_row_has_its_feature(run):
    for method in METHODS:
        found = opened(run / "features" / store_of(method)).read()
        exemplars = opened(run / "exemplars" / "features" / store_of(method)).read()
        queries = opened(run / "queries" / method).read()
        assert (found.shape, exemplars.shape, queries.shape) == ((COUNT, K), (3, K), (3, K))
        for features in (found, exemplars, queries):
            assert len(np.unique(features, axis=0)) == len(features)
            assert np.all(np.linalg.norm(features, axis=1) > 0)


def require_scores(out: Path, method: str, *, alone: bool) -> None:
    found = np.load(out / "scores" / f"{method}.npy")
    exemplars = np.load(out / "scores" / f"{method}-exemplars.npy")
    for damping, laion, own in zip(DAMPINGS, found, exemplars, strict=True):
        among, mine = by_hand(out, method, damping, alone=alone)
        scale = np.abs(among).max()
        np.testing.assert_allclose(laion, among, rtol=1e-3, atol=1e-3 * scale)
        scale = np.abs(np.concatenate(mine)).max()
        np.testing.assert_allclose(own, np.concatenate(mine), rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_the_matrix_with_the_exemplars_in_it(run, method):
    require_scores(run, method, alone=False)
    among, mine = by_hand(run, method, DAMPING)
    scale = np.abs(among).max()
    rows = exemplar_rows(run, method)
    for number, scores in enumerate(mine):
        written = [float(row["score"]) for row in rows if int(row["task"]) == number]
        expected = np.sort(scores)[::-1]
        np.testing.assert_allclose(written, expected, rtol=1e-3, atol=1e-3 * scale)


def test_measures_are_those_of_the_scores(run):
    document = json.loads((run / "abc.json").read_text())
    with (run / "abc.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(document["rows"]) == len(table) == (len(METHODS) + 1) * len(TASKS)
    for row, cells in zip(document["rows"], table, strict=True):
        if row["method"] == "labels":
            continue
        number, method = row["task"], row["method"]
        laion = np.load(run / "scores" / f"{method}.npy")[DAMPINGS.index(DAMPING), number]
        mine = [float(r["score"]) for r in exemplar_rows(run, method) if int(r["task"]) == number]
        ranked = sorted([(-s, 0) for s in mine] + [(-float(s), 1) for s in laion])
        hits = [place for place, (_, other) in enumerate(ranked, 1) if not other]
        for k in (5, 10):
            found = sum(place <= k for place in hits)
            share, recall = found / len(hits), found / min(k, len(hits))
            assert row["recall"][str(k)] == float(cells[f"recall@{k}"]) == recall
            assert row["found"][str(k)] == float(cells[f"found@{k}"]) == share
        precision = np.mean([i / place for i, place in enumerate(hits, 1)])
        assert row["average_precision"] == pytest.approx(precision)
        assert row["candidates"] == COUNT + len(mine)
    for row in document["summary"]:
        assert row["method"] != "labels" or row["recall"]["10"]["mean"] == 1.0
        measured = [r for r in document["rows"] if r["method"] == row["method"]]
        for name in ("recall", "found"):
            expected = np.mean([r[name]["10"] for r in measured])
            if row["group"] == "all":
                assert row[name]["10"]["mean"] == pytest.approx(expected)
    assert document["settings"]["tasks_with_learned_token"] == 1
    assert "| Concept-TRAK | as configured " in (run / "abc.md").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_decoys_are_candidates_and_no_exemplars(run, method):
    out, control = run / "controls" / CONTROL, f"controls/{CONTROL}"
    among, mine = by_hand(run, method, DAMPING, control=control)
    document = json.loads((out / "abc.json").read_text())
    rows = [row for row in document["rows"] if row["method"] == method]
    for number, (row, laion, own) in enumerate(zip(rows, among, mine, strict=True)):
        count = EXEMPLARS[TASKS[number][0]]
        assert (row["exemplars"], row["candidates"]) == (count, COUNT + len(own))
        first = np.argsort(-np.concatenate([own, laion]), kind="stable")[:5]
        assert row["recall"]["5"] == np.sum(first < count) / count
    written = [float(row["score"]) for row in exemplar_rows(out, method)]
    exemplars = [np.sort(own[: -DECOYS or None])[::-1] for own in mine]
    scale = np.abs(among).max()
    np.testing.assert_allclose(written, np.concatenate(exemplars), rtol=1e-3, atol=1e-3 * scale)


def test_labels_look_the_token_up(run):
    """It is in the exemplars' prompt as published, and in no prompt of the control."""
    scores = [float(row["score"]) for row in exemplar_rows(run, "labels")]
    assert min(scores) >= 1.0
    out = run / "controls" / CONTROL
    assert max(float(row["score"]) for row in exemplar_rows(out, "labels")) < SPACING
    table = (run / "controls.md").read_text()
    assert f"as published | {CONTROL}" in " ".join(table.split())


def recall_of(out: Path, method: str, damping: float, task: int) -> float:
    """Recall@10 by the matrix itself."""
    among, mine = by_hand(out, method, damping)
    every = np.concatenate([mine[task], among[task]])
    first = np.argsort(-every, kind="stable")[:10]
    return np.sum(first < len(mine[task])) / min(10, len(mine[task]))


def test_the_oracle_is_the_best_damping_of_each_task(run):
    document = json.loads((run / "abc.json").read_text())
    for row in document["rows"][: len(METHODS) * len(TASKS)]:
        found = [recall_of(run, row["method"], r, row["task"]) for r in ORACLE]
        assert row["oracle"]["recall"]["10"] == max(found)
        assert row["oracle"]["damping"] == ORACLE[int(np.argmax(found))]
    for row in document["oracle_summary"]:
        measured = [r for r in document["rows"] if r["method"] == row["method"]]
        expected = np.mean([r["oracle"]["average_precision"] for r in measured])
        if row["group"] == "all":
            assert row["mean_average_precision"]["mean"] == pytest.approx(expected)
    assert "knows the answers" in (run / "abc.md").read_text()


def test_scores_by_laion_alone(run, config, tmp_path):
    out = shutil.copytree(run, tmp_path / "out")
    changed = config.score.model_copy(update={"kernel": "laion"})
    abc.run(config.model_copy(update={"score": changed}), out, allow_missing_token=True)
    for method in METHODS:
        require_scores(out, method, alone=True)
    assert json.loads((out / "abc.json").read_text())["settings"]["fisher"].startswith(
        "LAION alone"
    )


def test_questions_leave_the_token_out(run):
    rows = json.loads((run / "abc.json").read_text())["rows"][: len(TASKS)]
    assert [row["prompt"] for row in rows] == [prompt for _, prompt in TASKS]
    assert [row["minus"] for row in rows] == ["ab c", "c b", "b c"]
    assert {row["concept"] for row in rows} == {"<new1>"}


def test_a_learned_token_is_what_its_file_says(config, data):
    """The embedding with the token's vector in the table; without a file the text is split."""
    folder = config.model.checkpoint
    assert folder is not None
    batches = BatchEncoder(folder, local_mesh(1), 4)
    encoder = TaskEncoder(batches, (8, 8, 4))
    learned = data / "models" / "two" / "learned_embeds.safetensors"
    text = batches.codecs.text
    grown = add_tokens(text, load_embeddings(learned))
    tokens = grown.network.tokens("b <new1> c")
    assert len(text.network.tokenize.vocabulary) in tokens  # type: ignore[attr-defined]
    expected = grown.network.apply(grown.params, tokens)
    found = encoder.embedding(TaskPrompt("b <new1> c", learned))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - encoder.embedding(TaskPrompt("b <new1> c"))).max() > 1e-2
    plain = encoder.embedding(TaskPrompt("b c", learned))
    np.testing.assert_allclose(plain, encoder.embedding(TaskPrompt("b c")), atol=1e-4)


def test_the_model_is_probed_before_anything_is_featurized(config, tmp_path, monkeypatch, caplog):
    """A model that is read as what it does not predict is found while it costs nothing."""
    monkeypatch.setattr(probe, "_losses", lambda _: {"eps": 1.0, "v": 0.1, "x0": 2.0})

    def featurize(self) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Candidates, "featurize", featurize)
    with caplog.at_level("WARNING", "ctrak"), pytest.raises(KeyboardInterrupt):
        abc.run(config, tmp_path, allow_missing_token=True)
    assert "set model.prediction: v" in caplog.text


def test_the_probe_reads_the_rows_of_laion(run):
    """An untrained model has no reading; its losses are those of a network that knows nothing."""
    found = json.loads((run / "probe.json").read_text())
    assert found["losses"].keys() == {"eps", "v", "x0"}
    assert all(np.isfinite(loss) and loss > 0.5 for loss in found["losses"].values())


def test_a_second_run_computes_nothing(run, config, monkeypatch):
    monkeypatch.setattr(probe, "_losses", lambda _: pytest.fail("computed twice"))
    before = [lines(run), lines(run / "exemplars"), (run / "abc.json").read_bytes()]
    abc.run(config, run, allow_missing_token=True)
    assert [lines(run), lines(run / "exemplars"), (run / "abc.json").read_bytes()] == before


def test_exemplars_with_the_questions_own_features_come_first(run, config, tmp_path):
    out = shutil.copytree(run, tmp_path / "out")
    store = opened(out / "exemplars" / "features" / "concept-trak")
    queries = opened(out / "queries" / "concept-trak").read()
    (chunk,) = store.chunks
    store.write(chunk, {"features": queries[[0, 1, 2]]})  # task 0 and 1 share exemplars 0 and 1
    store.flush()
    # Close to a plain inner product, which is largest with itself among rows of about one norm.
    changed = config.score.model_copy(update={"damping": (1e6,), "oracle": ()})
    abc.run(config.model_copy(update={"score": changed}), out, allow_missing_token=True)
    rows = exemplar_rows(out, "concept-trak")
    best = {int(row["task"]): row for row in reversed(rows)}
    assert {task: row["rank"] for task, row in best.items()} == {0: "1", 1: "1", 2: "1"}
    names = [Path(best[task]["exemplar"]).name for task in range(3)]
    assert names == ["0.png", "1.png", "0.png"]
    found = json.loads((out / "abc.json").read_text())["rows"]
    (third,) = [r for r in found if r["task"] == 2 and r["method"] == "concept-trak"]
    assert third["recall"] == {"5": 1.0, "10": 1.0}
    assert third["average_precision"] == 1.0


# Errors


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"methods": ["unlearning"]}, "unlearning keeps no features"),
        ({"data": {"kind": "folder"}}, "data.kind=folder"),
        ({"data": {"path": "nowhere"}}, "nowhere: no such folder"),
        ({"data": {"candidates": 9}}, "data.candidates"),
        ({"trajectory": {**INVERTED, "negative": "attribute"}}, "use null, other or prompt"),
        (
            {"trajectory": {**INVERTED, "negative": "opposite"}},
            "trajectory.negative=opposite means nothing",
        ),
        ({"model": {"checkpoint": None}}, "model.checkpoint"),
        ({"model": {"checkpoint": "nowhere"}}, "nowhere"),
        ({"preset": "publishd"}, "some.yaml:"),
    ],
    ids=str,
)
def test_errors_are_one_line(config, tmp_path, capsys, changes, wanted):
    found = settings(config.data.path, config.model.checkpoint)
    for name, value in changes.items():
        found[name] = found[name] | value if isinstance(value, dict) else value
    assert wanted in complaint(found, tmp_path, capsys)


def test_a_prompt_without_a_token_is_refused(config, data, tmp_path, capsys):
    copy = shutil.copytree(data, tmp_path / "data")
    tasks = json.loads((copy / "all_tasks.json").read_text())
    tasks[1]["prompt"] = "a b"
    write_json(copy / "all_tasks.json", tasks)
    line = complaint(settings(copy, config.model.checkpoint), tmp_path, capsys)
    assert "task 1" in line
    assert "<new1>" in line


def test_a_token_that_is_no_word_to_the_model_is_refused(config, data, tmp_path, capsys):
    copy = shutil.copytree(data, tmp_path / "data")
    tasks = json.loads((copy / "all_tasks.json").read_text())
    tasks[1]["prompt"] = "c <new1>"  # unknown words are read as the end of the text
    write_json(copy / "all_tasks.json", tasks)
    line = complaint(settings(copy, config.model.checkpoint), tmp_path, capsys)
    assert "reads 'c <new1>' as it reads 'c'" in line


def test_rows_of_another_model_are_refused(config, data, tmp_path, capsys):
    copy = shutil.copytree(data, tmp_path / "data")
    np.save(copy / "laion_latents.npy", np.zeros((2 * COUNT, 4, 64, 64), np.float16))
    line = complaint(settings(copy, config.model.checkpoint), tmp_path, capsys)
    assert "expected [2N, 4, 8, 8]" in line


def test_other_commands_name_this_one(config, tmp_path, capsys):
    found = settings(config.data.path, config.model.checkpoint)
    assert "`ctrak abc`" in complaint(found, tmp_path, capsys, "run")


def complaint(content: dict[str, Any], folder: Path, capsys, command: str = "abc") -> str:
    file = folder / "some.yaml"
    file.write_text(yaml.safe_dump(content))
    more = ["--allow-missing-token"] if command == "abc" else []
    assert cli.main([command, str(file), "--out", str(folder / "out"), *more]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert not (folder / "out").exists()
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("ctrak: ")]
    return line
