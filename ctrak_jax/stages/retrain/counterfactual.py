r"""Retraining without the samples that rank highest for a concept: does the model lose it?

The model is trained again, from the same seed and for as many steps, without the training images
that a method ranks first for a global question (condition c, concept), among all candidates or
among those that do not name the concept's attribute; and once without as many at random among the
same. Questions with the same images first share a training. Of each model theta' two things are
measured under c, beside the run's own theta, from the same noise:

* the concept's presence, the share of theta''s images that show it clearly by a rule on pixels
  (what a concept's attribution is about: method.md, section 1), where the run checks queries so;
* the rise of the denoising loss of theta's images (Wang et al. 2024 judge a ranking by it), mean
  over images and attribution timesteps:

.. math::
    L(x; \theta') - L(x; \theta)                                                          \tag{7.6}

A ranking that found the teachers takes the concept away where the random removal leaves it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np

from ctrak_jax.attribution.unlearning import NoisedBatch, denoising_losses
from ctrak_jax.config.scoring import REMOVED_BY
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.devices import in_batches
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger, meter, stage
from ctrak_jax.methods import METHODS
from ctrak_jax.models.training import Trainer
from ctrak_jax.progress import Meter
from ctrak_jax.report import write_counterfactual_sheet
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.questions import Question
from ctrak_jax.run.retraining import (
    NOTHING,
    RANDOM,
    RemovalRow,
    RemovalTable,
    left_out,
    read_counterfactual,
    write_counterfactual,
)
from ctrak_jax.run.variants import MAIN
from ctrak_jax.stages import score, train
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import sampler
from ctrak_jax.stages.retrain.models import IMAGES_APART, presence, require_able, trained, without
from ctrak_jax.store import read_scores
from ctrak_jax.store.files import require_writable
from ctrak_jax.typing import Array, Params

DRAWN_BY = 4
"""The random stream of the images left out at random."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Training images left out of one training.

    Attributes:
        by: the method that ranked them first, or :data:`RANDOM`, or :data:`NOTHING`.
        index: of the data set, ascending.
        asked: the questions that are looked at afterwards.
    """

    by: str
    index: np.ndarray
    asked: tuple[Question, ...]

    @property
    def name(self) -> str:
        """The folder of its model."""
        which = hashlib.sha256(self.index.astype(np.int64).tobytes()).hexdigest()[:8]
        return f"{self.by}-{len(self.index)}-{which}"


def run(out: Path, contexts: Sequence[Context]) -> RemovalTable:
    """Train, measure and draw; what is already there is not made again.

    Returns:
        What ``out/counterfactual.json`` holds.

    Raises:
        UsageError: the run cannot be asked this.
        StoreError: a result of it is missing or damaged.
    """
    plans = [(ctx, removals(ctx)) for ctx in contexts]
    config, file = contexts[0].config, out / "counterfactual.json"
    whole = RunFolder(root=out)
    key = {
        "scores": [score.key(ctx, MAIN) for ctx in contexts],
        **settings_of(config, "counterfactual"),
    }
    if whole.fresh("counterfactual", key, file):
        return read_counterfactual(file)
    require_writable(out)
    measures = [_Measure(ctx) for ctx in contexts]  # reads the models before the first training
    with stage(out, "counterfactual", contexts[0].mesh.size) as record:
        program = train.make_trainer(train.training_of(contexts[0]))
        wanted = Counter(_effort(one) for _, planned in plans for one in planned)
        with meter("counterfactual", wanted) as bar:
            rows = tuple(
                row
                for measure, (ctx, planned) in zip(measures, plans, strict=True)
                for row in _measured(ctx, measure, planned, program, bar)
            )
        record.samples = len(rows)
        result = RemovalTable(rows=rows, settings=config.model_dump(mode="json"))
        write_counterfactual(file, result)
    whole.finish("counterfactual", key)
    return result


def removals(ctx: Context) -> list[Removal]:
    """What is left out for one seed: nothing, images at random, and the first of every ranking.

    Raises:
        UsageError: the run was not asked globally, keeps no scores, trained no model of its own or
            has too few images.
        StoreError: scores are missing, damaged or of other settings.
    """
    _require_able(ctx)
    wanted, candidates = ctx.config.counterfactual, ctx.dataset.train_index
    for attribute in _attributes(ctx):
        able, words = len(removable(ctx, attribute)), "that are ranked"
        if wanted.among == "unlabelled":
            words += f" and do not name {attribute}"
        if wanted.remove >= able:
            raise UsageError(
                f"counterfactual.remove={wanted.remove} must be less than the {able} training "
                f"images {words}; lower it."
            )
    score.require(ctx, MAIN)
    chosen = {
        i: q
        for i, q in enumerate(ctx.questions())
        if q.scope == "global"
        and q.scenario in wanted.scenarios
        and q.attribute in _attributes(ctx)
    }
    lacking = set(wanted.scenarios) - {q.scenario for q in chosen.values()}
    if lacking:
        raise UsageError(
            f"counterfactual.scenarios={list(wanted.scenarios)}: the run has no global question "
            f"of {sorted(lacking)}; leave it out, or hold a combination out (data.hold_out)."
        )
    if len(candidates) < len(ctx.training_set.train_index):
        logger.warning(
            "data.candidates: %d of %d training images are ranked; the others stay in training, "
            "with what they teach",
            len(candidates),
            len(ctx.training_set.train_index),
        )
    every = tuple(chosen.values())
    planned = [Removal(by=NOTHING, index=np.array([], np.int64), asked=every)]
    for by in (RANDOM, *wanted.methods):
        scores = None if by == RANDOM else read_scores(ctx.folder.scores(by))
        shared: dict[tuple[int, ...], list[Question]] = {}
        for i, question in chosen.items():
            able = removable(ctx, question.attribute)
            if scores is None:
                order = np.random.default_rng((ctx.seed, DRAWN_BY)).permutation(len(able))
            else:
                order = np.argsort(-scores[i, able], kind="stable")
            index = np.sort(candidates[able[order[: wanted.remove]]])
            shared.setdefault(tuple(index.tolist()), []).append(question)
        planned += [
            Removal(by=by, index=np.array(index), asked=tuple(asked))
            for index, asked in shared.items()
        ]
    return planned


def removable(ctx: Context, attribute: str) -> np.ndarray:
    """The rows of the candidates that may be left out for a question about an attribute: all, or
    those that do not name it (``counterfactual.among``)."""
    if ctx.config.counterfactual.among == "all":
        return np.arange(len(ctx.dataset.train_index))
    return np.flatnonzero(~ctx.dataset.named(attribute))


def _attributes(ctx: Context) -> list[str]:
    """Those that questions are tested about."""
    hidden, every = ctx.dataset.hidden, ctx.dataset.conditions.attributes
    return [a for a in every if ctx.config.counterfactual.among == "all" or a in hidden]


def _require_able(ctx: Context) -> None:
    require_able(ctx, "counterfactual")
    config, wanted = ctx.config, ctx.config.counterfactual
    able = [m for m in config.compared if m in REMOVED_BY and METHODS[m].kind != "unlearning"]
    absent = [m for m in wanted.methods if m not in able]
    if absent:
        advice = f"use some of {able}" if able else "add concept-trak to methods"
        raise UsageError(
            f"counterfactual.methods: {absent[0]!r} ranks for no global question of this run; "
            f"{advice}."
        )
    if "global" not in config.query.scopes:
        raise UsageError(
            f"counterfactual needs global questions, query.scopes={list(config.query.scopes)}; add "
            "global and run it again."
        )


def _measured(
    ctx: Context, measure: "_Measure", planned: Sequence[Removal], program: Trainer, bar: Meter
) -> list[RemovalRow]:
    """The rows of one seed, and a sheet of images per question."""
    own, rows, folder = train.training_of(ctx), [], ctx.folder.root / "counterfactual"
    sheets: dict[str, dict[str, np.ndarray]] = {}
    for number, removal in enumerate(planned):
        named = left_out(removal.by, len(removal.index))
        data, params = without(ctx.training_set, removal.index), measure.params
        if removal.by != NOTHING:
            logger.info(
                "counterfactual (seed %d) %d/%d: without %s",
                *(ctx.seed, number, len(planned) - 1, named),
            )
            again = own._replace(folder=folder / removal.name / "model", data=data)
            params = trained(again, program, "counterfactual")
        drawn = {q.query: measure.sample(params, q) for q in removal.asked}
        rise = {q.query: measure.loss_rise(params, q) for q in removal.asked}
        for question in removal.asked:
            images = drawn[question.query]
            row = RemovalRow(
                seed=ctx.seed,
                **question.columns,
                removed_by=removal.by,
                removed=len(removal.index),
                carriers_removed=_count(ctx, removal.index, question),
                carriers_left=_count(ctx, data.train_index, question),
                presence=presence(ctx, images, question),
                loss_rise=rise[question.query],
            )
            rows.append(row)
            sheet = sheets.setdefault(f"{question.query}-{question.attribute}", {})
            sheet[f"without {named}"] = images
        bar.advance(1, _effort(removal))
    for name, images in sheets.items():
        write_counterfactual_sheet(folder, name, images)
    return rows


def _effort(removal: Removal) -> str:
    """The same of removals that take equally long."""
    return "kept" if removal.by == NOTHING else "retrained"


def _count(ctx: Context, index: np.ndarray, question: Question) -> int:
    """How many of the images carry the concept."""
    values = ctx.dataset.raw.attributes[question.attribute]
    return sum(values[i] == question.value for i in index)


class _Measure:
    """Images and losses of one seed under any of its models."""

    def __init__(self, ctx: Context) -> None:
        denoiser = ctx.load()
        self.params, self._ctx, self._eps_fn = denoiser.params, ctx, denoiser.eps_fn
        self._draw = sampler(ctx, denoiser)
        self._before: dict[str, tuple[np.ndarray, float]] = {}

    def sample(self, params: Params, question: Question) -> np.ndarray:
        """What a model makes under a question's condition: uint8 [n, H, W, 3]."""
        cond = self._condition(question)
        return self._over(lambda rows: self._draw(params, cond, rows + IMAGES_APART))

    def loss_rise(self, params: Params, question: Question) -> float:
        """Equation (7.6) of the run's own images."""
        if question.query not in self._before:
            images = self.sample(self.params, question)
            self._before[question.query] = images, self._loss(self.params, question, images)
        images, before = self._before[question.query]
        return self._loss(params, question, images) - before

    def _loss(self, params: Params, question: Question, images: np.ndarray) -> float:
        x0, cond = to_unit(images), self._condition(question)
        conds = np.broadcast_to(cond, (len(x0), *cond.shape))

        def losses(rows: np.ndarray) -> Array:
            batch = NoisedBatch(x0[rows], conds[rows], rows + IMAGES_APART)
            return self._losses(params, batch)

        return float(self._over(losses).mean())

    @cached_property
    def _losses(self) -> Callable[..., Array]:
        return jax.jit(partial(denoising_losses, self._ctx.recipe, self._eps_fn))

    def _condition(self, question: Question) -> np.ndarray:
        return self._ctx.inputs.condition(question.condition, question.prompt)

    def _over(self, fn: Callable[[np.ndarray], Array]) -> np.ndarray:
        count = self._ctx.config.counterfactual.images
        return in_batches(fn, count, min(count, self._ctx.config.gradient.batch))
