"""Retraining on random subsets of the candidates: do scores predict what the models then do?

Subset m of the candidates is drawn, the model is trained again from the same seed and for as many
steps without the other candidates, and three outputs of it are measured for every reported question
(method.md, section 10): the loss of the question's image, the concept's loss, and the presence of
the concept in what it generates. The linear datamodeling score of a method is how well the sums of
its scores order these models. Further trainings on the same subset, from other seeds, average what
the accidents of one training do to its outputs.

Each retraining leaves ``lds/subset-NNN/outputs.json``, or ``lds/subset-NNN/again-J/outputs.json``
for J > 0; a command that is stopped resumes there. Every command numbers subsets and
trainings alike, so several commands can each do a :class:`CommandPart` of them.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax import devices, hosts
from ctrak_jax.attribution.outputs import QuestionStates, outputs, question_states
from ctrak_jax.config import LdsConfig
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.questions import by_image
from ctrak_jax.log import deadline, logger, meter, stage
from ctrak_jax.models.training import Trainer
from ctrak_jax.run import questions
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.keys import settings_of
from ctrak_jax.run.questions import Question
from ctrak_jax.run.retraining import (
    LdsTable,
    QuestionOutputs,
    SubsetOutputs,
    read_lds,
    read_outputs,
    write_lds,
    write_outputs,
)
from ctrak_jax.run.variants import unnamed
from ctrak_jax.stages import score, train
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import sampler
from ctrak_jax.stages.retrain import summary
from ctrak_jax.stages.retrain.models import IMAGES_APART, presence, require_able, trained, without
from ctrak_jax.stages.train import ModelTraining
from ctrak_jax.store.files import plain, require_writable
from ctrak_jax.terminal.lds import lds_markdown
from ctrak_jax.typing import Params

DRAWN_BY = 7
"""The random stream of the subsets."""
TRAINED_BY = 8
"""The random stream of the seeds of further trainings."""


class CommandPart(NamedTuple):
    """Which retrainings of their list a command does: number - 1 modulo ``of``."""

    number: int = 1
    of: int = 1


WHOLE = CommandPart()


class Retraining(NamedTuple):
    """One of a run: a subset, and a training on it."""

    subset: int
    training: int = 0


def run(out: Path, contexts: Sequence[Context], part: CommandPart = WHOLE) -> LdsTable | None:
    """Train and measure this command's part; once all are there, ``out/lds.json``.

    Returns:
        What the file holds; None where retrainings of other parts are missing, and in every
        process but the first.

    Raises:
        UsageError: the run cannot be asked this.
        StoreError: a result of it is missing or damaged, or outputs of other settings are there.
    """
    plans = [Retrainings(ctx) for ctx in contexts]
    config, file, whole = contexts[0].config, out / "lds.json", RunFolder(root=out)
    scores = [score.key(ctx, one) for ctx in contexts for one in summary.compared(ctx)]
    key = {"scores": scores, **settings_of(config, "lds")}
    finished = whole.fresh("lds", key, file, out / "lds.md")
    mine = retrainings(config.lds)[part.number - 1 :: part.of]
    todo = [(plan, one) for plan in plans for one in mine if plan.found(one) is None]
    hosts.barrier("lds asked")  # all have looked before the first one writes
    if finished and not todo:
        return read_lds(file)
    require_writable(out)
    if unnamed(config) and len(summary.compared(contexts[0])) == 1:
        logger.warning(
            "lds: unnamed.candidates=%s are not all candidates, so only the named scores predict",
            config.unnamed.candidates,
        )
    if "reward" in config.methods:
        logger.warning("lds: the output concept is the slider's, so method reward has no row there")
    with stage(out, "lds", contexts[0].mesh.size) as record:
        program = train.make_trainer(train.training_of(contexts[0]))
        ours = hosts.share(todo)
        with meter("lds", len(ours)) as bar:
            for plan, one in ours:
                if record.samples:
                    deadline.check()
                plan.retrain(one, program)
                record.samples += 1
                bar.advance(1)
        hosts.barrier("lds retrained")
        every = retrainings(config.lds)
        missing = sum(plan.found(one) is None for plan in plans for one in every)
        if missing:
            logger.info("lds: %d retrainings of other parts are missing", missing)
        if missing or not hosts.is_first():
            return None
        result = summary.collect(
            out / "lds", contexts, [plan.members for plan in plans], [plan.all() for plan in plans]
        )
        write_lds(file, result)
        (out / "lds.md").write_text(lds_markdown(result), encoding="utf-8")
    whole.finish("lds", key)
    return result


def retrainings(wanted: LdsConfig) -> list[Retraining]:
    """All in the order they are done: one training on every subset before the next on any."""
    return [
        Retraining(subset, training)
        for training in range(wanted.trainings)
        for subset in range(wanted.subsets)
    ]


def training_seed(seed: int, training: int) -> int:
    """The seed of a training on every subset: the run's own for the first."""
    if training == 0:
        return seed
    drawn = np.random.default_rng((seed, TRAINED_BY, training)).integers(2**31)
    return int(drawn)


