"""CLIP out of a folder as transformers saves it: the embedding of ONE picture, and of ONE text."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import TRANSFORMERS, open_file, weights_in
from ctrak_jax.models.checkpoints.config_file import read_config
from ctrak_jax.models.clip_network import CLIPModule, clip_of
from ctrak_jax.models.stable_diffusion import weights
from ctrak_jax.models.stable_diffusion.config_file import Component
from ctrak_jax.models.tokenizers import clip_tokenizer, tokenizer_files
from ctrak_jax.typing import Array, Params, PRNGKey

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the colours of CLIP's training images; where the folder has no preprocessor_config.json."""


@dataclass(frozen=True)
class CLIPImage:
    """CLIP's two transformers, of which pictures take the one; a picture is ``size`` pixels wide
    and high, its colours are taken less ``mean`` and over ``std``."""

    module: CLIPModule
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def prepare(self, image: np.ndarray) -> Float[np.ndarray, "size size 3"]:
        """uint8 [H, W, 3] as CLIP takes it: the shorter side resized (bicubic), the centre cut."""
        height, width = image.shape[:2]
        scale = self.size / min(height, width)
        wide, high = (max(self.size, round(side * scale)) for side in (width, height))
        resized = Image.fromarray(image).resize((wide, high), Image.Resampling.BICUBIC)
        left, top = (wide - self.size) // 2, (high - self.size) // 2
        cut = np.asarray(resized.crop((left, top, left + self.size, top + self.size)), np.float32)
        return (cut / 255 - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)

    def preprocessed(self, image: Float[Array, "height width 3"]) -> Float[Array, "size size 3"]:
        """A picture in [-1, 1] as CLIP takes it, by functions that JAX differentiates: what
        :meth:`prepare` does, without its rounding to whole colours."""
        high, wide, channels = image.shape
        short = min(high, wide)
        if short != self.size:
            scale = self.size / short
            high, wide = (max(self.size, round(length * scale)) for length in (high, wide))
            image = jax.image.resize(image, (high, wide, channels), "cubic", antialias=True)
        top, left = (high - self.size) // 2, (wide - self.size) // 2
        cut = image[top : top + self.size, left : left + self.size]
        mean, std = (jnp.array(colors)[None, None] for colors in (self.mean, self.std))
        return ((cut + 1) / 2 - mean) / std

    def apply(
        self, params: Params, image: Float[Array, "size size 3"], /
    ) -> Float[Array, " width"]:
        """The projected embedding of a prepared picture."""
        return _applied(self.module, params, self.module.of_picture, image)

    def init(self, key: PRNGKey) -> Params:
        """Fresh parameters; under ``jax.eval_shape`` their shapes."""
        image = jnp.zeros((self.size, self.size, 3))
        return self.module.init(key, jnp.zeros(1, jnp.int32), image)["params"]


@dataclass(frozen=True)
class CLIPTextProjection:
    """CLIP's text encoder, beside :class:`CLIPImage` in one model; its tokenizer pads or cuts a
    text to the length that the model takes."""

    module: CLIPModule
    tokens: Callable[[str], Int[np.ndarray, " token"]]

    def apply(self, params: Params, tokens: Int[Array, " token"], /) -> Float[Array, " width"]:
        """The projected embedding of a text's tokens."""
        return _applied(self.module, params, self.module.of_text, jnp.asarray(tokens, jnp.int32))


class ImageAndText(NamedTuple):
    """The two encoders of one CLIP model."""

    image: Component[CLIPImage]
    text: Component[CLIPTextProjection]


def _applied(module: CLIPModule, params: Params, method: Callable[..., Any], of: Array) -> Array:
    found = module.apply({"params": params}, of, method=method)
    assert isinstance(found, jax.Array)
    return found


def load_clip(folder: Path) -> Component[CLIPImage]:
    """The image encoder of the CLIP model in a folder: config.json, Flax or safetensors weights.

    Raises:
        UsageError: a file is missing or damaged, or it is another kind of model.
    """
    whole = _loaded(folder)
    return Component(whole.network, _part(whole.params, text=False))


def load_image_and_text(folder: Path) -> ImageAndText:
    """Both encoders of the CLIP model in a folder, which has its tokenizer, too.

    Raises:
        UsageError: as :func:`load_clip`, or the tokenizer is missing or another model's.
    """
    whole = _loaded(folder)
    settings = whole.network.module.text
    tokens = clip_tokenizer(tokenizer_files(folder), settings["places"])
    largest = max(tokens.vocabulary.values())
    if largest >= settings["vocabulary"]:
        raise UsageError(
            f"{folder}: its tokenizer numbers tokens up to {largest}, its model knows "
            f"{settings['vocabulary']}; use the tokenizer and the weights of one model."
        )
    words = CLIPTextProjection(whole.network.module, tokens)
    return ImageAndText(
        Component(whole.network, _part(whole.params, text=False)),
        Component(words, _part(whole.params, text=True)),
    )


def _loaded(folder: Path) -> Component[CLIPImage]:
    module, about = clip_of(_described(folder), folder / "config.json"), {}
    if (folder / "preprocessor_config.json").is_file():
        about = read_config(folder / "preprocessor_config.json")
    network = CLIPImage(
        module,
        module.size,
        tuple(map(float, about.get("image_mean", MEAN))),
        tuple(map(float, about.get("image_std", STD))),
    )
    return weights.load(open_file(weights_in(folder, TRANSFORMERS)), network)


def _part(params: Params, *, text: bool) -> Params:
    """The parameters of one encoder: all but the other's."""
    other = ("vision_", "visual_") if text else "text_"
    return {name: part for name, part in params.items() if not name.startswith(other)}


def clip_files(folder: Path) -> tuple[Path, Path]:
    """The files that :func:`load_clip` reads: the config, and the weights (their list, of shards).

    Raises:
        UsageError: one is missing, or it is another kind of model.
    """
    _described(folder)
    return folder / "config.json", weights_in(folder, TRANSFORMERS)


def _described(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise UsageError(
            f"similarity.clip: {file} is missing; give the folder of a CLIP model as transformers "
            "saves it (config.json, and flax_model.msgpack or model.safetensors)."
        )
    config = read_config(file)
    if config.get("model_type") != "clip":
        raise UsageError(
            f"{file}: model_type is {config.get('model_type')!r}, similarity.clip takes 'clip', "
            "text and image encoder in one; give the folder of such a model."
        )
    return config
