"""Concepts that a text-to-image model is taught, each as a new token."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ctrak_jax.config.base import Natural, Positive, Section, Seed


class CustomiseConfig(Section):
    """The new tokens that `ctrak customise` trains on a text-to-image model.checkpoint, and the
    pictures it generates with them. A row of a list of concepts may say kind, initial, token,
    train_prompt and prompts itself."""

    concepts: Path | None = None
    """A folder with one folder of 1 to 21 pictures per concept, or a list of concepts (.json,
    .csv)."""
    candidates: Path | None = None
    """A data set of pictures with captions that becomes AbC's LAION files, the candidates beside
    the exemplars. Empty where DIR has them, or they come later."""
    kind: Literal["object", "style"] = "object"
    """What the concepts are. Styles are written as AbC's test_artchive, objects as its
    test_observed_imagenet."""
    initial: str | None = None
    """The word, one token of the text encoder, whose embedding a new token starts from."""
    token: str = "<new1>"
    """The new token. Every concept has a folder of its own, so all may share one name."""
    vectors: Natural = 1
    """Vectors of a token."""
    train_prompt: str | None = None
    """What a concept's pictures are trained under, with {token} and, if wanted, {initial}. Empty
    for AbC's: "A picture in the style of {token} art" or "{token} {initial}"."""
    prompts: tuple[str, ...] = ()
    """Prompts of generated pictures, likewise, in turns. Empty for the training prompt."""
    images: int = Field(default=4, ge=0)
    """Pictures generated with every token."""
    first_seed: Seed = 0
    """Seed of a concept's first picture; the next ones follow. A picture's name is its seed."""
    loss: Literal["velocity", "noise"] = "velocity"
    """What is compared: the velocity, which gives steps of much noise more weight, or the noise."""
    steps: Natural = 500
    """Optimiser steps (Adam) per concept."""
    batch: Natural = 8
    """Pictures per step, over all devices."""
    learning_rate: Positive = 5e-3
    """Peak learning rate, after a linear warm-up of a tenth of the steps; a cosine to zero
    follows."""
    seed: Seed = 0
    """Seed of the training."""
