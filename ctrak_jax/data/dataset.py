"""One data set: images, attributes, and which of them are for training."""

import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from ctrak_jax import config as cfg
from ctrak_jax.data.celeba import survey_celeba
from ctrak_jax.data.conditions import Conditions
from ctrak_jax.data.folder.reader import survey_folder
from ctrak_jax.data.folder.writer import BLOCK
from ctrak_jax.data.looking import Record
from ctrak_jax.data.pictures import Pictures
from ctrak_jax.data.raw import RawImages
from ctrak_jax.data.survey import Handling, Survey, settle
from ctrak_jax.data.synthetic import draw_dataset
from ctrak_jax.errors import UsageError
from ctrak_jax.prompts import may_name, unnamed

HIDDEN_BY = 5
"""The random stream of the images whose value is hidden in training."""

NO_VALUE = "(none)"
"""The group of the images for which a column has no value."""


class Grouping(NamedTuple):
    """The groups of the training images by a column: names, sorted, and every image's number."""

    names: tuple[str, ...]
    numbers: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images with attribute values, by dataset index."""

    raw: RawImages
    conditions: Conditions
    """One-hot coding of the attributes that condition the model."""
    hold_out: tuple[dict[str, str], ...]
    """Combinations kept out of training."""
    train_index: np.ndarray
    """Dataset indices of the training images, ascending."""
    hidden: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Attribute -> the images that do not tell the model their value: bool [image]."""
    by_caption: bool = False
    """Is the model conditioned on captions?"""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.raw.images.shape
        return height, width, channels

    def subset(self, count: int, seed: int) -> "Dataset":
        """The same data with ``count`` of its training images, see :func:`candidate_rows`."""
        keep = candidate_rows(len(self.train_index), count, seed)
        return replace(self, train_index=self.train_index[keep])

    def without(self, attribute: str) -> "Dataset":
        """The same data, where no condition and no caption names the attribute."""
        every = np.ones(len(self.raw.images), bool)
        return replace(self, hidden={**self.hidden, attribute: every})

    def named(self, attribute: str) -> np.ndarray:
        """Which training images tell the model their value: bool [n]. A caption from which the
        value was to be cut counts among them where its words are not found."""
        return self._named.get(attribute, np.ones(len(self.train_index), bool))

    @cached_property
    def _named(self) -> dict[str, np.ndarray]:
        found = {name: ~mask[self.train_index] for name, mask in self.hidden.items()}
        for name, named in found.items() if self.by_caption else ():
            values, prompts = self.raw.attributes[name], self.raw.prompts
            for row in np.flatnonzero(~named):
                i = self.train_index[row]
                named[row] = may_name(name, values[i], prompts[i])
        return found

    @cached_property
    def train_values(self) -> list[dict[str, str]]:
        """Attribute values of every training image, in the order of ``train_index``."""
        return [
            {name: column[i] for name, column in self.raw.attributes.items()}
            for i in self.train_index
        ]

    @cached_property
    def train_conditions(self) -> np.ndarray:
        """Conditions of the training images, null where an attribute is hidden: float32
        [n, condition]."""
        codes = np.stack([self.conditions.encode(values) for values in self.train_values])
        for number, name in enumerate(self.conditions.attributes):
            codes[np.ix_(~self.named(name), self.conditions.blocks == number)] = 0.0
        return codes

    @cached_property
    def most_named(self) -> int:
        """The largest number of attributes that a training image names."""
        return int(self.conditions.named(self.train_conditions).sum(1).max())

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """What a text-to-image model is told of every image: its caption without the words for
        what is hidden."""
        if not self.hidden:
            return self.raw.prompts
        columns = [(name, self.raw.attributes[name], mask) for name, mask in self.hidden.items()]
        return tuple(
            unnamed(prompt, {name: values[i] for name, values, mask in columns if mask[i]})
            for i, prompt in enumerate(self.raw.prompts)
        )

    def train_images(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Training images as the network sees them: float32 in [-1, 1], [rows, H, W, C]."""
        return to_unit(self.raw.images[self.train_index[rows]])

    def carries(self, attribute: str, value: str) -> np.ndarray:
        """Which training images carry a value: bool [n]."""
        return self._train_columns[attribute] == value

    @cached_property
    def _train_columns(self) -> dict[str, np.ndarray]:
        return {
            name: np.array(column)[self.train_index] for name, column in self.raw.attributes.items()
        }

    def grouped(self, column: str) -> Grouping:
        """The training images by the value of any column, which need not be a condition; those
        without a value are :data:`NO_VALUE`.

        Raises:
            UsageError: there is no such column.
        """
        columns = {**self.raw.attributes, **self.raw.partial}
        if column not in columns:
            raise UsageError(
                f"{column!r} is no column of the data set {self.raw.name}; it has {list(columns)}."
            )
        values, first = columns[column], {}
        said = (values[i] for i in self.train_index)
        numbers = np.fromiter(
            (first.setdefault(NO_VALUE if v is None else v, len(first)) for v in said),
            np.int32,
            len(self.train_index),
        )
        names = tuple(sorted(first))
        place = {name: number for number, name in enumerate(names)}
        order = np.array([place[name] for name in first], np.int32)
        return Grouping(names, order[numbers])

    @cached_property
    def combinations(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """The combinations of conditioning values that occur: trained on, and held out (those that
        ``hold_out`` spells out are among them in any case), each in the order of the code."""
        names, vocabulary = self.conditions.attributes, self.conditions.vocabulary
        rows = set(zip(*(self.raw.attributes[name] for name in names), strict=True))
        rows |= {tuple(c[n] for n in names) for c in self.hold_out if set(c) >= set(names)}

        def place(row: tuple[str, ...]) -> list[int]:
            return [vocabulary[name].index(v) for name, v in zip(names, row, strict=True)]

        whole = [r for r in rows if all(v in vocabulary[n] for n, v in zip(names, r, strict=True))]
        found = [dict(zip(names, row, strict=True)) for row in sorted(whole, key=place)]
        trained = [values for values in found if not self.is_held_out(values)]
        return trained, [values for values in found if self.is_held_out(values)]

    def is_held_out(self, values: Mapping[str, str]) -> bool:
        return any(all(values[a] == v for a, v in combo.items()) for combo in self.hold_out)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images, attributes, coding and training rows: what features depend on."""
        digest, images = hashlib.sha256(), self.raw.images
        if isinstance(images, Pictures):
            pieces = images.content()
        else:
            pieces = (images[i : i + BLOCK].tobytes() for i in range(0, len(images), BLOCK))
        for piece in pieces:
            digest.update(piece)
        digest.update(self.train_index.tobytes())
        for name, mask in sorted(self.hidden.items()):
            digest.update(name.encode() + np.packbits(mask).tobytes())
        for part in (images.shape, self.raw.attributes, self.conditions, self.hold_out):
            digest.update(repr(part).encode())
        return digest.hexdigest()


def candidate_rows(
    total: int, count: int, seed: int, order: Literal["file", "random"] = "random"
) -> np.ndarray:
    """``count`` of ``total`` training images, the first or drawn at random, ascending."""
    if count > total:
        raise UsageError(
            f"data.candidates={count}, but there are {total} training images; leave it empty."
        )
    if order == "file":
        return np.arange(count)
    return np.sort(np.random.default_rng((seed, 3)).permutation(total)[:count])


def to_unit(images: np.ndarray) -> np.ndarray:
    """uint8 0..255 -> float32 -1..1."""
    return images.astype(np.float32) / 127.5 - 1.0


def to_uint8(images: np.ndarray) -> np.ndarray:
    """float -1..1 -> uint8 0..255, clipped and rounded."""
    return np.round((np.clip(np.asarray(images), -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def build(
    data: cfg.DataConfig, *, record: Record | None = None, by_caption: bool = False
) -> Dataset:
    """The data set of a config.

    Args:
        data: the config.
        record: of a look that decodes every picture (``bad_pictures: skip``).
        by_caption: is the model conditioned on captions?

    Raises:
        UsageError: ``condition_on`` or ``hold_out`` do not fit the data, nothing is left to train
            on, or the reader finds something wrong with the files.
    """
    if data.kind == "synthetic":
        raw = draw_dataset(
            size=data.size,
            image_size=data.image_size,
            shapes=data.shapes,
            colors=data.colors,
            seed=data.seed,
            objects=data.objects,
        )
        return dataset_of(data, raw)
    survey = survey_of(data)
    require_fitting(data, survey)
    raw = settle(survey, handling_of(data), record=record)
    return replace(dataset_of(data, raw), by_caption=by_caption)


def survey_of(data: cfg.DataConfig) -> Survey:
    """The files of a config as they are found; the pictures are not looked at.

    Raises:
        UsageError: there are no files, or they cannot be read at all.
    """
    if data.kind == "abc":
        raise UsageError("data.kind=abc is the AbC benchmark; run it by `ctrak abc`.")
    if data.kind == "synthetic" or data.path is None:
        raise UsageError(f"data.kind={data.kind} is drawn; there are no files.")
    if data.kind == "celeba":
        return survey_celeba(data.path, side=data.image_size)
    return survey_folder(data.path, data.mentioned, resize=data.resize)


def handling_of(data: cfg.DataConfig) -> Handling:
    """What a config says of reading a folder."""
    return Handling(
        side=data.image_size if data.resize or data.kind == "celeba" else None,
        background=data.background,
        incomplete=data.incomplete,
        bad_pictures=data.bad_pictures,
    )


def dataset_of(data: cfg.DataConfig, raw: RawImages) -> Dataset:
    """The data set of a config whose files have been read.

    Raises:
        UsageError: as :func:`training_rows`.
    """
    vocabulary = vocabulary_of(raw.attributes, raw.vocabulary)
    train_index = training_rows(data, raw.attributes, vocabulary, len(raw.images))
    return Dataset(
        raw=raw,
        conditions=Conditions({name: vocabulary[name] for name in data.condition_on}),
        hold_out=tuple(data.hold_out),
        train_index=train_index,
        hidden={
            name: _hidden(np.array(raw.attributes[name]), share, (data.seed, name))
            for name, share in data.unlabelled.items()
        },
    )


Columns = Mapping[str, Sequence[str | None]]
"""Attribute -> its value of every image; None where one is missing."""


def vocabulary_of(
    attributes: Columns, given: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The values of every attribute: those that are given, else those that occur, as text."""
    occurring = {name: {v for v in column if v is not None} for name, column in attributes.items()}
    return {name: given.get(name) or tuple(sorted(values)) for name, values in occurring.items()}


def training_rows(
    data: cfg.DataConfig,
    attributes: Columns,
    vocabulary: Mapping[str, tuple[str, ...]],
    count: int,
) -> np.ndarray:
    """The images that nothing of ``hold_out`` removes from training, ascending.

    Args:
        data: the config, which is checked.
        attributes: of the data set.
        vocabulary: the values of each.
        count: of images.

    Raises:
        UsageError: ``condition_on``, ``unlabelled`` or ``hold_out`` do not fit the data, or nothing
            is left to train on.
    """
    _require_attributes(data, vocabulary)
    for name in data.unlabelled:
        if name not in data.condition_on:
            raise UsageError(
                f"data.unlabelled: attribute {name!r} is not in data.condition_on="
                f"{list(data.condition_on)}, so the model is not conditioned on it in any case."
            )
    held_out = np.zeros(count, bool)
    for combo in data.hold_out:
        for name, value in combo.items():
            if value not in vocabulary[name]:
                raise UsageError(
                    f"data.hold_out: {name}={value!r} does not occur; "
                    f"{name} has {list(vocabulary[name])}."
                )
            if name not in data.condition_on:
                raise UsageError(
                    f"data.hold_out: attribute {name!r} is not in data.condition_on="
                    f"{list(data.condition_on)}, so no query can ask for it; add it there, or hold "
                    "out by another."
                )
        matches = [np.array(attributes[name]) == value for name, value in combo.items()]
        held_out |= np.all(matches, axis=0)
    if held_out.all():
        raise UsageError(
            f"data.hold_out={list(data.hold_out)} removes all {count} images from training; hold "
            "out less."
        )
    return np.flatnonzero(~held_out)


def _hidden(column: np.ndarray, share: float, seed: tuple[int, str]) -> np.ndarray:
    """A share of the carriers of every value, drawn at random: bool [image]."""
    mask = np.zeros(len(column), bool)
    rng = np.random.default_rng((seed[0], HIDDEN_BY, zlib.crc32(seed[1].encode())))
    for value in sorted(set(column.tolist())):
        carriers = rng.permutation(np.flatnonzero(column == value))
        mask[carriers[: round(share * len(carriers))]] = True
    return mask


def require_fitting(data: cfg.DataConfig, survey: Survey) -> None:
    """Refuse a config that does not fit what was found, before pictures are looked at.

    Raises:
        UsageError: as :func:`training_rows`.
    """
    vocabulary = vocabulary_of(survey.attributes, survey.vocabulary)
    training_rows(data, survey.attributes, vocabulary, len(survey))


def _require_attributes(data: cfg.DataConfig, known: Collection[str]) -> None:
    """Refuse a config that names an attribute which the data set has not.

    Raises:
        UsageError: one is not known.
    """
    held_out = [name for combo in data.hold_out for name in combo]
    wanted = {"condition_on": data.condition_on, "unlabelled": data.unlabelled}
    for setting, names in {**wanted, "hold_out": held_out}.items():
        for name in names:
            if name not in known:
                raise UsageError(
                    f"data.{setting}: attribute {name!r} is not in the data set; it has "
                    f"{sorted(known)}."
                )
