r"""``similarity`` and ``similarity:FOLDER``: how near CLIP puts a picture to words.

The reward is the cosine of CLIP's embeddings of the picture and of a text (Radford et al. 2021). It
needs neither attributes nor conditions: any words can be asked about.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ctrak_jax.config import Config
from ctrak_jax.errors import UsageError
from ctrak_jax.models.clip import CLIPImage, clip_files, load_image_and_text
from ctrak_jax.models.tokenizers import tokenizer_files
from ctrak_jax.rewards.base import (
    NO,
    YES,
    Concept,
    ConceptReward,
    Picture,
    PictureReward,
    RewardRequest,
)
from ctrak_jax.store.files import blocks_digest, digest
from ctrak_jax.typing import Array, Params, Scalar


def load(place: str, request: RewardRequest, /) -> ConceptReward:
    """The cosine of a picture's embedding and that of a concept's words.

    Args:
        place: the folder of a CLIP model; empty for that of ``similarity.clip``.
        request: what is asked about.

    Raises:
        UsageError: no such model, or one without its tokenizer.
    """
    folder, template = folder_of(place, request.config), request.config.similarity.template
    image, text = load_image_and_text(folder)
    embed = jax.jit(text.network.apply)

    def target(concept: Concept) -> np.ndarray:
        return np.asarray(unit(embed(text.params, text.network.tokens(words(template, concept)))))

    targets = {concept: target(concept) for concept in request.concepts}
    about = f"similarity by the CLIP model {folder}"
    return ConceptReward(cosine(image.network), image.params, targets, about)


def key(place: str, config: Config, folder: Path, /) -> Mapping[str, Any]:
    """What stands for the model, its tokenizer and the template.

    Raises:
        UsageError: there is no such model.
    """
    model = folder_of(place, config)
    return {
        "clip": blocks_digest(clip_files(model)),
        "tokenizer": digest(dict(tokenizer_files(model))),
        "template": config.similarity.template,
    }


def folder_of(place: str, config: Config) -> Path:
    """The folder of the CLIP model that is meant.

    Raises:
        UsageError: none is given.
    """
    folder = Path(place) if place else config.similarity.clip
    if folder is None:
        raise UsageError(
            "query.reward=similarity needs a CLIP model; give its folder by similarity.clip, or "
            "write similarity:FOLDER."
        )
    return folder


def words(template: str, concept: Concept) -> str:
    """The text that a picture is compared with: the template with the value and the attribute, or
    with the words asked about as both. The value "yes" is said by the attribute, "no" by "no" and
    the attribute."""
    name = concept.name.replace("_", " ")
    said = {None: name, YES: name, NO: f"no {name}"}.get(concept.value, concept.value) or name
    return template.format(value=said.replace("_", " "), attribute=name)


def cosine(network: CLIPImage) -> PictureReward:
    """The reward of a picture by CLIP's image encoder; its target is a text's embedding of length
    one."""

    def fn(params: Params, picture: Picture, target: Array, /) -> Scalar:
        return jnp.vdot(unit(network.apply(params, network.preprocessed(picture))), target)

    return fn


def unit(vector: Float[Array, " width"]) -> Float[Array, " width"]:
    """The vector at length one."""
    return vector / jnp.linalg.norm(vector)
