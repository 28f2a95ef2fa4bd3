"""A question of one's own to a run: what it is about, and how it is answered."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ctrak_jax import devices, fisher, score
from ctrak_jax.attribution import QueryBatch, mixtures, query_features, stacked
from ctrak_jax.config import DataConfig
from ctrak_jax.config.rules import NEEDED_BY, references_of
from ctrak_jax.data.dataset import handling_of
from ctrak_jax.data.decoding import decoded_picture, readable
from ctrak_jax.data.reading import read_bounded
from ctrak_jax.errors import StoreError, UsageError
from ctrak_jax.inputs.encoder import require_distinct_prompts
from ctrak_jax.inputs.masks import fitted, read_mask
from ctrak_jax.log import meter
from ctrak_jax.methods import METHODS, GradientSpec
from ctrak_jax.models import Denoiser
from ctrak_jax.prompts import without
from ctrak_jax.rewards import Concept, ConceptReward, params_of, rated
from ctrak_jax.run import model_file
from ctrak_jax.run.dampings import read_dampings
from ctrak_jax.run.features import TrainingFeatures, in_memory, ranked, solve
from ctrak_jax.run.questions import Scope
from ctrak_jax.run.variants import MAIN, Variant
from ctrak_jax.stages import unnamed
from ctrak_jax.stages.ask.rewards import reward_for_image
from ctrak_jax.stages.context import Context
from ctrak_jax.stages.query import sampler
from ctrak_jax.stages.score import load_features
from ctrak_jax.typing import Array, Cond

ANSWERING = ("gradients", "reference")
"""What answers a question at once."""


class Asking(NamedTuple):
    """A query image, uint8 [H, W, 3], its condition, for each concept its value (None for words)
    and the conditions without it [alternative, ...], whether the image or the model's own samples
    are meant, the number that fixes the noise, the part of the image that is asked about [H, W]
    (1 inside, None for all of it), and the reward of the network's samples that is asked with (None
    for the slider)."""

    image: np.ndarray
    cond: Cond
    concepts: Mapping[str, str | None]
    minus: Sequence[Cond]
    scope: Scope = "local"
    number: int = 0
    mask: np.ndarray | None = None
    reward: ConceptReward | None = None

    def about(self, concept: str) -> "Asking":
        """The same about one of the concepts alone."""
        place = list(self.concepts).index(concept)
        concepts = {concept: self.concepts[concept]}
        return self._replace(concepts=concepts, minus=[self.minus[place]])

    def batch(self, ctx: Context) -> QueryBatch:
        """The arrays of the one image and its concepts."""
        x0, index = ctx.inputs.encode(self.image[None]), np.full(1, self.number, np.int32)
        mask = None
        if self.mask is not None:
            mask = np.tile(fitted(self.mask, x0.shape[1:]), (1, len(self.concepts), 1, 1))
        target = None
        if self.reward is not None:
            of = [self.reward.target(Concept(*found)) for found in self.concepts.items()]
            target = np.stack(of)[None]
        return QueryBatch(x0, stacked([self.cond]), mixtures([self.minus]), index, mask, target)


class Answering(NamedTuple):
    """How a question is answered: the method, how many training images, the method's query gradient
    and the damping multiple r; a reference has neither. ``variant``: whose features are asked."""

    method: str
    top: int
    spec: GradientSpec | None = None
    damping: float | None = None
    variant: Variant = MAIN

    @property
    def by_reward(self) -> bool:
        """Is the question asked with a reward other than the slider?"""
        return self.spec is not None and self.spec.by_reward

    @property
    def about(self) -> dict[str, Any]:
        """What an answer says of it."""
        return {"method": self.method} | ({"damping": self.damping} if self.damping else {})


def judged(ctx: Context, asking: Asking, how: Answering) -> Asking:
    """The question with the config's reward, where it is asked with one.

    Raises:
        UsageError: as :func:`ctrak_jax.stages.ask.rewards.reward_for_image`.
    """
    if not how.by_reward:
        return asking
    concepts = [Concept(*found) for found in asking.concepts.items()]
    return asking._replace(reward=reward_for_image(ctx, concepts, asking.image))


def without_condition(ctx: Context, image: Path, concept: str) -> Asking:
    """A question by a reward about an image of no known condition; the concept is a name, or words
    that the reward reads."""
    picture, null = read_picture(image, ctx.config.data, ctx.dataset.image_shape), ctx.inputs.null
    return Asking(picture, null, {concept: None}, [stacked([null])])


def by_attribute(ctx: Context, image: Path, values: Mapping[str, str], concept: str) -> Asking:
    """A question about the attribute ``concept`` of an image made under a condition."""
    return Asking(
        read_picture(image, ctx.config.data, ctx.dataset.image_shape),
        ctx.inputs.condition(values, ctx.inputs.prompt(values)),
        {concept: values[concept]},
        [ctx.question_inputs.minus_conditions(values, concept)],
    )


def negative_prompts(
    ctx: Context, prompt: str, concepts: Sequence[str], minus: Sequence[str], how: Answering
) -> list[str]:
    """The prompt without each concept: as given, or by :func:`ctrak_jax.prompts.without`; a reward
    needs none, and its concepts need not be words of the prompt.

    Raises:
        UsageError: no text-to-image model, a concept that is not in the prompt or that the text
            encoder does not know, as many ``minus`` as there are not concepts.
    """
    if ctx.config.model.kind != "text-to-image":
        raise UsageError(
            "--prompt needs a text-to-image model (model.kind); ask this one by --condition and "
            "--concept."
        )
    if how.by_reward:
        if minus:
            raise UsageError("--minus is for the slider; a reward compares no two prompts.")
        return [prompt] * len(concepts)
    if minus and len(minus) != len(concepts):
        raise UsageError(
            f"--minus has {len(minus)} prompts for {len(concepts)} concepts; give one each, or "
            "none to have the concept's words left out."
        )
    found = list(minus) or [without(prompt, concept) for concept in concepts]
    model_file.about(ctx.folder.model)  # says so where there is none yet
    require_distinct_prompts(ctx.model_source, [(prompt, text) for text in found])
    return found


def by_prompt(
    ctx: Context,
    denoiser: Denoiser,
    prompt: str,
    concepts: Mapping[str, str],
    image: Path | None,
    image_seed: int,
) -> Asking:
    """A question about concepts, each with the prompt without it, of an image that was generated
    from a prompt; or of the one that ``image_seed`` gives where there is none."""
    inputs = ctx.inputs
    cond = inputs.condition({}, prompt)
    if image is None:
        with meter("picture", 1) as bar:
            picture = sampler(ctx, denoiser)(denoiser.params, cond, np.array([image_seed]))[0]
            bar.advance(1)
    else:
        picture = read_picture(image, ctx.config.data, ctx.dataset.image_shape)
    negatives = [stacked([inputs.condition({}, text)]) for text in concepts.values()]
    return Asking(picture, cond, dict.fromkeys(concepts), negatives)


def answering(ctx: Context, method: str, top: int, attribute: str | None = None) -> Answering:
    """Check what is asked for, and find the damping."""
    kind, usable = _kind(method), [name for name in METHODS if _kind(name) in ANSWERING]
    if kind not in ANSWERING:
        fault = "keeps no features to ask" if method in METHODS else "is not known"
        raise UsageError(f"--method {method!r} {fault}; use one of {usable}.")
    count = len(ctx.dataset.train_index)
    if not 1 <= top <= count:
        raise UsageError(f"--top {top} must be between 1 and the {count} training images.")
    if kind == "reference":
        if method not in references_of(ctx.config):
            raise UsageError(f"--method {method!r} needs {NEEDED_BY[method]}.")
        return Answering(method, top)
    damping = _damping(ctx, method, attribute)
    parts = {part.without: part for part in unnamed.answering(ctx, method)}
    variant = parts.get(attribute, MAIN) if attribute else MAIN
    return Answering(method, top, METHODS[method].query, damping, variant)


def _damping(ctx: Context, method: str, attribute: str | None) -> float:
    """Of the values of ``score.damping`` the one that ``ctrak score`` chose where it has run, else
    the largest: close to a plain inner product, which a Fisher of few samples cannot spoil. One
    value alone is taken as it is.

    Raises:
        UsageError: several values, and the one chosen is none of them.
    """
    given, path = ctx.config.score.damping, ctx.folder.dampings
    if len(given) == 1 or not path.exists():
        return max(given)
    found = read_dampings(path)
    # A reward asks the features of Concept-TRAK; one that the run did not score has its damping.
    if method == "reward" and method not in found:
        method = "concept-trak"
    if method not in found:
        return max(given)
    chosen = found[method].of(attribute)
    if chosen not in given:
        values = ", ".join(f"{r:g}" for r in given)
        raise UsageError(
            f"score.damping=[{values}]: {chosen:g}, which `ctrak score` chose for {method}, is "
            f"none of these; give one value, as in --score.damping '[{given[-1]:g}]', or run "
            "`ctrak score` with these."
        )
    return chosen


def _kind(method: str) -> str:
    return METHODS[method].kind if method in METHODS else ""


def masked(asking: Asking, file: Path, how: Answering) -> Asking:
    """The question about a part of the picture: white in the mask, black outside, greys between.

    Raises:
        UsageError: an unreadable mask, one of another size than the image or all black, a question
            about no image, or a method whose question has no target shift.
    """
    if asking.scope == "global":
        raise UsageError("--mask is about one image; ask with --scope local.")
    if how.spec is None or not how.spec.knows_concept:
        raise UsageError(
            f"--mask restricts a concept's target shift, and --method {how.method!r} has none; use "
            "concept-trak, or a reward."
        )
    try:
        return asking._replace(mask=read_mask(file, asking.image.shape))
    except (UsageError, StoreError) as error:
        raise UsageError(f"--mask {error}") from None


def read_picture(image: Path, data: DataConfig, shape: tuple[int, int, int]) -> np.ndarray:
    """An image asked about, uint8 of this shape, read as those of the data set are.

    Raises:
        UsageError: unreadable, or of another size.
    """
    how, (height, width, _) = handling_of(data), shape
    try:
        with readable(str(image)):
            picture = decoded_picture(read_bounded(image), how.side, how.background)
    except (UsageError, StoreError) as error:
        raise UsageError(f"--image {error}") from None
    if picture.shape[:2] != (height, width):
        raise UsageError(
            f"--image {image}: is {picture.shape[1]} x {picture.shape[0]} pixels, the model takes "
            f"{width} x {height}; crop and resize it, as data.resize: true would."
        )
    return picture


class SolvedRanking(NamedTuple):
    """The features of training images, concepts solved against them, and the first images of each
    concept by row [concept, rank]."""

    features: TrainingFeatures
    solution: fisher.Solution
    ranking: score.Ranking


def ranked_by_features(
    ctx: Context, denoiser: Denoiser, asking: Asking, how: Answering
) -> SolvedRanking:
    """Featurize the concepts of a question, solve them at the one damping, and rank.

    Raises:
        UsageError: the run has no features of the method.
        StoreError: they are of other settings.
    """
    method, variant, spec = how.method, how.variant, how.spec
    assert spec is not None
    assert how.damping is not None
    try:
        features = in_memory(load_features(ctx, variant, method))
    except StoreError:
        if method in ctx.config.methods:
            raise
        raise UsageError(
            f"--method {method!r} has no features here: it is not among this run's methods "
            f"{list(ctx.config.methods)}. Run `ctrak featurize` with it in `methods` first."
        ) from None
    network, params, specs = ctx.placed(denoiser)
    weights = devices.put_for_one(params, ctx.mesh, specs)
    judge = devices.put_for_one(params_of(asking.reward), ctx.mesh, devices.WHOLE)
    step, null = partial(query_features, ctx.query_recipe(asking.scope), network), ctx.inputs.null

    @jax.jit
    def compute(weights: Any, judge: Any, batch: QueryBatch) -> Array:
        return step(weights, [spec], batch, null, rated(asking.reward, judge))

    with meter("gradient of the question", 1) as bar:
        phi = np.asarray(compute(weights, judge, asking.batch(ctx)))[0, :, 0]
        bar.advance(1)
    solution = solve(features, phi, [how.damping])
    with meter("scores", features.rows.n) as bar:
        ranking = ranked(features, solution, how.top, keep=False, advance=bar.advance).ranking
    return SolvedRanking(features, solution, score.Ranking(*(part[0] for part in ranking)))


def values_of(ctx: Context, condition: str, concept: str) -> dict[str, str]:
    """A condition in words, such as shape=circle,color=red, which names the concept's attribute."""
    values, conditions = {}, ctx.dataset.conditions
    for part in condition.split(","):
        name, sign, value = part.partition("=")
        if not sign or name not in conditions.attributes:
            raise UsageError(
                f"--condition {condition!r}: expected attribute=value pairs separated by commas, "
                f"with attributes {list(conditions.attributes)}."
            )
        values[name] = value
    conditions.encode(values)
    if concept not in values:
        raise UsageError(f"--concept {concept!r} must be one of the condition's {list(values)}.")
    return values
