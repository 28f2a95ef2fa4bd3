"""The score stage of references: what they compare is gathered here, batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ctrak_jax import devices
from ctrak_jax.attribution import references, stacked
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.batches import TrainSamples
from ctrak_jax.inputs.questions import read_image
from ctrak_jax.models.clip import clip_files, load_clip
from ctrak_jax.models.network import embeddings_of
from ctrak_jax.run.questions import Question
from ctrak_jax.stages.context import Context
from ctrak_jax.store.files import blocks_digest
from ctrak_jax.typing import Cond

READ = 256
"""Most pictures read or encoded at a time."""

Vectors = Callable[[np.ndarray], np.ndarray]
"""Rows -> a vector for each."""
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Vectors of questions and of candidates -> a number for every pair."""


class ReferenceQuestion(NamedTuple):
    """What references know of a question.

    Attributes:
        query: id of the image.
        concept: the attribute asked about, or words of a prompt.
        value: of the attribute; None for words.
        cond: what the image was made under, as the network takes it.
        image: the picture, uint8 [H, W, 3]; None where the model's own samples are meant.
    """

    query: str
    concept: str
    value: str | None
    cond: Cond
    image: np.ndarray | None


def reference_questions(ctx: Context, asked: Sequence[Question]) -> list[ReferenceQuestion]:
    """The questions of a run; those about one image share its arrays."""
    images: dict[str, np.ndarray | None] = {}
    conds: dict[str, Cond] = {}
    for q in asked:
        if q.query not in conds:
            file = ctx.folder.queries / q.image
            local = q.scope == "local"
            images[q.query] = read_image(file, ctx.dataset.image_shape) if local else None
            conds[q.query] = ctx.inputs.condition(q.condition, q.prompt)
    return [
        ReferenceQuestion(q.query, q.attribute, q.value, conds[q.query], images[q.query])
        for q in asked
    ]


def scores(
    ctx: Context, samples: TrainSamples, name: str, asked: Sequence[ReferenceQuestion]
) -> np.ndarray:
    """Scores of a reference, float32 [question, sample]; NaN where it cannot answer.

    Args:
        samples: the candidates, and the conditions that they are featurized under.
        name: of the reference.
        asked: the questions.

    Raises:
        UsageError: the label of a concept that is no value of an attribute, or no CLIP model.
    """
    match name:
        case "labels":
            return _labels(ctx, samples, asked)
        case "random":
            return np.stack([_places(ctx, samples, name, q) for q in asked])
        case "similarity-text":
            return _texts(ctx, samples, asked)
        case _:
            return _pictures(ctx, samples, name, asked)


def clip_key(ctx: Context) -> str:
    """What stands for the CLIP model in the key of scores.

    Raises:
        UsageError: there is none.
    """
    return blocks_digest(clip_files(_clip_folder(ctx)))


def _places(ctx: Context, samples: TrainSamples, name: str, q: ReferenceQuestion) -> np.ndarray:
    return references.random_places(ctx.seed, f"{name}/{q.query}/{q.concept}", samples.index)


def _labels(ctx: Context, samples: TrainSamples, asked: Sequence[ReferenceQuestion]) -> np.ndarray:
    named, coding = samples.inputs.named(samples.labels), ctx.dataset.conditions
    found = []
    for q in asked:
        if q.value is None:
            raise UsageError(
                f"labels looks up the value of an attribute, {q.concept!r} is none; ask by "
                "--condition and --concept, or use another --method."
            )
        code = coding.encode({q.concept: q.value})
        found.append(references.label_matches(named, code, _places(ctx, samples, "labels", q)))
    return np.stack(found)


