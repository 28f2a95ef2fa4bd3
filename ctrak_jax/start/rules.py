"""From the facts of a folder to settings, each with its reason: a function per rule.

A rule writes what depends on the folder or on the machine; all else is left to the defaults of the
config. What the numbers below come from: drawn shapes (16 x 16 pixels, 4 values, 4,000 images,
width 64, 2,000 steps: draws and combines them right), avatars (32 x 32, 22 values, 8,900 images,
width 128, 3,000 steps: likewise), photographs (32 x 32, 20 values, 12,000 images, width 128, 2,000
steps: colours and styles right, forms crude), avatars by captions (configs/text_to_image.yaml).
"""

import math
from collections.abc import Callable, Iterator

from ctrak_jax.start import costs
from ctrak_jax.start.situation import Choice, Situation, config_of, spent

SMALL_SIDE = 16
"""Up to this side width 64 is enough (shapes); beyond it is 128 (avatars)."""
STEPS = {"least": 1000, "base": 1500, "per token": 30, "per value": 20}
"""Training steps wanted: 2,000 for shapes (16 tokens, 4 values), 3,800 for avatars (3,000 suffice)
and for photographs, which want more than 2,000."""
MOST_EPOCHS = 400
"""Passes over the images (shapes 64, avatars 43), else a network only learns them by heart."""
LEAST_SHARE = 0.6
"""Share of the steps wanted below which no lack of time goes: 2,300 of 3,800."""
TRAINING_SHARE = 0.7
"""Of the time there is: a model that draws badly cannot be asked, fewer candidates can."""
WORKING_SHARE = 0.9
"""Of the time there is, for training, featurizing and questions; the rest is compiling."""
MOST_CANDIDATES = 5000
"""Features of four methods then take 330 MB (k = 4,096), and scores are exact in memory."""
FEWEST_CANDIDATES = 500
"""Fewer hold too few carriers of one of 22 values."""
PART = 0.7
"""Candidates are at most this share of the images, or all: a hold-out must leave as many."""
COMBINATIONS = 12
"""Combinations asked about (avatars: intervals of about 0.05 with 24 images)."""
IMAGES_ASKED = 24
"""Images asked about, over all combinations."""
CHECKPOINT_EVERY = 500

KILLED = "A training that is killed loses at most so many steps."
NOT_EVERY = "Not every combination of values has a caption."


def source(at: Situation) -> Iterator[Choice]:
    """Where the images are, and how they are read."""
    facts, frame = at.facts, at.frame
    yield Choice("name", facts.name, "Title of the report.")
    yield Choice("data.kind", facts.kind, "The form of the folder (docs/reference/data.md).")
    yield Choice("data.path", str(facts.folder), "As seen from where ctrak is called.")
    if frame.resize and facts.kind == "folder":
        yield Choice("data.resize", True, "Cropped to the centred square and resized.")
    if frame.resize:
        yield Choice("data.image_size", frame.side, frame.why)
    lacking = [c.name for c in at.selection.chosen or facts.columns if c.missing]
    if lacking:
        why = f"Images without a value of {', '.join(lacking)} are left out."
        yield Choice("data.incomplete", "skip", why)
    yield Choice(
        "query.check", "none", "The rule that checks what an image shows knows drawn shapes alone."
    )


def conditions(at: Situation) -> Iterator[Choice]:
    """What the model is conditioned on, and what is asked about."""
    counts = [f"{c.name} ({len(c.counts)} values)" for c in at.selection.chosen]
    names = [column.name for column in at.selection.chosen]
    if names:
        why = f"What the model is conditioned on and what is asked about: {', '.join(counts)}."
    else:
        why = "No attribute suits. The model is conditioned on captions; questions are in words."
    yield Choice("data.condition_on", names, why)


def network(at: Situation) -> Iterator[Choice]:
    """How large the network is."""
    yield Choice(
        "model.kind",
        at.kind,
        "A diffusion transformer conditioned on the attributes."
        if at.kind == "dit"
        else "A small Stable Diffusion, trained here on images and captions.",
    )
    if at.kind == "text-to-image":
        return
    small = at.frame.side <= SMALL_SIDE
    yield Choice(
        "model.width",
        64 if small else 128,
        f"Channels per token: enough for images {'up to' if small else 'beyond'} {SMALL_SIDE} "
        "pixels.",
    )
    yield Choice("model.patch", at.frame.patch, at.frame.why_patch)


