"""From features to scores and what they are worth."""

import difflib
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ctrak_jax.config.base import (
    DISTINCT,
    FILLED,
    PERFORMANCE,
    Natural,
    Positive,
    Section,
    Seed,
)
from ctrak_jax.methods import ATTRIBUTION, REFERENCES

REMOVED_BY = (*ATTRIBUTION, "labels")
"""What ranks images that may be left out; images at random always are, and a similarity answers no
global question of a class-conditional model, the only one that is trained again."""


def _known(methods: tuple[Any, ...], known: tuple[Any, ...] = ATTRIBUTION) -> tuple[Any, ...]:
    for name in methods:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            advice = f"did you mean {near[0]!r}" if near else f"use some of {list(known)}"
            if name in REFERENCES and known is ATTRIBUTION:
                advice = "it is a reference, name it in references"
            raise ValueError(f"has the unknown method {name!r}; {advice}")
    return methods


def _removing(methods: tuple[Any, ...]) -> tuple[Any, ...]:
    return _known(methods, REMOVED_BY)


def _references(given: Any) -> Any:
    if given == "auto":
        return given
    if not isinstance(given, (list, tuple)):
        raise ValueError("is neither auto nor a list; write auto, or a list such as [labels]")
    if len(set(map(str, given))) < len(given):
        raise ValueError("must name each one once")
    return _known(tuple(given), REFERENCES)


def _ascending(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("must ascend, each value once")
    return values


Damping = Annotated[tuple[Positive, ...], FILLED, AfterValidator(_ascending)]
Methods = Annotated[tuple[str, ...], FILLED, DISTINCT, AfterValidator(_known)]
Removing = Annotated[tuple[str, ...], FILLED, DISTINCT, AfterValidator(_removing)]
References = Annotated[Literal["auto"] | tuple[str, ...], BeforeValidator(_references)]


class UnlearningConfig(Section):
    """The unlearning baseline."""

    learning_rate: Positive = 1e-5
    """Size of the one preconditioned ascent step: large enough to raise the query's own loss well
    above its neighbours', small enough to leave the model as it is otherwise."""
    fisher_samples: Natural = 256
    """Training samples behind the diagonal Fisher."""


def _template(text: str) -> str:
    try:
        fields = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"is no template ({error}); write a picture of {{value}}") from None
    if not fields or fields - {"value", "attribute"}:
        raise ValueError("names other things than {value} and {attribute}, or none of them")
    return text


class SimilarityConfig(Section):
    """Similarities: references that methods are compared with, and a reward."""

    clip: Path | None = None
    """The folder of a CLIP model as transformers saves it (config.json, and flax_model.msgpack or
    model.safetensors): gives the reference similarity-clip. The reward `similarity` reads its
    tokenizer, too."""
    template: Annotated[str, AfterValidator(_template)] = "a picture of {value}"
    """The text that the reward `similarity` compares a picture with; {value} and {attribute} are
    those asked about, or both the words of a question without attributes."""


class ScoreConfig(Section):
    """Damping and rankings."""

    damping: Damping = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
    """Damping multiples r tried on the validation queries."""
    damping_for: Literal["method", "attribute"] = "attribute"
    """One damping per method, or one per method and attribute, chosen on the validation queries
    about it."""
    oracle: Annotated[tuple[Positive, ...], AfterValidator(_ascending)] = ()
    """Damping multiples of which, beside score.damping, each task is also measured at the one that
    is best for itself: the published choice, an oracle that knows the answers (abc)."""
    kernel: Literal["all", "laion"] = "all"
    """What the Fisher of an AbC task sums over: LAION and the task's exemplars, or LAION alone as
    published."""
    solver: Literal["auto", "spectrum", "cg"] = "auto"
    """spectrum: exact, in memory; cg: iterates over features on disk; auto: by size and memory,
    among these, Cholesky and the dual."""
    k: Natural = 10
    """Depth of the precision@k by which the damping is chosen, at most score.top."""
    top: Natural = 100
    """Rows per query in the top lists."""
    keep_all: bool = True
    """Keep every score, not only the top ones."""
    ensemble: bool = False
    """Also average a question's scores, standardised over the candidates, over all run.seeds, which
    then ask about the pictures of the first one."""


class UnnamedConfig(Section):
    """Candidates whose conditions do not name the attribute asked about: what a ranking finds by
    the picture alone."""

    attributes: Literal["all"] | tuple[str, ...] = "all"
    """Those of data.condition_on that this is measured for; each has features of its own."""
    candidates: Natural | None = None
    """Candidates that are featurized so, drawn at random; empty for all of them. Of a part alone
    Concept-TRAK's main answers are those under the null condition."""


class EvaluateConfig(Section):
    """Metrics."""

    k: Annotated[tuple[Natural, ...], FILLED] = (10,)
    """Depths of precision@k."""
    hidden_k: Natural = 50
    """Depth to which carriers that are not named are counted in the rankings (where data.unlabelled
    hides values in training)."""
    bootstrap: int = Field(default=10_000, ge=100)
    """Bootstrap replicates of the confidence intervals."""


class ReportConfig(Section):
    """The report."""

    maps: int = Field(default=0, ge=0)
    """How many questions of the explorer get maps of where their images' scores come from, which
    its switch "where" lays over the pictures: of the first training seed the first query of every
    combination, then the second. Each costs seconds (docs/howto/where-in-the-picture.md)."""
    groups: Annotated[tuple[str, ...], DISTINCT] = ()
    """Columns of the data set, such as artist, by whose values influence is summed in a section of
    its own."""


class CounterfactualConfig(Section):
    """Retraining without the top samples (`ctrak counterfactual`)."""

    remove: Natural = 500
    """Training images removed: those that rank highest for a concept, among data.candidates."""
    methods: Removing = ("concept-trak",)
    """Methods whose rankings are put to the test, labels among them; images at
    random always are."""
    scenarios: Annotated[tuple[Literal["id", "ood"], ...], FILLED, DISTINCT] = ("ood",)
    """Which global queries are tested: those of trained or of held-out combinations. One model is
    trained per method and query, and one for all without images at random."""
    among: Literal["all", "unlabelled"] = "all"
    """Which candidates may be left out: all, or those alone whose condition training left without
    the attribute asked about (data.unlabelled). Then only questions about such attributes are
    tested, and the images at random are drawn among the same, one model per attribute."""
    images: Natural = 64
    """Images that each model generates per query."""


class LdsConfig(Section):
    """Retraining on random subsets of the candidates (`ctrak lds`)."""

    subsets: int = Field(default=32, ge=3)
    """How many subsets are drawn and trained on. More of them keep the first ones."""
    trainings: Natural = 1
    """How many models are trained on each subset, each from a seed of its own, the first from the
    run's. What they give is averaged, and two or more tell how reliable it is. More of them keep
    the first ones."""
    share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the candidates in each subset."""
    seed: Seed = 0
    """Seed of the subsets."""
    questions: Natural | None = None
    """At most this many images asked about per scope and scenario, in turns over their
    combinations; empty for all."""
    members: Natural = 4
    """At most this many inversions per local query, and trajectories per global one."""
    images: Natural = 64
    """Images that each model generates per combination."""
    keep_models: Annotated[bool, PERFORMANCE] = False
    """Keep the retrained models; otherwise each is deleted once its outputs are written."""