def subsets(candidates: np.ndarray, count: int, share: float, seed: int) -> list[np.ndarray]:
    """Subsets of the candidates, each drawn by its own number: more keep the first ones."""
    size = round(share * len(candidates))
    if not 0 < size < len(candidates):
        raise UsageError(
            f"lds.share={share} of {len(candidates)} candidates is {size} of them; expected at "
            "least one and not all, change it."
        )
    drawn = (
        np.random.default_rng((seed, DRAWN_BY, m)).permutation(candidates) for m in range(count)
    )
    return [np.sort(order[:size]) for order in drawn]


class Retrainings:
    """The retrainings of one training seed of the run."""

    def __init__(self, ctx: Context) -> None:
        """
        Raises:
            UsageError: the run trained no model of its own, or keeps no scores.
            StoreError: scores are missing, damaged or of other settings.
        """
        require_able(ctx, "lds")
        for variant in summary.compared(ctx):
            score.require(ctx, variant)
        wanted, self._ctx = ctx.config.lds, ctx
        candidates = ctx.dataset.train_index
        self._subsets = subsets(candidates, wanted.subsets, wanted.share, wanted.seed)
        self.members = np.stack([np.isin(candidates, subset) for subset in self._subsets])
        self._keys: dict[Retraining, dict[str, Any]] = {}

    def retrain(self, one: Retraining, program: Trainer) -> None:
        """Leave the outputs of a retraining, and its model only where it is kept.

        Args:
            one: which of them.
            program: of any training of the run.

        Raises:
            StoreError: a model that is there is damaged or of other settings.
        """
        ctx, training, every = self._ctx, self._training(one), retrainings(self._ctx.config.lds)
        number = every.index(one) + 1
        logger.info("lds (seed %d): retraining %d of %d", ctx.seed, number, len(every))
        params = trained(training, program, "lds")
        found = SubsetOutputs(
            made_from=self._key(one),
            subset=tuple(self._subsets[one.subset].tolist()),
            outputs=tuple(self._measure(params)),
        )
        write_outputs(self._file(one), found)
        self._tidy(one)

    def found(self, one: Retraining) -> SubsetOutputs | None:
        """The outputs of a retraining; None where its model is still to be trained or measured.

        Raises:
            StoreError: damaged, or of other settings and no model is there to be measured again.
        """
        file, wanted = self._file(one), self._key(one)
        if not file.exists():
            return None
        outputs = read_outputs(file)
        differing = [name for name in wanted if outputs.made_from.get(name) != wanted[name]]
        if not differing:
            self._tidy(one)
            return outputs
        if train.done(self._training(one)):
            return None
        raise StoreError(
            f"{file} was made from other settings ({', '.join(differing)} differ); use another "
            f"--out, or delete {self._folder} to retrain."
        )

    def all(self) -> list[list[SubsetOutputs]]:
        """The outputs of every retraining that is there, training by training."""
        trainings = range(self._ctx.config.lds.trainings)
        every = [(one, self.found(one)) for one in retrainings(self._ctx.config.lds)]
        return [
            [found for one, found in every if one.training == training and found is not None]
            for training in trainings
        ]

    def _tidy(self, one: Retraining) -> None:
        """Delete the model of outputs that are there, unless models are kept."""
        if not self._ctx.config.lds.keep_models:
            shutil.rmtree(self._training(one).folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self._ctx.folder.root / "lds"

    def _file(self, one: Retraining) -> Path:
        again = f"again-{one.training}" if one.training else "."
        return self._folder / f"subset-{one.subset:03d}" / again / "outputs.json"

    def _training(self, one: Retraining) -> ModelTraining:
        ctx = self._ctx
        left_out = np.setdiff1d(ctx.dataset.train_index, self._subsets[one.subset])
        return self._own._replace(
            folder=self._file(one).parent / "model",
            data=without(ctx.training_set, left_out),
            seed=training_seed(ctx.seed, one.training),
        )

    def _key(self, one: Retraining) -> dict[str, Any]:
        """What the outputs of a retraining depend on."""
        if one not in self._keys:
            ctx = self._ctx
            self._keys[one] = plain(
                {
                    **ctx.upstream(),
                    "questions": questions.fingerprint(ctx.folder.queries),
                    "training": self._training(one).made_from,
                    **settings_of(ctx.config, "outputs of a subset"),
                }
            )
        return self._keys[one]

    @cached_property
    def _own(self) -> ModelTraining:
        return train.training_of(self._ctx)

    @cached_property
    def _measure(self) -> "_OutputMeasure":
        return _OutputMeasure(self._ctx)


def asked_of(ctx: Context) -> list[int]:
    """Rows of the questions that are measured: the reported ones, or ``lds.questions`` images of
    each scope and scenario, in turns over their combinations."""
    asked, limit = ctx.questions(), ctx.config.lds.questions
    images: dict[tuple[str, str], dict[str, list[int]]] = {}
    for row, q in enumerate(asked):
        if q.split == "report" and not q.mask:
            images.setdefault((q.scope, q.scenario), {}).setdefault(q.query, []).append(row)
    rows = []
    for group in images.values():
        seen: dict[str, int] = {}
        turns = {}
        for query, members in group.items():
            combination = str(asked[members[0]].condition)
            turns[query] = seen[combination] = seen.get(combination, -1) + 1
        first = sorted(group, key=lambda query: turns[query])[:limit]
        rows += [row for query in first for row in group[query]]
    return sorted(rows)


class _OutputMeasure:
    """The outputs of any model; what the full model fixes is computed once."""

    def __init__(self, ctx: Context) -> None:
        denoiser, schedule = ctx.load(), ctx.recipe.schedule
        self._ctx, self._eps_fn = ctx, denoiser.exact_fn
        self._asked, self._rows = ctx.questions(), asked_of(ctx)
        self._draw = sampler(ctx, denoiser)
        self._batches = list(self._fixed(denoiser.params))
        self._outputs = devices.over_samples(partial(outputs, schedule, self._eps_fn), ctx.mesh)

    def __call__(self, params: Params) -> Iterator[QuestionOutputs]:
        """The outputs of a model, question by question."""
        losses: dict[int, float] = {}
        concepts: dict[int, float] = {}
        for groups, states in self._batches:
            found = jax.tree.map(np.asarray, self._outputs(params, states))
            for group, loss, concept in zip(groups, *found, strict=False):  # the batch is padded
                losses |= dict.fromkeys(group.tolist(), float(loss))
                concepts |= dict(zip(group.tolist(), concept.tolist(), strict=True))
        images = self._images(params)
        for row in self._rows:
            q = self._asked[row]
            yield QuestionOutputs(
                query=q.query,
                attribute=q.attribute,
                loss=losses[row],
                concept=concepts[row],
                presence=presence(self._ctx, images[_named(q)], q) if images else None,
            )

    def _fixed(self, params: Params) -> Iterator[tuple[np.ndarray, QuestionStates]]:
        """Batches of images, by rows of questions [image, concept], and what is fixed of them."""
        ctx, asked = self._ctx, self._asked
        null = ctx.inputs.null
        for scope in ctx.config.query.scopes:
            groups = by_image(asked, [row for row in self._rows if asked[row].scope == scope])
            recipe = ctx.query_recipe(scope)
            recipe = replace(recipe, members=min(recipe.members, ctx.config.lds.members))
            step = partial(question_states, recipe, self._eps_fn, null=null)
            program = devices.over_samples(step, ctx.mesh)
            size = min(ctx.config.gradient.batch, len(groups))
            for first in range(0, len(groups), size or 1):
                batch = groups[first : first + size]
                whole = devices.padded(batch, size + -size % ctx.mesh.size)
                found = program(params, ctx.question_inputs.batch(asked, whole))
                yield batch, jax.tree.map(np.asarray, found)

    def _images(self, params: Params) -> Mapping[str, np.ndarray]:
        """What a model makes of every condition; nothing where no concept is checked."""
        ctx, found = self._ctx, {}
        if ctx.config.query.check == "none":
            return found
        count = ctx.config.lds.images
        for row in self._rows:
            q = self._asked[row]
            if _named(q) not in found:
                draw = partial(self._draw, params, ctx.inputs.condition(q.condition, q.prompt))
                found[_named(q)] = devices.in_batches(
                    lambda numbers, draw=draw: draw(numbers + IMAGES_APART),
                    count,
                    min(count, ctx.config.gradient.batch),
                )
        return found


def _named(question: Question) -> str:
    return str(question.condition)
