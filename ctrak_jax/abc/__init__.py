"""The AbC benchmark: features of LAION and of the exemplars, questions, scores, Recall and mAP.

Every LAION row is featurized once, whatever the number of tasks; the exemplars of a customised
model once, whatever the number of its tasks. Scores are those of equation (7.5): the customised
model has learned from LAION and from its exemplars, and every candidate is damped by its own share,
as it must be to compare exemplars with LAION.

    DIR/probe.json                     what the model predicts, by the loss of one batch
    DIR/features/<store>/              LAION, by method's training gradient
    DIR/exemplars/features/<store>/    the exemplars
    DIR/queries/<method>/              the tasks
    DIR/scores/<method>.npy            float32 [damping, task, LAION row]
    DIR/exemplars/<method>.csv         score and rank of every exemplar
    DIR/abc.json, abc.csv, abc.md      the measures
    DIR/controls/<control>/            the same of other candidates (:mod:`ctrak_jax.abc.controls`)
    DIR/controls.md                    Recall@10 of all of them
"""

from pathlib import Path

from ctrak_jax import hosts
from ctrak_jax.abc.prepared import prepare
from ctrak_jax.abc.questions import ask
from ctrak_jax.abc.results import write_controls
from ctrak_jax.abc.scores import write_scores
from ctrak_jax.config import Config, dump
from ctrak_jax.progress import Overall, tracked
from ctrak_jax.store.files import in_folder, write_atomically

__all__ = ["run"]

STAGES = "LAION", "exemplars", "questions", "scores"
"""Of the benchmark, in order."""


def run(config: Config, out: Path, *, allow_missing_token: bool = False) -> None:
    """Every task of ``data.path`` by every method of ``methods``; each part is skipped where its
    result is there and its inputs are unchanged.

    Args:
        config: of the benchmark; its controls are further candidates.
        out: where the results go.
        allow_missing_token: have a token that has no file read as the text encoder splits it.

    Raises:
        UsageError: another kind of data set, a method without features, or what the readers of the
            benchmark and of the model find wrong.
        StoreError: results of other settings.
    """
    bench = in_folder(out, lambda: prepare(config, out, allow_missing_token=allow_missing_token))
    forms = [bench, *map(bench.under, config.compared_controls)]
    if hosts.is_first():
        bench.leave_model()
        bench.probe()
    hosts.barrier("model")
    with tracked(out, "abc", Overall(STAGES), hosts.this()) as overall:
        overall.begin("LAION")
        bench.laion().featurize()
        overall.begin("exemplars")
        for form in forms:
            form.exemplar_candidates().featurize()
        overall.begin("questions")
        if hosts.is_first():
            ask(bench)
        hosts.barrier("asked")
        overall.begin("scores")
        for form in forms:
            write_scores(form)
    if hosts.is_first():
        write_controls(forms)
        write_atomically(out / "config.yaml", dump(config))
    hosts.barrier("abc")
