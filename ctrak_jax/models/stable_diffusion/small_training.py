"""Train a small Stable Diffusion from scratch on captioned images: a folder in diffusers' format.

Three steps, each of which resumes where it was stopped: the autoencoder; its latents, scaled to
unit variance, of all images; the denoiser together with the text encoder.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from ctrak_jax import devices
from ctrak_jax.data import ShuffledRows
from ctrak_jax.data.dataset import to_unit
from ctrak_jax.devices import in_batches
from ctrak_jax.errors import UsageError
from ctrak_jax.log import logger
from ctrak_jax.models.checkpointed import Chunking, FitResult, checkpointed, claim
from ctrak_jax.models.checkpoints import DIFFUSERS, TRANSFORMERS
from ctrak_jax.models.mmdit import sd3_of
from ctrak_jax.models.pretrained import OneText, Reader
from ctrak_jax.models.stable_diffusion import (
    FLOAT32,
    Component,
    KLAutoencoder,
    Noise,
    autoencoder_of,
    fit,
    load_autoencoder,
    save,
    small,
    text_encoder_of,
    unet_of,
)
from ctrak_jax.models.text_encoders import clip_text_of
from ctrak_jax.models.tokenizers import clip_tokenizer, tokenizer_files, vocabulary
from ctrak_jax.models.tokenizers.vocabulary import Vocabulary
from ctrak_jax.models.training import OptimizerSpec, Trainer, optimizer
from ctrak_jax.schedule import Prediction, rectified_flow
from ctrak_jax.store.files import digest
from ctrak_jax.typing import Params, PRNGKey

ENCODED = 64
"""Images per call of the encoder."""
SECTIONS = {"autoencoder": "autoencoder", "denoiser": "train"}
"""Where the config says how each part is trained."""


class FitSpec(NamedTuple):
    """How one part is trained."""

    rule: OptimizerSpec
    batch: int
    ema: float = 0.995


class SmallTraining(NamedTuple):
    """How a small model is trained, with ``kl`` and ``text_dropout`` of
    :mod:`ctrak_jax.models.stable_diffusion.fit`, ``scan`` steps per call. With a ``transformer`` in
    the UNet's place the levels are those of a rectified flow with a ``shift``."""

    size: small.Size = small.Size()
    autoencoder: FitSpec = FitSpec(OptimizerSpec(1200, 5e-3, 1e-3), 32)
    denoiser: FitSpec = FitSpec(OptimizerSpec(1600, 1e-2, 1e-3), 64)
    kl: float = 1e-3
    text_dropout: float = 0.1
    schedule: Literal["linear", "scaled-linear", "cosine"] = "linear"
    schedule_steps: int = 1000
    prediction: Prediction = "eps"
    scan: int = 20
    checkpoint_every: int = 500
    transformer: small.TransformerSize | None = None
    shift: float = 3.0

    @property
    def key(self) -> str:
        """What of it changes the model; without a transformer as it was before there were any."""
        told = self._replace(scan=0, checkpoint_every=0)
        return digest(told if self.transformer is not None else told[:-2])


def train_text_to_image(
    folder: Path,
    images: UInt8[np.ndarray, "n H W 3"],
    captions: Sequence[str],
    settings: SmallTraining,
    seed: int,
    *,
    words: Vocabulary | None = None,
    mesh: Mesh | None = None,
) -> None:
    """Leave a small Stable Diffusion in ``folder``, trained unless one of these inputs is there; an
    interrupted training resumes. By default it has CLIP's ``words`` and all local devices."""
    mesh = devices.local_mesh() if mesh is None else mesh
    _check(images, captions, settings, mesh)
    words = vocabulary.read(vocabulary.library()) if words is None else words
    inputs = {
        "images": hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest(),
        "captions": digest(list(captions)),
        "vocabulary": digest(words.merges),
        "settings": settings.key,
        "seed": seed,
    }
    run = _Run(folder, settings, seed, inputs, mesh)
    claim(folder, inputs)
    if (folder / "model_index.json").exists():
        return
    save.save_tokenizer(folder / "tokenizer", words, settings.size.tokens)
    latents = _latents(_autoencoder(run, images), images, mesh)
    _denoiser(run, latents, captions, len(words.numbers))
    (save.save_index if settings.transformer is None else save.save_flow_index)(folder)
    shutil.rmtree(folder / "training", ignore_errors=True)


class _Run(NamedTuple):
    folder: Path
    settings: SmallTraining
    seed: int
    inputs: dict[str, Any]
    mesh: Mesh

    def key(self, part: int) -> PRNGKey:
        return jax.random.fold_in(jax.random.key(self.seed), part)

    def train(
        self,
        part: str,
        how: FitSpec,
        trainer: Trainer,
        key: PRNGKey,
        params: Params,
        columns: tuple[Callable[[np.ndarray], np.ndarray], ...],
        size: int,
    ) -> FitResult:
        """Train on ``size`` rows, shuffled anew each epoch; columns of rows [step, batch] are what
        the trainer takes."""
        rows = ShuffledRows(size, batch=how.batch, seed=self.seed)
        found = checkpointed(
            trainer,
            params,
            lambda first, count: tuple(column(rows(first, count)) for column in columns),
            Chunking(how.rule.steps, self.settings.scan, self.settings.checkpoint_every),
            key=key,
            folder=self.folder / "training" / part,
            inputs=self.inputs,
            mesh=self.mesh,
            title=f"{part} (seed {self.seed})",
            too_fast=f"{SECTIONS[part]}.learning_rate",
        )
        logger.info("%s: loss %.4f", part, found.loss)
        return found


