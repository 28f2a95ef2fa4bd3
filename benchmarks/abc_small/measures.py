"""What a run of ``ctrak abc`` found, by customisation: the questions about one are one value.

Scores of every damping are on disk (``score.oracle`` lists them). A method's damping is the best by
Recall@10, then by average precision, of the customisations that are not reported, for every form of
the candidates on its own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax.metrics import Interval, bootstrap_mean
from ctrak_jax.retrieval import places_by_score, retrieval

DEPTHS = (5, 10, 100)
PUBLISHED = "as published"
FORMS = {
    PUBLISHED: "",
    "without-token": "controls/without-token",
    "decoys": "controls/decoys",
    "decoys-without-token": "controls/decoys-without-token",
}
"""Forms of the candidates, and where a run keeps their scores."""
MEASURES = (*(f"recall@{k}" for k in DEPTHS), "mAP", "above decoys")
"""The last is the share of pairs of an exemplar and a decoy of its prompt in which the exemplar has
the higher score: chance is a half. Without decoys it is NaN."""
KINDS = {"test_artchive": "style", "test_observed_imagenet": "object"}


class Customisation(NamedTuple):
    """What the questions about it have in common."""

    name: str
    kind: str
    exemplars: int


class Found(NamedTuple):
    """A method's measures [customisation, measure], each the mean over the questions."""

    customisations: tuple[Customisation, ...]
    values: np.ndarray

    def of(self, measure: str) -> np.ndarray:
        return self.values[:, MEASURES.index(measure)]

    def where(self, chosen: Sequence[bool]) -> "Found":
        picked = np.flatnonzero(chosen)
        return Found(tuple(self.customisations[i] for i in picked), self.values[picked])


def tasks_of(run: Path) -> list[Customisation]:
    """What each task is about, in order."""
    rows = json.loads((run / "abc.json").read_text())["rows"]
    first = rows[0]["method"]
    return [
        Customisation(row["class_id"], KINDS[row["test_case"]], row["exemplars"])
        for row in rows
        if row["method"] == first
    ]


def measured(
    tasks: Sequence[Customisation], exemplars: Sequence[np.ndarray], others: np.ndarray
) -> Found:
    """Measures by customisation.

    Args:
        tasks: what each is about.
        exemplars: scores of each task's exemplars, then of its decoys.
        others: scores of the portraits [task, row].
    """
    by_name: dict[Customisation, list[list[float]]] = {}
    for task, own, rows in zip(tasks, exemplars, others, strict=True):
        places = places_by_score(own[: task.exemplars], [own[task.exemplars :], rows])
        found = retrieval(places, DEPTHS)
        pairs = np.subtract.outer(own[: task.exemplars], own[task.exemplars :])
        above = float((np.sign(pairs) + 1).mean() / 2) if pairs.size else np.nan
        values = [*(found.recall[k] for k in DEPTHS), found.average_precision, above]
        by_name.setdefault(task, []).append(values)
    return Found(tuple(by_name), np.array([np.mean(values, 0) for values in by_name.values()]))


class Scores(NamedTuple):
    """A method's scores: dampings, those of the portraits [damping, task, row], and of every task's
    exemplars, then decoys [damping, row]."""

    tasks: list[Customisation]
    dampings: list[float]
    others: np.ndarray
    own: list[np.ndarray]


def scores_of(run: Path, form: str, method: str) -> Scores:
    """From a run's folder."""
    tasks, place = tasks_of(run), run / FORMS[form]
    settings = json.loads((place / "abc.json").read_text())["settings"]
    dampings = sorted({settings["damping"], *settings["oracle_dampings"]})
    others = np.load(place / "scores" / f"{method}.npy", mmap_mode="r")
    own = np.load(place / "scores" / f"{method}-exemplars.npy")
    decoys = (own.shape[1] - sum(task.exemplars for task in tasks)) // len(tasks)
    ends = np.cumsum([task.exemplars + decoys for task in tasks])[:-1]
    return Scores(tasks, dampings, others, np.split(own, ends, axis=1))


def by_damping(run: Path, form: str, method: str) -> dict[float, Found]:
    """A method's measures at every damping of a run."""
    tasks, dampings, others, own = scores_of(run, form, method)
    return {
        damping: measured(tasks, [scores[place] for scores in own], others[place])
        for place, damping in enumerate(dampings)
    }


class Ends(NamedTuple):
    """Where exemplars stand among the portraits: the shares of them above 99% and below 99%, and
    the median of their distance from the portraits' mean in standard deviations."""

    top: float
    bottom: float
    distance: float


def ends_of(run: Path, form: str, method: str, damping: float, left_out: set[str]) -> Ends:
    """Of all customisations but some."""
    tasks, dampings, others, own = scores_of(run, form, method)
    place, share, distance = dampings.index(damping), [], []
    for task, rows, scores in zip(tasks, others[place], own, strict=True):
        if task.name not in left_out:
            mine = scores[place, : task.exemplars]
            share += [float((rows < one).mean()) for one in mine]
            distance += ((mine - rows.mean()) / rows.std()).tolist()
    above = np.array(share)
    return Ends(float((above > 0.99).mean()), float((above < 0.01).mean()), np.median(distance))


def reference(run: Path, form: str, method: str) -> Found:
    """The measures of a reference, which has no damping."""
    rows = json.loads((run / FORMS[form] / "abc.json").read_text())["rows"]
    by_name: dict[Customisation, list[list[float]]] = {}
    for task, row in zip(tasks_of(run), (r for r in rows if r["method"] == method), strict=True):
        recalls = [row["recall"][str(k)] for k in DEPTHS]
        by_name.setdefault(task, []).append([*recalls, row["average_precision"], np.nan])
    return Found(tuple(by_name), np.array([np.mean(values, 0) for values in by_name.values()]))


def best_damping(found: Mapping[float, Found]) -> float:
    """The one of the best Recall@10, then average precision; of equals the larger."""

    def rank(damping: float) -> tuple[float, float, float]:
        one = found[damping]
        return (*(round(one.of(m).mean(), 9) for m in ("recall@10", "mAP")), damping)  # type: ignore[return-value]

    return max(found, key=rank)


def interval(values: np.ndarray) -> Interval:
    """Mean over customisations with its 95% bootstrap interval."""
    return bootstrap_mean([values])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))


def cell(found: Interval) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
