"""The network that a config asks for, its noise and its shapes; no parameters yet."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ctrak_jax import devices
from ctrak_jax import schedule as schedules
from ctrak_jax.config import ModelConfig, ScheduleConfig
from ctrak_jax.models.denoiser import Compute, Denoiser, create, denoiser_of
from ctrak_jax.models.dit import SIZES, DiT
from ctrak_jax.models.mmdit import sd3_of
from ctrak_jax.models.network import TextCondition
from ctrak_jax.models.pretrained import describe
from ctrak_jax.models.stable_diffusion import LoraFile, ModelFiles, Noise, UNet, unet_of
from ctrak_jax.models.stable_diffusion.small import (
    Size,
    TransformerSize,
    transformer_config,
    unet_config,
)
from ctrak_jax.models.transformers import Transformer
from ctrak_jax.precision import GIVEN, MatmulPolicy
from ctrak_jax.schedule import Schedule
from ctrak_jax.typing import Cond, Params

SCHEDULES = {
    "cosine": schedules.cosine,
    "linear": schedules.linear,
    "scaled-linear": schedules.scaled_linear,
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network of one sample, the shape of the sample, the shapes and dtypes of its condition's
    arrays; no parameters."""

    network: DiT | UNet | Transformer
    noise: Noise
    sample: tuple[int, ...]
    condition: Cond
    compute: Compute

    @property
    def schedule(self) -> Schedule:
        return self.noise.schedule

    @cached_property
    def template(self) -> Params:
        """The parameters' shapes and dtypes; a published transformer's are in 16 bits where its
        file may have them so; a UNet's are not, whose files may have either."""
        if isinstance(self.network, DiT):
            return jax.eval_shape(lambda: self.create(0))
        found = jax.eval_shape(self.network.init, jax.random.key(0))
        if isinstance(self.network, UNet) or not self.compute.keeps_half:
            return found
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), found)

    def create(self, seed: int) -> Params:
        """Fresh parameters of a class-conditional network."""
        assert isinstance(self.network, DiT)
        (height, width, channels), (size,) = self.sample, self.condition.shape
        return create(self.network, (height, width, channels), size, seed)

    def denoiser(self, params: Params, mesh: jax.sharding.Mesh) -> Denoiser:
        """The network with parameters, which a mesh may hold in parts."""
        whole = denoiser_of(self.network, params, *self.noise, self.compute)
        shapes = jax.eval_shape(lambda: params)
        gathered = {
            name: devices.gathering(getattr(whole, name), shapes, mesh)
            for name in ("eps_fn", "layers_fn", "exact_fn")
        }
        return whole._replace(**gathered)


def architecture_of(
    model: ModelConfig,
    schedule: ScheduleConfig,
    *,
    files: ModelFiles,
    image_shape: tuple[int, int, int],
    condition_size: int,
    precision: MatmulPolicy = GIVEN,
) -> Architecture:
    """The network of a config; the files of a text-to-image checkpoint say what it and its noise
    are. A class-conditional network takes images [H, W, 3] and ``condition_size`` numbers."""
    compute = Compute(model.dtype, model.remat, model.efficient_attention, precision)
    noise = Noise(SCHEDULES[schedule.kind](steps=schedule.steps), schedule.prediction)
    if model.kind == "dit":
        network = dit_of(model)
        sample, condition = image_shape, _array(condition_size)
    else:
        size, transformer = Size(image=image_shape[0]), transformer_size(model)
        if model.checkpoint is not None:
            network, noise, condition = describe(files, compute, image_shape[0])
        elif transformer is not None:
            noise = Noise(schedules.rectified_flow(schedule.shift, schedule.steps), "flow")
            file = files.checkpoint / "transformer" / "config.json"
            network = sd3_of(transformer_config(size, transformer), file, compute)
            text = _array(size.tokens, network.text_width), _array(network.pooled_width)
            condition = TextCondition(*text)
        else:
            file = files.checkpoint / "unet" / "config.json"
            network = unet_of(unet_config(size), file, compute)
            condition = _array(size.tokens, network.text_width)
        sample = network.latent_shape
    return Architecture(
        network=network, noise=noise, sample=sample, condition=condition, compute=compute
    )


def model_files_of(model: ModelConfig, trained: Path) -> ModelFiles:
    """Where a text-to-image model is: what the config says, or the folder that training leaves."""
    if model.checkpoint is None:
        return ModelFiles(trained)
    return ModelFiles(
        checkpoint=model.checkpoint,
        folder=model.folder,
        vae=model.vae,
        prediction=model.prediction,
        loras=tuple(map(LoraFile, model.lora, model.lora_scales)),
        t5_tokens=model.t5_tokens,
    )


def transformer_size(model: ModelConfig) -> TransformerSize | None:
    """The small transformer of image and text of a config; None for a UNet."""
    if model.family == "unet":
        return None
    size = TransformerSize()._asdict()
    return TransformerSize(**{name: getattr(model, name) or size[name] for name in size})


def dit_of(model: ModelConfig) -> DiT:
    """The diffusion transformer of a config."""
    size = SIZES[model.size]._asdict()
    given = {name: getattr(model, name) or default for name, default in size.items()}
    return DiT(**given, dtype=jnp.dtype(model.dtype))


def _array(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
