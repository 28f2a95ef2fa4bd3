"""The measures of the AbC benchmark: abc.json, abc.csv, abc.md and the exemplars' ranks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctrak_jax.abc.imported import METHOD
from ctrak_jax.abc.inputs import TaskQuestion
from ctrak_jax.abc.prepared import Benchmark
from ctrak_jax.config import Config
from ctrak_jax.config.presets import IMITATED, NOT_IMITATED
from ctrak_jax.data.abc import Task
from ctrak_jax.data.dataset import NO_VALUE
from ctrak_jax.log import logger
from ctrak_jax.methods import ABLATION
from ctrak_jax.metrics import Interval
from ctrak_jax.retrieval import (
    DEPTHS,
    Places,
    Retrieval,
    Summary,
    TaskResult,
    places_by_score,
    retrieval,
    summarise,
)
from ctrak_jax.run.tables import write_csv
from ctrak_jax.store.files import read_json, write_atomically
from ctrak_jax.terminal.abc import ablation_table, benchmark_table, controls_table

FISHER = {
    "all": "LAION and the task's exemplars; lambda of LAION",
    "laion": "LAION alone, lambda too",
}


class CandidateScores(NamedTuple):
    """One method's scores at every damping of a run.

    Attributes:
        exemplars: of every task's exemplars, then of its decoys [damping, exemplar].
        laion: of the rows [damping, task, row], mapped.
        solver: what computed them.
    """

    exemplars: list[np.ndarray]
    laion: np.ndarray
    solver: str


def write(bench: Benchmark, found: Mapping[str, CandidateScores]) -> None:
    """Rank, measure and write what the module names."""
    out, tasks = bench.results.root, bench.abc.tasks
    smallest = len(bench.rows) + min(len(task.exemplars) for task in tasks)
    depths = [k for k in DEPTHS if k <= smallest]
    if len(depths) < len(DEPTHS):
        logger.warning("%d candidates: recall is measured at %s alone", smallest, depths)
    rows, results, best_results = [], [], []
    fixed = bench.dampings.index(bench.damping)
    for method, candidates in found.items():
        ranks = []
        for number, (task, question) in enumerate(zip(tasks, bench.asked, strict=True)):
            places = _places(candidates, fixed, number, len(task.exemplars))
            measured = retrieval(places, depths)
            groups = {"test_case": task.test_case, "category": task.category or NO_VALUE}
            results.append(TaskResult(method, groups, measured))
            row = _row(number, task, question, method, measured, places.candidates)
            if bench.config.score.oracle:
                best = _best(bench, candidates, number, depths)
                best_results.append(TaskResult(method, groups, best.found))
                row["oracle"] = {"damping": best.damping, **_measures(best.found)}
            rows.append(row)
            ranks.append(places.ranks)
        _write_exemplars(out / "exemplars" / f"{method}.csv", tasks, candidates, fixed, ranks)
    summary = summarise(results, bench.config.evaluate.bootstrap)
    oracle = summarise(best_results, bench.config.evaluate.bootstrap)
    settings = _settings(bench, found)
    write_csv(out / "abc.csv", list(_flat(rows[0])), [list(_flat(row).values()) for row in rows])
    write_atomically(out / "abc.md", _markdown(bench.config, settings, summary, oracle))
    document = {
        "rows": rows,
        "summary": [_summary(row) for row in summary],
        "oracle_summary": [_summary(row) for row in oracle],
        "settings": settings,
    }
    write_atomically(out / "abc.json", json.dumps(document, indent=1) + "\n")


def _places(candidates: CandidateScores, damping: int, task: int, exemplars: int) -> Places:
    """Where the exemplars of a task stand at a damping, by their numbers."""
    scores, others = candidates.exemplars[task][damping], candidates.laion[damping, task]
    return places_by_score(scores[:exemplars], [scores[exemplars:], others])


class OracleResult(NamedTuple):
    """What a task has at the damping that is best for itself."""

    damping: float
    found: Retrieval


def _best(
    bench: Benchmark, candidates: CandidateScores, task: int, depths: Sequence[int]
) -> OracleResult:
    """The first of ``score.oracle`` at which the task's own Recall@10 is the highest."""
    exemplars = len(bench.abc.tasks[task].exemplars)
    measured = []
    for r in bench.config.score.oracle:
        places = _places(candidates, bench.dampings.index(r), task, exemplars)
        measured.append(OracleResult(r, retrieval(places, depths)))
    return max(measured, key=lambda result: result.found.recall[10])


def _row(
    number: int, task: Task, asked: TaskQuestion, method: str, measured: Retrieval, candidates: int
) -> dict[str, Any]:
    return {
        "task": number,
        "method": method,
        "test_case": task.test_case,
        "class_id": task.class_id,
        "category": task.category,
        "image": str(task.image),
        "prompt": asked.prompt.text,
        "minus": asked.minus.text,
        "concept": asked.token,
        "token_learned": asked.prompt.learned is not None,
        "exemplars": len(task.exemplars),
        "candidates": candidates,
        **_measures(measured),
    }


