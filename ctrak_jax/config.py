"""Configuration: frozen sections with defaults, YAML in, one clear error out.

A YAML file holds only what differs from the defaults; ``--section.field VALUE`` on the command line
goes on top. :func:`load` names the key, its line and the nearest valid one where something is off.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from ctrak_jax.errors import UsageError
from ctrak_jax.methods import METHODS

Natural = Field(ge=1)
Positive = Field(gt=0)


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused, defaults documented."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Run(Section):
    """Seeds and devices."""

    seeds: tuple[int, ...] = (0,)
    """Training seeds; each trains, featurizes and is asked on its own."""
    devices: int | None = Field(None, ge=1)
    """Local devices to use; empty for all."""


class Data(Section):
    """The training images."""

    kind: Literal["synthetic", "folder"] = "synthetic"
    """Drawn shapes, or a folder of images and attributes."""
    path: Path | None = None
    """The folder (kind: folder)."""
    size: int = Field(2000, ge=1)
    """Images drawn, held-out ones included (synthetic)."""
    image_size: int = Field(16, ge=8)
    """Side of the drawn images in pixels (synthetic)."""
    shapes: tuple[str, ...] = ("triangle", "circle")
    """Shapes drawn (synthetic)."""
    colors: tuple[str, ...] = ("red", "blue")
    """Colours drawn (synthetic)."""
    seed: int = 0
    """Seed of the drawn images (synthetic)."""
    condition_on: tuple[str, ...] = ("shape", "color")
    """Attributes that make up the condition, in order."""
    candidates: int | None = Field(None, ge=1)
    """Training images that are attributed over, drawn at random; empty for all of them."""
    hold_out: tuple[dict[str, str], ...] = ()
    """Combinations of values kept out of training: the out-of-distribution queries."""


class Model(Section):
    """The network."""

    size: Literal["tiny", "paper"] = "tiny"
    """Named size of the diffusion transformer."""
    width: int | None = Field(None, ge=8)
    """Channels of a token; overrides the size's."""
    depth: int | None = Field(None, ge=1)
    """Blocks; overrides the size's."""
    heads: int | None = Field(None, ge=1)
    """Attention heads; overrides the size's."""
    patch: int | None = Field(None, ge=1)
    """Side of a patch in pixels; overrides the size's."""
    checkpoint: Path | None = None
    """A published checkpoint (safetensors) used instead of training."""


class ScheduleConfig(Section):
    """The noise schedule and what the network predicts."""

    kind: Literal["linear", "scaled-linear", "cosine"] = "linear"
    """Noise schedule."""
    steps: int = Field(1000, ge=10)
    """Timesteps of the schedule."""
    prediction: Literal["eps", "v", "x0"] = "eps"
    """What the network predicts."""


class Train(Section):
    """Training of the network."""

    steps: int = Field(6000, ge=1)
    """Optimiser steps."""
    batch: int = Field(128, ge=1)
    """Images a step, over all devices."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for matrices with Adam for the rest, or AdamW."""
    learning_rate: float = Field(1e-2, gt=0)
    """Peak learning rate."""
    warmup: int = Field(100, ge=0)
    """Steps of linear warm-up; a cosine to zero follows."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    clip: float = Field(1.0, gt=0)
    """Global norm at which gradients are clipped."""
    ema: float = Field(0.995, ge=0, lt=1)
    """Decay of the averaged parameters, which are the model afterwards."""
    attribute_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability that an attribute of a sample's condition becomes null, each on its own."""
    scan: int = Field(50, ge=1)
    """Steps compiled into one call."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between checkpoints; a multiple of scan."""


class Trajectory(Section):
    """Paths of the training samples."""

    steps: int = Field(50, ge=2)
    """Grid steps S of the DDIM trajectories."""
    record_every: int = Field(5, ge=1)
    """Every how many steps a state becomes an attribution timestep."""
    guidance: float = Field(7.5, ge=0)
    """Guidance scale of the training samples' inversion; 1 for none."""
    against: Literal["other", "null"] = "other"
    """Guidance against another training condition, fixed by the sample's index, or the null."""
    seed: int = Field(0, ge=0)
    """Seed of the forward noise, one draw a (sample, timestep)."""