def _texts(ctx: Context, samples: TrainSamples, asked: Sequence[ReferenceQuestion]) -> np.ndarray:
    """The cosine of two texts, each the mean of its tokens' embeddings: those that the network is
    conditioned on. A token has read what stands before it, those that pad a text have read all of
    it: the mean speaks of the whole text, wherever it ends. Texts that are classes are equal or
    not. Ties of one caption are broken."""

    def vectors(conds: Cond) -> np.ndarray:
        found = np.asarray(embeddings_of(conds))
        return found[:, None] if found.ndim == 1 else found.mean(axis=1)

    first = _first(asked)
    mine = vectors(stacked([asked[row].cond for row in first.values()]))

    def theirs(rows: np.ndarray) -> np.ndarray:
        return vectors(samples.inputs.conditions(samples.labels[rows]))

    classes = np.issubdtype(mine.dtype, np.integer)
    measure = references.equalities if classes else references.cosines
    found = compared(measure, mine, theirs, len(samples.index), READ)
    rows = zip(found[_places_in(first, asked)], asked, strict=True)
    kind = "similarity-text"
    return np.stack([references.untied(r, _places(ctx, samples, kind, q)) for r, q in rows])


def _pictures(
    ctx: Context, samples: TrainSamples, name: str, asked: Sequence[ReferenceQuestion]
) -> np.ndarray:
    """Similarities of pictures; global questions have none."""
    local = [i for i, q in enumerate(asked) if q.image is not None]
    result = np.full((len(asked), len(samples.index)), np.nan, np.float32)
    if not local:
        return result
    chosen = [asked[i] for i in local]
    first = _first(chosen)
    images = [image for row in first.values() if (image := chosen[row].image) is not None]
    encode, theirs = _encoders(ctx, samples, name)
    mine = np.concatenate(
        [encode(np.stack(images[i : i + READ])) for i in range(0, len(images), READ)]
    )
    measure = references.cosines if name == "similarity-clip" else references.negative_distances
    size = min(READ, references.groups(len(samples.index), mine.shape[1])[0].stop)
    found = compared(measure, mine, theirs, len(samples.index), size)
    result[local] = found[_places_in(first, chosen)]
    return result


def _encoders(ctx: Context, samples: TrainSamples, name: str) -> tuple[Vectors, Vectors]:
    """Vectors of pictures uint8 [n, H, W, 3], and of candidates by row."""
    if name == "similarity-latents":
        inputs = samples.inputs
        return (lambda images: _flat(ctx.inputs.encode(images))), (
            lambda rows: _flat(inputs.samples(rows))
        )
    encode = _clip(ctx) if name == "similarity-clip" else (lambda images: _flat(to_unit(images)))
    return encode, lambda rows: encode(ctx.dataset.raw.images[samples.index[rows]])


def _clip(ctx: Context) -> Vectors:
    model, batch = load_clip(_clip_folder(ctx)), ctx.config.gradient.batch
    embed = devices.over_samples(jax.vmap(model.network.apply, (None, 0)), ctx.mesh)
    params = devices.put_replicated(model.params, ctx.mesh)

    def encode(images: np.ndarray) -> np.ndarray:
        prepared = np.stack([model.network.prepare(image) for image in images])
        size = batch + -batch % ctx.mesh.size
        return devices.in_batches(lambda rows: embed(params, prepared[rows]), len(images), size)

    return encode


def _clip_folder(ctx: Context) -> Path:
    folder = ctx.config.similarity.clip
    if folder is None:
        raise UsageError(
            "similarity-clip needs similarity.clip, the folder of a CLIP model; give that, or use "
            "another reference."
        )
    return folder


def compared(
    measure: Measure, mine: np.ndarray, theirs: Vectors, count: int, size: int
) -> np.ndarray:
    """The measure of every question and candidate [question, sample], ``size`` candidates at a
    time."""
    found = np.empty((len(mine), count), np.float32)
    for first in range(0, count, size):
        rows = np.arange(first, min(first + size, count))
        found[:, rows] = measure(mine, theirs(rows))
    return found


def _first(asked: Sequence[ReferenceQuestion]) -> dict[str, int]:
    """The first question about each image."""
    found: dict[str, int] = {}
    for row, q in enumerate(asked):
        found.setdefault(q.query, row)
    return found


def _places_in(first: Mapping[str, int], asked: Sequence[ReferenceQuestion]) -> list[int]:
    places = {query: place for place, query in enumerate(first)}
    return [places[q.query] for q in asked]


def _flat(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(len(values), -1)
