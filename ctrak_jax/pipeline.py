"""The data flow of a run.

The data set is built; for every training seed a model is trained on it, its training images are
encoded where the model wants latents and text, and featurized, images are generated and asked
about, and every training image is scored for every question; then all seeds are evaluated together
and reported. Variants repeat the middle of this with one thing changed: controls, and candidates
whose conditions do not name the attribute asked about.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax

from ctrak_jax import data, hosts, log
from ctrak_jax.config import Config, DataConfig, dump
from ctrak_jax.data.faults import write_faults
from ctrak_jax.data.looking import RECORD, Record
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.progress import Basis, Overall, parts, tracked
from ctrak_jax.prompts import unfound_words
from ctrak_jax.run.folder import seed_folder
from ctrak_jax.run.state.logs import earlier
from ctrak_jax.run.variants import MAIN, Variant, controls, feature_set, unnamed, variants
from ctrak_jax.stages import (
    encode,
    ensemble,
    evaluate,
    featurize,
    probe,
    query,
    references,
    report,
    score,
    train,
    tune,
)
from ctrak_jax.stages.ask.classifier import fit_for_run, is_fitted
from ctrak_jax.stages.ask.rewards import check_for_run
from ctrak_jax.stages.context import Context
from ctrak_jax.start import costs
from ctrak_jax.store.files import in_folder, write_atomically


def prepare(config: Config, out: Path, *, asking: bool = False) -> list[Context]:
    """The data set, and one context per training seed. Writes the resolved config of a new run;
    that of an earlier one stays until a stage has gone through under this one (:func:`run`).

    Args:
        asking: a reward is looked at, too; one that the run fits is looked at afterwards
            (:func:`run`), and so is the config written.

    Raises:
        UsageError: the data or the devices cannot be as configured, or there are fewer images than
            ``evaluate.k``, or a pattern of ``gradient`` matches no parameter, or a column of
            ``report.groups`` is none, or questions cannot be asked with the reward.
        StoreError: the models in ``out`` were made from other settings.
    """
    contexts = _contexts(config, out)
    depth, count = max(config.evaluate.k), len(contexts[0].dataset.train_index)
    if depth > count:
        raise UsageError(
            f"evaluate.k={list(config.evaluate.k)}: precision@{depth} needs as many training "
            f"images, there are {count}; lower it, or raise data.size or data.candidates."
        )
    _count(contexts[0])
    for column in config.report.groups:
        contexts[0].dataset.grouped(column)
    if "similarity-clip" in config.compared:
        references.clip_key(contexts[0])  # refuses a folder that holds no such model
    if asking and not is_fitted(config):
        check_for_run(contexts[0])
    if hosts.is_first():
        _list_skipped(out, contexts[0].training_set)
        _warn_of_words(contexts[0].training_set)
    if not (asking and is_fitted(config)):
        _keep_config(config, out)
    return contexts


def _keep_config(config: Config, out: Path) -> None:
    """Write the resolved config of a new run."""
    if hosts.is_first() and not (out / "config.yaml").exists():
        write_atomically(out / "config.yaml", dump(config))


def _count(ctx: Context) -> None:
    """Apply the patterns of ``gradient`` for every variant, and say how much the main one takes."""
    selected = {variant: ctx.parameters(variant) for variant in (MAIN, *variants(ctx.config))}
    whole = sum(leaf.size for leaf in jax.tree.leaves(ctx.architecture.template))
    said = f"{selected[MAIN]:,} of {whole:,} parameters ({', '.join(ctx.config.gradient.include)})"
    if hosts.is_first():
        logger.info("gradients of %s", said)


def _contexts(config: Config, out: Path) -> list[Context]:
    """One context per training seed; models that are there are of these settings."""
    by_caption = config.model.kind == "text-to-image"
    training_set = _training_set(config.data, out, by_caption=by_caption)
    mesh = local_mesh(config.run.devices, config.mesh.model)
    dataset = training_set
    if config.data.candidates is not None:
        dataset = training_set.subset(config.data.candidates, config.data.seed)
    contexts = [
        Context(
            config=config,
            folder=seed_folder(config, out, seed),
            seed=seed,
            training_set=training_set,
            dataset=dataset,
            mesh=mesh,
        )
        for seed in config.run.seeds
    ]
    for ctx in contexts:
        train.done(train.training_of(ctx))  # refuses what is there from other settings
    return contexts


def _training_set(config: DataConfig, out: Path, *, by_caption: bool = False) -> data.Dataset:
    """The data set. Where that decodes all pictures, the first process does, and the others read
    its record: all leave out the same ones."""
    record = Record(out / RECORD, is_written=hosts.is_first())
    skipping = config.bad_pictures == "skip"
    if skipping and not hosts.is_first():
        hosts.barrier("pictures decoded")
    found = data.build(config, record=record, by_caption=by_caption)
    if skipping and hosts.is_first():
        hosts.barrier("pictures decoded")
    return found


def _warn_of_words(training_set: data.Dataset) -> None:
    """Say which captions name an attribute in words that are not found."""
    raw, names = training_set.raw, training_set.conditions.attributes
    if training_set.by_caption and raw.prompts:
        for found in unfound_words({name: raw.attributes[name] for name in names}, raw.prompts):
            logger.warning("%s", found)


def _list_skipped(out: Path, training_set: data.Dataset) -> None:
    """Write which samples of the data set were left out, if any."""
    file, skipped = out / "skipped.csv", training_set.raw.skipped
    if skipped:
        write_faults(file, skipped)
    else:
        file.unlink(missing_ok=True)


def run_train(out: Path, contexts: list[Context]) -> None:
    """A model for every seed."""
    alone = contexts[0].config.model.kind == "dit"  # another kind has two trainings
    for ctx in parts(contexts, [1.0 if alone else None] * len(contexts)):
        train.run(ctx)


def run_encode(out: Path, contexts: list[Context]) -> None:
    """Latents and text embeddings, where the model is a text-to-image one."""
    for ctx in parts(contexts, [1.0] * len(contexts)):
        encode.run(ctx)


def run_featurize(out: Path, contexts: list[Context]) -> None:
    """Features of the training images, of every variant."""
    every = [(ctx, variant) for ctx in contexts for variant in variants(ctx.config)]
    for ctx, variant in parts(every, [_passes(*one) for one in every]):
        featurize.run(ctx, variant)


def _passes(ctx: Context, variant: Variant) -> float:
    """Forward passes that the features of a variant take."""
    found = feature_set(ctx.config, variant, len(ctx.dataset.train_index))
    return float(found.samples * found.passes(ctx.config) if found.specs(ctx.config) else 0)


def run_query(out: Path, contexts: list[Context]) -> None:
    """Images to ask about, and the features of the questions."""
    first, together = contexts[0], contexts[0].config.score.ensemble
    steps: list[Callable[[], None]] = []
    for ctx in contexts:
        like = first if together and ctx is not first else None
        steps.append(partial(query.generate, ctx, like=like))
        asked = [v for v in variants(ctx.config) if v is MAIN or v.changes_network]
        steps += [partial(query.featurize, ctx, variant) for variant in asked]
    for step in parts(steps):
        step()


def run_score(out: Path, contexts: list[Context]) -> None:
    """Scores and rankings, of every variant: first of those that answer main questions."""
    order = [*unnamed(contexts[0].config), MAIN, *controls(contexts[0].config)]
    for ctx, variant in parts([(ctx, variant) for ctx in contexts for variant in order]):
        score.run(ctx, variant)
    if contexts[0].config.score.ensemble and hosts.is_first():
        ensemble.run(out, contexts)


STAGES: dict[str, Callable[[Path, list[Context]], None]] = {
    "train": run_train,
    "encode": run_encode,
    "featurize": run_featurize,
    "query": run_query,
    "score": run_score,
    "evaluate": evaluate.run,
    "report": report.run,
}
"""Every stage by name, in order."""
QUESTIONS = ("query", "score", "evaluate", "report")
"""Stages about questions that a run asks itself."""
SHARED = ("encode", "featurize", "score")
"""Stages in which every process takes part; the others are the first one's."""


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages of a whole run: without attributes to ask about it ends with the features, and
    questions are asked by ``ctrak attribute --prompt``."""
    asking = bool(config.data.condition_on)
    return tuple(name for name in STAGES if asking or name not in QUESTIONS)


def run(
    config: Config, out: Path, stages: Sequence[str] = tuple(STAGES), command: str = ""
) -> None:
    """Stages in order, each skipped where its result is there and its inputs are unchanged; then
    the config is that of ``out``.

    Args:
        command: that a user called, for ``ctrak status``; by default the stages say it.

    Raises:
        OutOfTime: the command's time is up, and stages are left.
    """
    contexts = in_folder(out, lambda: prepare(config, out, asking="query" in stages))
    words = config.model.kind == "text-to-image"
    needed = [name for name in stages if words or name != "encode"]
    overall = Overall(needed, _basis(config, out, contexts))
    command = command or ("run" if len(stages) > 1 else stages[0])
    with tracked(out, command, overall, hosts.this()):
        if "query" in stages and is_fitted(config):
            fit_for_run(contexts)
            check_for_run(contexts[0])
            _keep_config(config, out)
        for name in stages:
            if log.records():  # something was done
                log.deadline.check()
            overall.begin(name)
            if name in SHARED or hosts.is_first():
                STAGES[name](out, contexts)
            hosts.barrier(name)
    if hosts.is_first():
        write_atomically(out / "config.yaml", dump(config))


def _basis(config: Config, out: Path, contexts: Sequence[Context]) -> Basis:
    """What the time of stages can be told by: a run beside this one, or FLOPs of the networks."""
    ctx, q = contexts[0], config.query
    side, attributes = ctx.dataset.image_shape[0], len(config.data.condition_on)
    flops = {"featurize": costs.featurizing(config, side, len(ctx.dataset.train_index))}
    if config.model.kind == "dit" and config.model.checkpoint is None:
        flops["train"] = costs.training(config, side)
    if attributes:
        images = len(query.combinations(ctx)) * (q.per_combination + q.validation)
        flops["query"] = costs.questions(config, side, images, attributes)
    return Basis(
        seconds=earlier(out, dump(config), log.devices_of(ctx.mesh.size)),
        flops={name: len(contexts) * found for name, found in flops.items()},
    )


def run_tune(config: Config, out: Path) -> list[Path]:
    """A LoRA for every seed, beside the encoded data set that it was trained on; its files."""
    tune.require_base(config)
    contexts = in_folder(out, lambda: _contexts(config, out))
    _list_skipped(out, contexts[0].training_set)
    steps = {"train": train, "encode": encode, "probe": probe, "tune": tune}
    with tracked(out, "tune", Overall(tuple(steps))) as overall:
        for name, step in steps.items():
            overall.begin(name)
            for ctx in parts(contexts, [1.0] * len(contexts)):
                step.run(ctx)
    write_atomically(out / "config.yaml", dump(config))
    return [ctx.folder.root / tune.FILE for ctx in contexts]
