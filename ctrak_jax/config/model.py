"""The network, and the noise it was trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ctrak_jax.config.base import FILLED, PERFORMANCE, Natural, Section

ONE_OR_SEVERAL = BeforeValidator(
    lambda given: given if isinstance(given, list | tuple) else [given]
)
"""One value may stand without its list."""


class ModelConfig(Section):
    """The network."""

    kind: Literal["dit", "text-to-image"] = "dit"
    """A class-conditional diffusion transformer of images, or Stable Diffusion."""
    size: Literal["tiny", "paper"] = "tiny"
    """Named size of the diffusion transformer."""
    width: int | None = Field(default=None, ge=8)
    """Channels per token; overrides the size's."""
    depth: Natural | None = None
    """Blocks; overrides the size's."""
    heads: Natural | None = None
    """Attention heads; overrides the size's."""
    patch: Natural | None = None
    """Side of a patch in pixels; overrides the size's."""
    checkpoint: Path | None = None
    """Used instead of training: a published checkpoint (safetensors; dit), or a Stable Diffusion
    1.x or 2.x model, its folder in diffusers' format or a single file (text-to-image)."""
    folder: Path | None = None
    """Folder of a model in diffusers' format with what a single-file checkpoint lacks: configs,
    tokenizer, scheduler, and the parts that are not in it (text-to-image). Without it they are
    those of Stable Diffusion 1.x or 2.x."""
    vae: Path | None = None
    """Another autoencoder than the checkpoint's: a folder, or a single file (text-to-image)."""
    prediction: Literal["eps", "v", "x0"] | None = None
    """What a text-to-image checkpoint predicts, where its scheduler's file does not say it or says
    it wrong: the noise, the velocity or the clean image."""
    lora: Annotated[tuple[Path, ...], ONE_OR_SEVERAL] = ()
    """LoRA files or folders of diffusers, peft or kohya on the checkpoint, one or several at once
    (text-to-image). Their matrices are parameters of the network, selected by "*lora*" alone."""
    lora_scale: Annotated[tuple[float, ...], ONE_OR_SEVERAL, FILLED] = (1.0,)
    """Scale of the LoRAs: one for all, or one for each."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format that the network's passes for gradients compute in; parameters, gradients,
    inversion, guidance and training stay float32."""
    remat: Annotated[bool, PERFORMANCE] = False
    """Keep only the blocks' outputs for the backward pass: less memory, more work
    (text-to-image)."""
    efficient_attention: Annotated[bool, PERFORMANCE] = False
    """Attention over chunks of its queries: less memory (text-to-image)."""

    def problems(self) -> Iterator[str]:
        if self.kind == "dit" and (self.remat or self.efficient_attention):
            yield (
                "model.remat and model.efficient_attention are of a text-to-image network; leave "
                "them out for model.kind=dit"
            )
        beside = (self.folder, self.vae, self.prediction, self.lora or None)
        if beside != (None,) * len(beside) and not self._is_given:
            yield (
                "model.folder, model.vae, model.prediction and model.lora are of a text-to-image "
                "model.checkpoint; give one, or leave them out"
            )
        if len(self.lora_scale) not in (1, len(self.lora)):
            yield (
                f"model.lora_scale={list(self.lora_scale)} is not one number for each of "
                f"model.lora={list(map(str, self.lora))}; give one for all, or as many"
            )

    @property
    def lora_scales(self) -> tuple[float, ...]:
        """One scale for each LoRA."""
        return self.lora_scale * len(self.lora) if len(self.lora_scale) == 1 else self.lora_scale

    @property
    def _is_given(self) -> bool:
        return self.kind == "text-to-image" and self.checkpoint is not None


class ScheduleConfig(Section):
    """The noise schedule and what the network predicts."""

    kind: Literal["linear", "scaled-linear", "cosine"] = "linear"
    """Noise schedule."""
    steps: int = Field(default=1000, ge=10)
    """Timesteps of the schedule."""
    prediction: Literal["eps", "v", "x0"] = "eps"
    """What the network predicts: the noise, the velocity or the clean image."""
