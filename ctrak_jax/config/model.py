"""The network, and the noise it was trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ctrak_jax.config.base import FILLED, PERFORMANCE, Natural, OneOrSeveral, Positive, Section


class ModelConfig(Section):
    """The network."""

    kind: Literal["dit", "text-to-image"] = "dit"
    """A class-conditional diffusion transformer of images, trained here; or a latent diffusion
    model: Stable Diffusion, FLUX.1 or DiT, whose captions are the names or numbers of classes."""
    size: Literal["tiny", "paper"] = "tiny"
    """Named size of the diffusion transformer."""
    family: Literal["unet", "mmdit"] = "unet"
    """Network of a text-to-image model that is trained here: the UNet of Stable Diffusion 1.x, or a
    transformer of image and text as in Stable Diffusion 3, of a rectified flow (of 6 blocks, 128
    channels and 4 heads where `depth`, `width` and `heads` say nothing)."""
    width: int | None = Field(default=None, ge=8)
    """Channels per token; overrides the size's."""
    depth: Natural | None = None
    """Blocks; overrides the size's."""
    heads: Natural | None = None
    """Attention heads; overrides the size's."""
    patch: Natural | None = None
    """Side of a patch in pixels; overrides the size's."""
    checkpoint: Path | None = None
    """Used instead of training: a published checkpoint (safetensors; dit), or the folder of a model
    in diffusers' format: Stable Diffusion 1.x, 2.x, 3 or 3.5, FLUX.1, DiT; of Stable Diffusion 1.x
    and 2.x also a single file (text-to-image)."""
    folder: Path | None = None
    """Folder of a model in diffusers' format with what a single-file checkpoint lacks: configs,
    tokenizer, scheduler, and the parts that are not in it (text-to-image). Without it they are
    those of Stable Diffusion 1.x or 2.x."""
    vae: Path | None = None
    """Another autoencoder than the checkpoint's: a folder, or a single file (text-to-image)."""
    prediction: Literal["eps", "v", "x0"] | None = None
    """What a text-to-image checkpoint predicts, where its scheduler's file does not say it or says
    it wrong: the noise, the velocity or the clean image."""
    lora: Annotated[tuple[Path, ...], OneOrSeveral] = ()
    """LoRA files or folders of diffusers, peft or kohya on the checkpoint, one or several at once
    (text-to-image). Their matrices are parameters of the network, selected by "*lora*" alone."""
    lora_scale: Annotated[tuple[float, ...], OneOrSeveral, FILLED] = (1.0,)
    """Scale of the LoRAs: one for all, or one for each."""
    t5_tokens: Natural | None = None
    """Tokens of a text for the T5 encoder of Stable Diffusion 3 and 3.5 (256 by default) and FLUX.1
    (512; schnell 256)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format that the network's passes for gradients compute in; parameters (but those that
    a pretrained network's file has in 16 bits), gradients, inversion, guidance and training stay
    float32."""
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
        if self.family != "unet" and (self.kind != "text-to-image" or self.checkpoint is not None):
            yield (
                f"model.family={self.family} is of a text-to-image model that is trained here; set "
                "model.kind: text-to-image, and leave model.checkpoint out"
            )
        beside = (self.folder, self.vae, self.prediction, self.lora or None, self.t5_tokens)
        if beside != (None,) * len(beside) and not self._is_given:
            yield (
                "model.folder, model.vae, model.prediction, model.lora and model.t5_tokens are of "
                "a text-to-image model.checkpoint; give one, or leave them out"
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
    shift: Positive = 3.0
    """How far the levels of a rectified flow, in place of `kind` and `prediction` with
    `model.family: mmdit`, are moved towards the noise; 1 spaces them evenly."""