def _check(
    images: np.ndarray, captions: Sequence[str], settings: SmallTraining, mesh: Mesh
) -> None:
    side = settings.size.image
    if images.shape[1:] != (side, side, 3):
        raise UsageError(
            f"images are {images.shape[1]} x {images.shape[2]}, the model is made for {side} x "
            f"{side}; resize them."
        )
    halved = 2 ** (len(settings.size.autoencoder) + len(settings.size.unet) - 2)
    if side % halved:
        raise UsageError(
            f"images are {side} x {side}; the sides of a model trained here are halved again and "
            f"again, so they must be a multiple of {halved}; resize the images."
        )
    if len(captions) != len(images) or not captions:
        raise UsageError(
            f"{len(captions)} captions for {len(images)} images; give every image one."
        )
    for part, section in SECTIONS.items():
        batch = getattr(settings, part).batch
        if batch % mesh.size:
            raise UsageError(
                f"{section}.batch={batch} must be a multiple of the {mesh.size} devices."
            )


def _autoencoder(run: _Run, images: np.ndarray) -> Component[KLAutoencoder]:
    folder, settings = run.folder / "vae", run.settings
    if not (folder / "config.json").exists():
        network = autoencoder_of(small.autoencoder_config(settings.size, 1.0), folder)
        how = settings.autoencoder
        trainer = fit.autoencoder_trainer(
            network,
            optimizer(how.rule, by_adam=fit.BY_ADAM),
            kl=settings.kl,
            ema=how.ema,
        )
        found = run.train(
            "autoencoder",
            how,
            trainer,
            run.key(0),
            jax.jit(network.init)(run.key(1)),
            (lambda rows: to_unit(images[rows]),),
            len(images),
        )
        spread = float(_latents(Component(network, found.params), images, run.mesh).std())
        config = small.autoencoder_config(settings.size, 1.0 / spread)
        save.save_part(folder, config, found.params, DIFFUSERS)
        shutil.rmtree(run.folder / "training" / "autoencoder")
    return load_autoencoder(folder)


def _latents(
    autoencoder: Component[KLAutoencoder], images: np.ndarray, mesh: Mesh
) -> Float[np.ndarray, "n h w c"]:
    """The mean latents of all images, scaled."""
    encode = devices.over_samples(jax.vmap(autoencoder.network.encode, (None, 0)), mesh)
    params = devices.put_replicated(autoencoder.params, mesh)
    size = ENCODED * mesh.size
    return in_batches(lambda rows: encode(params, to_unit(images[rows])), len(images), size)


class _Denoising(NamedTuple):
    """What is trained, and how it is kept.

    Attributes:
        part: folder of the network.
        config: its settings.
        network: without parameters.
        text: the text encoder.
        noise: of the training.
        by_adam: what Muon leaves to Adam.
        fresh: makes the network's parameters ready.
    """

    part: str
    config: dict[str, Any]
    network: Any
    text: Any
    noise: Noise
    by_adam: tuple[str, ...]
    fresh: Callable[[Params], Params]


def _unet(run: _Run, text_config: dict[str, Any]) -> _Denoising:
    folder, settings = run.folder, run.settings
    noise = save.save_noise(
        folder / "scheduler", settings.schedule, settings.schedule_steps, settings.prediction
    )
    config = small.unet_config(settings.size)
    unet = unet_of(config, folder / "unet", FLOAT32)
    words = tokenizer_files(folder / "tokenizer")
    text = text_encoder_of(text_config, folder / "text_encoder", words)
    return _Denoising("unet", config, unet, text, noise, fit.BY_ADAM, lambda params: params)


def _transformer(
    run: _Run, text_config: dict[str, Any], transformer: small.TransformerSize
) -> _Denoising:
    folder, settings = run.folder, run.settings
    save.save_flow(folder / "scheduler", settings.shift, settings.schedule_steps)
    noise = Noise(rectified_flow(settings.shift, settings.schedule_steps), "flow")
    config = small.transformer_config(settings.size, transformer)
    network = sd3_of(config, folder / "transformer", FLOAT32)
    clip = clip_text_of(text_config, folder / "text_encoder")
    words = clip_tokenizer(tokenizer_files(folder / "tokenizer"), clip.length)
    text = OneText(Reader(clip, words))
    return _Denoising("transformer", config, network, text, noise, fit.FLOW_BY_ADAM, fit.silent)


def _denoiser(
    run: _Run, latents: np.ndarray, captions: Sequence[str], vocabulary_size: int
) -> None:
    folder, settings, how = run.folder, run.settings, run.settings.denoiser
    text_config = small.text_config(settings.size, vocabulary_size)
    if settings.transformer is None:
        made = _unet(run, text_config)
    else:
        made = _transformer(run, text_config, settings.transformer)
    text = made.text
    different, which = np.unique(np.asarray(captions), return_inverse=True)
    tokens = np.stack([text.tokens(str(caption)) for caption in different])
    trainer = fit.denoiser_trainer(
        made.network,
        text,
        made.noise,
        optimizer(how.rule, by_adam=made.by_adam),
        empty=jnp.asarray(text.tokens("")),
        text_dropout=settings.text_dropout,
        ema=how.ema,
    )
    fresh = made.fresh(jax.jit(made.network.init)(run.key(3)))
    found = run.train(
        "denoiser",
        how,
        trainer,
        run.key(2),
        fit.DenoiserParams(fresh, jax.jit(text.init)(run.key(4))),
        (lambda rows: latents[rows], lambda rows: tokens[which[rows]]),
        len(latents),
    )
    save.save_part(folder / made.part, made.config, found.params.unet, DIFFUSERS)
    save.save_part(folder / "text_encoder", text_config, found.params.text, TRANSFORMERS)
