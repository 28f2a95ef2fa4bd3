"""Where the parts of a model are: a folder in diffusers' format, a single file, or both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import (
    DIFFUSERS,
    TRANSFORMERS,
    FileNames,
    Opened,
    open_file,
    weights_in,
)
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.lora.files import LoraFile
from ctrak_jax.models.stable_diffusion.source import names, published
from ctrak_jax.models.stable_diffusion.source.single_file import contents
from ctrak_jax.models.tokenizers import (
    TokenizerFiles,
    clips_own,
    tokenizer_files,
)
from ctrak_jax.schedule import Prediction

PIPELINES = ("StableDiffusionPipeline", "FlaxStableDiffusionPipeline")
NAMES = {
    **dict.fromkeys(("unet", "transformer", "vae"), DIFFUSERS),
    **dict.fromkeys(("text_encoder", "text_encoder_2"), TRANSFORMERS),
}


class Part(NamedTuple):
    """One network of a model.

    Attributes:
        config: what its ``config.json`` says.
        file: that file, for messages; the checkpoint where a folder is not needed.
        weights: opens the weights, under diffusers' names.
    """

    config: Mapping[str, Any]
    file: Path
    weights: Callable[[], Opened]


def part_in(folder: Path, file_names: FileNames) -> Part:
    """The network in a folder of its own."""

    def weights() -> Opened:
        opened = open_file(weights_in(folder, file_names))
        if file_names == TRANSFORMERS and not opened.flax:
            return opened._replace(tensors=names.text_encoder(opened.tensors))
        return opened

    file = folder / "config.json"
    return Part(read_config(file), file, weights)


@dataclass(frozen=True)
class ModelFiles:
    """What a model is read from.

    Attributes:
        checkpoint: the folder of a whole model in diffusers' format, or a single file.
        folder: of what a single file lacks: configs, tokenizer, scheduler, and parts.
        vae: the folder or the single file of another autoencoder.
        prediction: what the network predicts, where the scheduler's file does not say it right.
        loras: adapters, all used at once.
        t5_tokens: tokens of a text for T5; None for the pipeline's own number.
    """

    checkpoint: Path
    folder: Path | None = None
    vae: Path | None = None
    prediction: Prediction | None = None
    loras: tuple[LoraFile, ...] = ()
    t5_tokens: int | None = None

    @property
    def rest(self) -> Path | None:
        """The folder that has what the checkpoint lacks."""
        return self.folder if self.is_single_file else self.checkpoint

    @property
    def is_single_file(self) -> bool:
        return self.checkpoint.is_file()

    def require_stable_diffusion(self) -> None:
        """Refuse a folder of another kind of model."""
        if self.rest is None:
            return
        file = self.rest / "model_index.json"
        name = read_config(file).get("_class_name")
        if name not in PIPELINES:
            raise UsageError(
                f"{file}: pipeline {name!r} is not supported; use a Stable Diffusion 1.x or 2.x "
                "model (StableDiffusionPipeline)."
            )

    def part(self, name: str) -> Part:
        """A network by the name of its folder, such as ``unet``, ``vae`` or ``text_encoder``."""
        if name == "vae" and self.vae is not None:
            return self._other_autoencoder(self.vae)
        if not self.is_single_file:
            return part_in(self.checkpoint / name, NAMES[name])
        config, file = self.config(name)

        def weights() -> Opened:
            found = contents(self.checkpoint)
            if name not in found.prefixes:
                return self._part_beside(name)
            opened = found.part(name, config)
            if name == "text_encoder":
                return opened._replace(tensors=names.text_encoder(opened.tensors))
            return opened

        return Part(config, file, weights)

    def config(self, name: str) -> tuple[Mapping[str, Any], Path]:
        """The settings of a part, or of ``scheduler``, and the file they are in."""
        if self.rest is not None:
            which = "scheduler_config.json" if name == "scheduler" else "config.json"
            file = self.rest / name / which
            return read_config(file), file
        return published.config_of(self.version, name, self.prediction), self.checkpoint

    def tokenizer(self) -> TokenizerFiles:
        """The files of the tokenizer."""
        if self.rest is not None:
            return tokenizer_files(self.rest / "tokenizer")
        return clips_own("!" if self.version == 2 else "<|endoftext|>")

    @cached_property
    def version(self) -> int:
        """1 or 2, of a published model in a single file without a folder: a pickle is read whole to
        tell, so once."""
        opened = contents(self.checkpoint).opened
        found = published.version_of(self.checkpoint, opened.tensors)
        if not found:
            raise UsageError(
                f"{self.checkpoint} holds no UNet; give the folder of a whole model as "
                "model.folder, or the file as model.vae where it is an autoencoder."
            )
        if found == 2 and self.prediction is None:
            raise UsageError(
                f"{self.checkpoint} is of Stable Diffusion 2.x, which does not say what it "
                "predicts; set model.prediction: v (768 pixels) or eps (512, base), or give the "
                "model's folder as model.folder."
            )
        return found

    def _part_beside(self, name: str) -> Opened:
        if self.folder is None:
            raise UsageError(
                f"{self.checkpoint} has no {name}; give a folder that has one as model.folder."
            )
        return part_in(self.folder / name, NAMES[name]).weights()

    def _other_autoencoder(self, place: Path) -> Part:
        if place.is_dir():
            inner = place / "vae"
            return part_in(inner if inner.is_dir() else place, DIFFUSERS)
        config, file = self.config("vae")

        def weights() -> Opened:
            found = contents(place)
            if "vae" not in found.prefixes:
                raise UsageError(f"{place} holds no autoencoder; leave out model.vae.")
            return found.part("vae", config)

        return Part(config, file, weights)


def model_files(model: "ModelFiles | Path") -> ModelFiles:
    """The folder of a model, or its single file, as what it is read from."""
    return model if isinstance(model, ModelFiles) else ModelFiles(model)