def training(at: Situation) -> Iterator[Choice]:
    """How long the network is trained."""
    batch = 64 if at.kind == "text-to-image" else 128
    batch = min(batch, max(8, 2 ** math.floor(math.log2(at.facts.pictures / 2))))
    if at.kind == "text-to-image":
        yield from text_training(batch)
        return
    side, pictures = at.frame.side, at.facts.pictures
    tokens = (side // at.frame.patch) ** 2
    wanted = STEPS["base"] + STEPS["per token"] * tokens + STEPS["per value"] * at.values
    why = f"for {tokens} patches and {at.values} values"
    passes = MOST_EPOCHS * pictures / batch
    if passes < wanted:
        wanted, why = passes, f"{MOST_EPOCHS} passes over {pictures} images"
    config = config_of((*at.choices, Choice("train.batch", batch, "")))
    minutes = TRAINING_SHARE * at.machine.minutes
    affordable = minutes / at.minutes(costs.step(config, side))
    if affordable < wanted:
        why = f"{wanted:.0f} are wanted {why}, and time is short"
        wanted = max(affordable, LEAST_SHARE * wanted)
    steps = max(STEPS["least"], math.floor(wanted / 100) * 100)
    yield Choice("train.steps", steps, f"Optimiser steps: {why}.")
    yield Choice("train.batch", batch, "Images per step, at most half of them.")
    yield Choice(
        "train.checkpoint_every",
        CHECKPOINT_EVERY,
        KILLED,
    )


def text_training(batch: int) -> Iterator[Choice]:
    """As in configs/text_to_image.yaml: 2,600 captions of 1,440 combinations were learnt so."""
    why = "As for avatars by captions (docs/results/captions.md)."
    yield Choice("autoencoder.steps", 800, why)
    yield Choice("train.steps", 1200, why)
    yield Choice("train.batch", batch, "Images per step, at most half of them.")
    yield Choice("train.adam_learning_rate", 1e-3, why)
    yield Choice("train.condition_dropout", 0.1, "So often a caption is left out in training.")
    yield Choice("train.scan", 20, "Steps between two looks at the loss.")
    yield Choice("train.checkpoint_every", 400, KILLED)
    yield Choice("query.sampling_guidance", 3.0, "A model of captions draws them clearer so.")


def compared(at: Situation) -> Iterator[Choice]:
    """Questions about images that the model generates."""
    yield Choice("controls", [], "Experiments about the method itself: not for a first answer.")
    if not at.selection.chosen:
        return
    if not at.every_caption:
        yield Choice("query.minus", "null", NOT_EVERY)
    asked = min(COMBINATIONS, at.combinations)
    per = min(8, max(2, math.ceil(IMAGES_ASKED / asked)))
    yield Choice("query.scopes", ["local"], "Questions about single images.")
    yield Choice(
        "query.combinations", asked, f"Combinations asked about, of {at.combinations} that occur."
    )
    yield Choice("query.per_combination", per, "Images per combination, generated by the model.")
    yield Choice("query.validation", max(2, per // 2), "Further ones that only choose the damping.")


def projected(at: Situation) -> Iterator[Choice]:
    """The length of a feature."""
    large = at.kind == "text-to-image" or at.frame.side > SMALL_SIDE
    yield Choice("projection.kind", "srht", "As good as the default and faster on a CPU.")
    yield Choice("projection.k", 4096 if large else 2048, "Length of a feature.")


def method(at: Situation) -> Iterator[Choice]:
    """Settings of the method: the defaults of the config. Of a UNet's 4.2 million parameters those
    where words act."""
    if at.kind == "text-to-image":
        yield Choice("gradient.include", ["*attn2*"], "The layers in which words act.")


def candidates(at: Situation) -> Iterator[Choice]:
    """How many images are ranked: each is featurized once, and once without every attribute."""
    pictures, before = at.facts.pictures, spent(at)
    left = WORKING_SHARE * at.machine.minutes - before.training - before.questions
    one = at.minutes(costs.featurizing(at.config, at.frame.side, 1))
    count = min(MOST_CANDIDATES, max(FEWEST_CANDIDATES, math.floor(left / one / 100) * 100))
    if count < pictures:
        yield Choice(
            "data.candidates",
            min(count, math.floor(PART * pictures / 10) * 10),
            f"Images that are ranked, drawn at random of {pictures}: what the time is enough for.",
        )


RULES: tuple[Callable[[Situation], Iterator[Choice]], ...] = (
    *(source, network, conditions, training, compared, projected, method, candidates),
)
"""In order: a rule may look at what was chosen before it."""