class Gradient(Section):
    """Per-sample gradients."""

    include: tuple[str, ...] = ("*",)
    """Patterns of the parameters whose gradients are taken."""
    exclude: tuple[str, ...] = ()
    """Patterns left out of them."""
    time_chunk: int = Field(9, ge=1)
    """Timesteps side by side; a divisor of their number. Fewer take less memory."""
    batch: int = Field(32, ge=1)
    """Samples side by side, over all devices."""


class ProjectionConfig(Section):
    """The random projection."""

    kind: Literal["rademacher", "gaussian"] = "rademacher"
    """Distribution of the Johnson-Lindenstrauss matrix."""
    k: int = Field(4096, ge=1)
    """Columns: the length of a feature; a multiple of 32."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the matrix."""
    tile: int = Field(1024, ge=1)
    """Rows made at a time; changes speed and memory, never the matrix."""


class Store(Section):
    """Features on disk."""

    chunk: int = Field(64, ge=1)
    """Rows written, and after a kill computed again, at a time."""


class Query(Section):
    """The questions asked."""

    scopes: tuple[Literal["local", "global"], ...] = ("local", "global")
    """Local: one image. Global: the model's own samples under the condition."""
    per_combination: int = Field(8, ge=1)
    """Local queries a combination of attribute values."""
    validation: int = Field(4, ge=1)
    """Further in-distribution queries a combination, used only to choose the damping."""
    combinations: int = Field(16, ge=1)
    """At most this many combinations of attribute values each in and out of distribution."""
    trajectories: int = Field(16, ge=1)
    """Sampling trajectories of a global query."""
    check: Literal["shapes", "none"] = "shapes"
    """How a generated image is checked for its concepts before it becomes a query."""
    attempts: int = Field(8, ge=1)
    """Images generated per one wanted before giving up."""
    sampling_guidance: float = Field(1.0, ge=0)
    """Guidance scale (against the null) with which queries are generated; 1 for none."""
    guidance: float = Field(1.0, ge=0)
    """Guidance scale of the query's own inversion; 1 for none."""
    eta: float = Field(0.1, ge=0)
    """Fresh noise in the query's inversion."""
    repetitions: int = Field(8, ge=1)
    """Inversions a query is averaged over (1 is enough at eta 0)."""
    scale: float = Field(7.5, gt=0)
    """Slider scale lambda_c."""
    minus: Literal["other", "null"] = "other"
    """The condition without the concept: another value of its attribute, or the null value."""
    seed: int = 1_000_000
    """Seed of the generated queries."""


class Unlearning(Section):
    """The unlearning baseline."""

    learning_rate: float = Field(1e-3, gt=0)
    """Size of the one preconditioned ascent step."""
    fisher_samples: int = Field(256, ge=1)
    """Training samples behind the diagonal Fisher."""


class Score(Section):
    """Damping and rankings."""

    damping: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
    """Damping multiples r tried on the validation queries, one chosen for each method."""
    top: int = Field(100, ge=1)
    """Rows a query in the top lists."""
    keep_all: bool = True
    """Keep every score, not only the top ones."""


class Evaluate(Section):
    """Metrics."""

    k: tuple[int, ...] = (10,)
    """Depths of precision@k; the first chooses the damping."""
    bootstrap: int = Field(10_000, ge=100)
    """Bootstrap replicates of the confidence intervals."""


