"""The benchmark read and put in words: what every part of a run works with."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctrak_jax.abc.inputs import (
    APART,
    Asked,
    Codec,
    ExemplarInputs,
    Exemplars,
    LaionInputs,
    asked_of,
    exemplars_of,
)
from ctrak_jax.config import Config
from ctrak_jax.data import Conditions, Dataset
from ctrak_jax.data.abc import Abc, read_abc
from ctrak_jax.data.raw import RawImages
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.base import Inputs
from ctrak_jax.inputs.encoder import Coder, require_heard
from ctrak_jax.log import logger
from ctrak_jax.methods import METHODS
from ctrak_jax.models.stable_diffusion import FLOAT32, read_config, text_length, unet_of
from ctrak_jax.stages.context import Context

FEWEST = 10
"""LAION rows: Recall@10 needs as many candidates."""


@dataclass(frozen=True, kw_only=True)
class Part(Context):
    """LAION or the exemplars, as a run of its own."""

    given: Inputs

    @cached_property
    def inputs(self) -> Inputs:
        return self.given


class Bench(NamedTuple):
    """A prepared run.

    Attributes:
        asked: the tasks in words. codec: what encodes them.
    """

    laion: Part
    abc: Abc
    asked: tuple[Asked, ...]
    exemplars: Exemplars
    codec: Codec

    @property
    def config(self) -> Config:
        return self.laion.config

    @property
    def damping(self) -> float:
        """The largest of ``score.damping``: there are no validation questions to choose by."""
        return max(self.config.score.damping)


def prepare(config: Config, out: Path) -> Bench:
    """Read the benchmark and put the tasks in words; nothing is computed."""
    if config.data.kind != "abc":
        raise UsageError(
            f"data.kind={config.data.kind} is no benchmark for `ctrak abc`; use data.kind: abc, or "
            "`ctrak run`."
        )
    unfit = [name for name in config.methods if METHODS[name].train is None]
    if unfit:
        raise UsageError(
            f"methods: {unfit[0]} keeps no features, and `ctrak abc` ranks by features; leave it "
            "out."
        )
    folder, path = config.model.checkpoint, config.data.path
    assert folder is not None  # the config sees to it
    assert path is not None
    file = folder / "unet" / "config.json"
    network = unet_of(read_config(file), file, FLOAT32)
    height, width, channels = network.latent_shape
    text = (text_length(folder), network.text_width)
    abc = read_abc(path, latent=(channels, height, width), text=text)
    if len(config.score.damping) > 1:
        logger.warning(
            "score.damping: %s are given and there are no validation questions to choose by; the "
            "largest, %g, is taken for every method",
            list(config.score.damping),
            max(config.score.damping),
        )
    asked = tuple(asked_of(number, task) for number, task in enumerate(abc.tasks))
    plain = sum(question.prompt.learned is None for question in asked)
    if plain:
        logger.warning(
            "%d of %d tasks: no learned_embeds.safetensors or .bin in the folder of their model, "
            "so the token is read as the text encoder splits it",
            plain,
            len(asked),
        )
    texts = [(q.prompt.text, q.minus.text) for q in asked if q.prompt.learned is None]
    require_heard(folder, texts)  # a learned token is heard: it has an embedding of its own
    mesh = local_mesh(config.run.devices, config.mesh.model)
    dataset = _dataset("AbC LAION", np.arange(len(abc.laion)))
    if config.data.candidates is not None:
        dataset = dataset.subset(config.data.candidates, config.data.seed)
    if len(dataset.train_index) < FEWEST:
        raise UsageError(
            f"{len(dataset.train_index)} LAION rows, Recall@10 needs at least {FEWEST}; raise "
            "data.candidates or use a larger benchmark."
        )
    codec = Codec(Coder(folder, mesh, config.gradient.batch), network.latent_shape)
    args = abc.laion, codec, config.trajectory, dataset.train_index
    laion = Part(
        config=config,
        root=out,
        seed=config.run.seeds[0],
        training_set=dataset,
        dataset=dataset,
        mesh=mesh,
        given=LaionInputs(path, *args),
    )
    return Bench(laion, abc, asked, exemplars_of(abc.tasks), codec)


def _dataset(name: str, index: np.ndarray) -> Dataset:
    """Rows by number alone: no stage looks at their pictures, nor have they attributes."""
    images = np.zeros((len(index), 0, 0, 3), np.uint8)
    raw = RawImages(name=name, images=images, attributes={})
    return Dataset(raw=raw, conditions=Conditions({}), hold_out=(), train_index=index)


def exemplar_part(bench: Bench, codecs: str) -> Part:
    """The exemplars as a run of their own.

    Args:
        codecs: the hash of the autoencoder and the text encoder that encode them.
    """
    ctx, index = bench.laion, APART + np.arange(len(bench.exemplars.files))
    dataset = _dataset("AbC exemplars", index)
    args = bench.abc.laion, bench.codec, ctx.config.trajectory, index
    return Part(
        config=ctx.config,
        root=ctx.root / "exemplars",
        seed=ctx.seed,
        place="exemplars",
        training_set=dataset,
        dataset=dataset,
        mesh=ctx.mesh,
        given=ExemplarInputs(bench.exemplars, codecs, *args),
    )