def _measures(measured: Retrieval) -> dict[str, Any]:
    return {
        "recall": {str(k): value for k, value in measured.recall.items()},
        "found": {str(k): value for k, value in measured.found.items()},
        "average_precision": measured.average_precision,
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    nested = ("recall", "found", "oracle")
    flat = {name: value for name, value in row.items() if name not in nested}
    flat |= {f"{name}@{k}": row[name][k] for name in nested[:2] for k in row[name]}
    if "oracle" in row:
        flat |= {f"oracle_{name}": value for name, value in _flat(row["oracle"]).items()}
    return flat


def _summary(row: Summary) -> dict[str, Any]:
    found = row._asdict()
    for name, values in (("recall", row.recall), ("found", row.found)):
        found[name] = {str(k): value._asdict() for k, value in values.items()}
    return found | {"mean_average_precision": row.mean_average_precision._asdict()}


def _settings(bench: Benchmark, found: Mapping[str, CandidateScores]) -> dict[str, Any]:
    config, preset = bench.config, None
    if config.preset is not None:
        preset = {"name": config.preset, "imitated": IMITATED, "not_imitated": NOT_IMITATED}
    return {
        "damping": bench.damping,
        "damping_chosen": "given" if len(config.score.damping) == 1 else "largest given",
        "oracle_dampings": list(config.score.oracle),
        "laion_rows": len(bench.rows),
        "laion_order": bench.config.data.order,
        "latents_multiplied_by": bench.factor,
        "tasks": len(bench.asked),
        "tasks_with_learned_token": sum(q.prompt.learned is not None for q in bench.asked),
        "control": bench.control,
        "fisher": FISHER[config.score.kernel],
        "imported": None if bench.imported is None else dict(bench.imported.about),
        "solvers": {method: c.solver for method, c in found.items()},
        "preset": preset,
        "config": config.model_dump(mode="json", exclude={"counterfactual", "lds"}),
    }


def _markdown(
    config: Config,
    settings: Mapping[str, Any],
    summary: Sequence[Summary],
    oracle: Sequence[Summary],
) -> str:
    learned, tasks = settings["tasks_with_learned_token"], settings["tasks"]
    lines = [
        f"# {config.name}",
        "",
        f"{tasks} tasks, {settings['laion_rows']} LAION rows{_control(settings)}. "
        f"Fisher: {settings['fisher']}. "
        f"Damping r = {settings['damping']:g} "
        f"({settings['damping_chosen']}), the same for every method and task. Tasks whose token "
        f"was learned by textual inversion: {learned} of {tasks}. Intervals: 95%, bootstrap over "
        "tasks, which are not independent where they share a model. Recall@k is of the exemplars "
        "that fit into k, Found@k of all exemplars (AbC's own evaluation).",
        "",
        benchmark_table(summary),
        benchmark_table(summary, found=True),
        benchmark_table(summary, "test_case"),
    ]
    if settings["imported"]:
        source = settings["imported"]["source"]
        lines += [f"LAION's features of {METHOD} were not made here: imported from {source}.", ""]
    if any(row.method in ABLATION for row in summary):
        lines += ["Ablation; published figures over 48 samples.", "", ablation_table(summary)]
    if oracle:
        tried = ", ".join(f"{r:g}" for r in config.score.oracle)
        lines += [
            "Oracle: for every task the damping with the best Recall@10 of that task, as the "
            f"published code chooses it, of r = {tried}. It knows the answers: no use of a method "
            "has it.",
            "",
            benchmark_table(oracle),
        ]
    if settings["preset"]:
        lines += [f"Preset `{config.preset}` follows the published code in:", ""]
        lines += [f"- {item}" for item in IMITATED]
        lines += ["", "and not in:", "", *(f"- {item}" for item in NOT_IMITATED), ""]
    return "\n".join(lines)


def write_controls(forms: Sequence[Benchmark]) -> None:
    """controls.md: Recall@10 of every method with the published candidates, which come first, and
    with those of the controls."""
    columns = {form.control or "as published": _recall_at_10(form.results.root) for form in forms}
    (out, *controls) = [form.results.root for form in forms]
    if controls:
        write_atomically(out / "controls.md", controls_table(columns))


def _recall_at_10(folder: Path) -> dict[str, Interval]:
    """By method, over all tasks."""
    summary = read_json(folder / "abc.json", "abc")["summary"]
    overall = [row for row in summary if row["group"] == "all" and "10" in row["recall"]]
    return {row["method"]: Interval(**row["recall"]["10"]) for row in overall}


def _control(settings: Mapping[str, Any]) -> str:
    control = settings["control"]
    return "" if control is None else f", candidates of the control `{control}`"


def _write_exemplars(
    file: Path,
    tasks: Sequence[Task],
    candidates: CandidateScores,
    damping: int,
    ranks: Sequence[np.ndarray],
) -> None:
    """Every exemplar's score and rank, by task; best first."""
    rows = []
    for number, (task, found) in enumerate(zip(tasks, candidates.exemplars, strict=True)):
        scores = found[damping][: len(task.exemplars)]
        order = np.argsort(-scores, kind="stable")
        for rank, place in zip(ranks[number], order, strict=True):
            rows.append([number, rank, f"{scores[place]:.9g}", task.exemplars[place]])
    write_csv(file, ["task", "rank", "score", "exemplar"], rows)