class Config(Section):
    """A whole run."""

    name: str = "run"
    """Title of the report."""
    out: Path | None = None
    """Where results go; --out wins; runs/<name of the config file> otherwise."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Attribution methods compared."""
    controls: tuple[Literal["no-condition-embedding", "wrong-label"], ...] = ("wrong-label",)
    """Control experiments reported beside the main table."""
    run: Run = Run()
    data: Data = Data()
    model: Model = Model()
    schedule: ScheduleConfig = ScheduleConfig()
    train: Train = Train()
    trajectory: Trajectory = Trajectory()
    gradient: Gradient = Gradient()
    projection: ProjectionConfig = ProjectionConfig()
    store: Store = Store()
    query: Query = Query()
    unlearning: Unlearning = Unlearning()
    score: Score = Score()
    evaluate: Evaluate = Evaluate()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Config":
        times = self.trajectory.steps // self.trajectory.record_every - 1
        problems = [
            (
                self.projection.k % 32 != 0,
                f"projection.k={self.projection.k} must be a multiple of 32; "
                f"try {max(32, round(self.projection.k / 32) * 32)}",
            ),
            (
                self.trajectory.steps % self.trajectory.record_every != 0 or times < 1,
                f"trajectory.record_every={self.trajectory.record_every} must divide "
                f"trajectory.steps={self.trajectory.steps} at least twice; try 5 of 50",
            ),
            (
                times >= 1 and times % self.gradient.time_chunk != 0,
                f"gradient.time_chunk={self.gradient.time_chunk} must divide the {times} "
                f"attribution timesteps; use one of "
                f"{[n for n in range(1, times + 1) if times % n == 0]}",
            ),
            (
                self.train.checkpoint_every % self.train.scan != 0,
                f"train.checkpoint_every={self.train.checkpoint_every} must be a multiple of "
                f"train.scan={self.train.scan}",
            ),
            (
                self.data.kind == "folder" and self.data.path is None,
                "data.kind=folder needs data.path, the folder with images and attributes.csv",
            ),
            (
                self.data.kind == "folder" and self.query.check == "shapes",
                "query.check=shapes knows only drawn shapes; use query.check: none for a folder",
            ),
            (not self.run.seeds, "run.seeds is empty; give at least one training seed"),
            (not self.score.damping, "score.damping is empty; give at least one multiple"),
            (
                any(k > self.score.top for k in self.evaluate.k),
                f"evaluate.k={list(self.evaluate.k)} reaches deeper than score.top="
                f"{self.score.top}; raise score.top",
            ),
        ]
        unknown = [m for m in self.methods if m not in METHODS]
        if unknown:
            near = difflib.get_close_matches(unknown[0], METHODS, 1, 0.0)[0]
            problems.append((True, f"methods: {unknown[0]!r} is not known; did you mean {near!r}?"))
        for wrong, message in problems:
            if wrong:
                raise ValueError(message)
        return self


def sections() -> dict[str, type[Section]]:
    """The nested sections of the config by name."""
    return {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def load(path: Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """Read a YAML config and put command line overrides (``section.field`` -> text) on top.

    Raises:
        UsageError: unreadable file, unknown key, wrong type or value; one line.
    """
    raw, lines = ({}, {}) if path is None else _read(path)
    for dotted, text in (overrides or {}).items():
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"--{dotted}: cannot read {text!r} as a YAML value.") from None
        node, (*parents, leaf) = raw, dotted.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
        lines[tuple(dotted.split("."))] = f"--{dotted}"
    _reject_unknown(raw, lines)
    try:
        return Config.model_validate(raw)
    except pydantic.ValidationError as error:
        raise UsageError(_explain(error, lines, str(path or "config"))) from None


def dump(config: Config) -> str:
    """The full resolved config as YAML; reads back to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read(path: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], str]]:
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(
            f"config {path}: {error.strerror or error}; give the path of a YAML file."
        ) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise UsageError(
            f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}."
        ) from None
    if raw is None:
        return {}, {}
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: got a {type(raw).__name__}, expected sections such as 'data:'.")
    lines: dict[tuple[str | int, ...], str] = {}

    def visit(node: yaml.Node, place: tuple[str | int, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                lines[(*place, key.value)] = f"{path}:{key.start_mark.line + 1}"
                visit(value, (*place, key.value))

    if node is not None:
        visit(node, ())
    return raw, lines


def _reject_unknown(raw: Mapping[str, Any], lines: Mapping[tuple[str | int, ...], str]) -> None:
    known = {name: list(section.model_fields) for name, section in sections().items()}
    every = [*Config.model_fields, *(f"{s}.{f}" for s, fields in known.items() for f in fields)]
    for key, value in raw.items():
        places = [(key,)] if key not in known or not isinstance(value, dict) else []
        if not places:
            places = [(key, inner) for inner in value]
        for place in places:
            dotted = ".".join(map(str, place))
            if dotted not in every:
                near = difflib.get_close_matches(dotted, every, 1, 0.0)[0]
                raise UsageError(
                    f"{lines.get(place, dotted)}: unknown key {dotted!r}; did you mean {near!r}?"
                )


def _explain(
    error: pydantic.ValidationError, lines: Mapping[tuple[str | int, ...], str], source: str
) -> str:
    first = error.errors(include_url=False)[0]
    place: Sequence[str | int] = first["loc"]
    where = next(
        (lines[tuple(place[:n])] for n in range(len(place), 0, -1) if tuple(place[:n]) in lines),
        source,
    )
    if not place:
        return f"{where}: {first['msg'].removeprefix('Value error, ')}."
    dotted = ".".join(map(str, place))
    return (
        f"{where}: {dotted}: got {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}."
    )
