"""What to know beside the settings: how to look at a run, what to try next, what is missing."""

import math
import re
from collections.abc import Iterator

from ctrak_jax.start import costs
from ctrak_jax.start.columns import FREQUENT
from ctrak_jax.start.look import combinations_of
from ctrak_jax.start.pictures import LARGEST
from ctrak_jax.start.situation import Situation, spent

FEW_PICTURES = 500
"""Below, a network learns its images by heart."""
COMPILING = 2
"""Minutes of compiling, scoring and the report."""


def notes(at: Situation) -> Iterator[str]:
    """What to know beside the settings."""
    config, facts = at.config, at.facts
    if config.data.condition_on:
        yield (
            "First look at samples.png in the run's folder: what the model draws for each "
            "combination. Where it does not show its values, no answer about them means anything; "
            "raise train.steps, or take fewer values."
        )
        yield held_out(at)
    over = math.ceil(spent(at).total) + COMPILING - at.machine.minutes
    if over > at.machine.minutes / 4:
        yield (
            f"That is longer than the {at.machine.minutes:.0f} min of --minutes; with less "
            "training or fewer candidates answers would mean little."
        )
    yield from at.selection.remarks
    if facts.pictures < FEW_PICTURES:
        yield (
            f"{facts.pictures} images are few: the model learns them by heart, and answers say "
            "which image it repeats."
        )
    ranked = config.data.candidates
    if ranked and ranked < facts.pictures:
        yield from few_carriers(at, ranked)
    smallest = min(map(min, facts.sizes))
    if at.kind == "dit" and facts.resizable and smallest >= 2 * LARGEST == 2 * at.frame.side:
        larger = at.minutes(costs.training(config, 2 * LARGEST))
        yield (
            f"At {2 * LARGEST} pixels (--data.image_size {2 * LARGEST}) the same training would "
            f"take about {larger:.0f} min."
        )
    if at.kind == "dit" and facts.captions:
        yield "A model of the captions instead: ctrak init --kind text-to-image."
    if at.kind == "text-to-image":
        yield "It needs CLIP's vocabulary (make vocabulary)."


def held_out(at: Situation) -> str:
    """How to ask about a combination that the model never saw."""
    chosen = sorted(at.selection.chosen, key=lambda column: len(column.counts))[-2:]
    if len(chosen) < 2:
        return (
            "With one attribute no combination can be held out, so all questions are about images "
            "like those trained on; there a ranking of the whole image is right, too."
        )
    pairs = combinations_of(chosen)
    counts = [column.counts for column in chosen]

    def kept(pair: tuple[str, ...]) -> int:
        """Carriers that the rarer of two values keeps."""
        return min(c.get(value, 0) for c, value in zip(counts, pair, strict=True)) - pairs[pair]

    best = max(
        sorted(pairs), key=lambda pair: (kept(pair) >= FREQUENT, min(pairs[pair], kept(pair)))
    )
    values = dict(zip((column.name for column in chosen), best, strict=True))
    said = ", ".join(f"{_plain(name)}: {_plain(value)}" for name, value in values.items())
    return (
        "To ask about a combination that the model never saw, with another --out:\n"
        f"    --data.hold_out '[{{{said}}}]'\n"
        "Only there a ranking for one concept must differ from a ranking for the whole image, "
        "because no training image carries both values."
    )


def _plain(text: str) -> str:
    """A text as YAML reads it back as text, also between braces."""
    safe = re.fullmatch(r"[A-Za-z][\w-]*", text) and text.lower() not in YAML_WORDS
    return text if safe else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def few_carriers(at: Situation, ranked: int) -> Iterator[str]:
    """Values that so few candidates carry that a precision@10 of 1 is out of reach."""
    share = ranked / at.facts.pictures
    few = [
        f"{column.name}={value}"
        for column in at.selection.chosen
        for value, count in column.counts.items()
        if count >= FREQUENT > count * share
    ]
    if few:
        yield (
            f"Of {ranked} candidates fewer than {FREQUENT} carry {', '.join(few[:5])}"
            f"{' and others' if len(few) > 5 else ''}; raise data.candidates to ask about them."
        )
