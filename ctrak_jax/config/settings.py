"""A whole config: its sections, and what must hold between them."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic

from ctrak_jax.config.presets import PRESETS, below
from ctrak_jax.config.sections import (
    AutoencoderConfig,
    CounterfactualConfig,
    DataConfig,
    EncodeConfig,
    EvaluateConfig,
    GradientConfig,
    MeshConfig,
    ModelConfig,
    ProjectionConfig,
    QueryConfig,
    RunConfig,
    ScheduleConfig,
    ScoreConfig,
    Section,
    StoreConfig,
    TrainConfig,
    TrajectoryConfig,
    UnlearningConfig,
)
from ctrak_jax.methods import METHODS


class Config(Section):
    """A whole run."""

    name: str = "run"
    """Title of the report."""
    preset: Literal["published"] | None = None
    """Values that go below those given here: published, the paper's settings and its projection."""
    out: Path | None = None
    """Where results go; --out wins; runs/<name of the config file> otherwise."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Attribution methods compared."""
    controls: tuple[Literal["no-condition-embedding", "wrong-label"], ...] = ("wrong-label",)
    """Control experiments reported beside the main table."""
    run: RunConfig = RunConfig()
    mesh: MeshConfig = MeshConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    encode: EncodeConfig = EncodeConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    gradient: GradientConfig = GradientConfig()
    projection: ProjectionConfig = ProjectionConfig()
    store: StoreConfig = StoreConfig()
    query: QueryConfig = QueryConfig()
    unlearning: UnlearningConfig = UnlearningConfig()
    score: ScoreConfig = ScoreConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    counterfactual: CounterfactualConfig = CounterfactualConfig()

    @property
    def negatives(self) -> int:
        """Negative conditions of a sample, where the data set has so many."""
        kind, asked = self.trajectory.negative, self.trajectory.negatives
        attributes = len(self.data.condition_on)
        opposite = asked if attributes else 0
        most = {"null": 1, "prompt": 1, "attribute": attributes, "opposite": opposite}
        return min(asked, most.get(kind, asked))

    @property
    def recorded(self) -> int:
        """States that a trajectory records."""
        return self.trajectory.steps // self.trajectory.record_every - 1

    @property
    def timesteps(self) -> int:
        """Attribution timesteps."""
        return min(self.trajectory.timesteps or self.recorded, self.recorded)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _above_preset(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        return below(preset, given) if isinstance(preset, str) and preset in PRESETS else given

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Config":
        recorded, times = self.recorded, self.timesteps
        problems = [
            (
                self.projection.k % 32 != 0,
                f"projection.k={self.projection.k} must be a multiple of 32; "
                f"try {max(32, round(self.projection.k / 32) * 32)}",
            ),
            (
                self.projection.kind != "rademacher"
                and self.projection.implementation not in ("auto", "xla"),
                f"projection.implementation={self.projection.implementation} makes rademacher "
                f"signs alone, got projection.kind={self.projection.kind}; use auto or xla",
            ),
            (
                self.trajectory.steps % self.trajectory.record_every != 0 or recorded < 1,
                f"trajectory.record_every={self.trajectory.record_every} must divide "
                f"trajectory.steps={self.trajectory.steps} at least twice; try 5 of 50",
            ),
            (
                1 <= recorded < (self.trajectory.timesteps or 1),
                f"trajectory.timesteps={self.trajectory.timesteps} of {recorded} recorded ones; "
                f"use at most {recorded}, or a smaller record_every",
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
                self.data.kind != "synthetic" and self.data.path is None,
                f"data.kind={self.data.kind} needs data.path, the folder of the data set",
            ),
            (
                self.data.kind != "synthetic" and self.query.check == "shapes",
                "query.check=shapes knows only drawn shapes; use query.check: none for "
                f"data.kind={self.data.kind}",
            ),
            (
                self.model.kind == "text-to-image" and self.data.kind not in ("folder", "abc"),
                f"model.kind=text-to-image needs captions, data.kind={self.data.kind} has none; "
                "use a folder with prompts.txt",
            ),
            (
                self.data.kind == "abc"
                and (self.model.kind != "text-to-image" or self.model.checkpoint is None),
                "data.kind=abc needs model.kind: text-to-image and model.checkpoint, the folder of "
                "a Stable Diffusion model",
            ),
            (
                self.data.kind == "abc" and self.trajectory.negative in ("attribute", "opposite"),
                "data.kind=abc has no attributes, so trajectory.negative="
                f"{self.trajectory.negative} means nothing; use null, other or prompt",
            ),
            (
                self.model.kind == "dit"
                and (self.model.dtype, self.model.remat, self.model.efficient_attention)
                != ("float32", False, False),
                "model.dtype, model.remat and model.efficient_attention are of a text-to-image "
                "network; leave them out for model.kind=dit",
            ),
            (
                self.model.kind == "dit" and not self.data.condition_on,
                "data.condition_on is empty; give at least one",
            ),
            (
                not self.negatives,
                f"trajectory.negative={self.trajectory.negative} changes attributes of "
                "data.condition_on, which is empty; use other, null or prompt",
            ),
            (
                (self.trajectory.negative == "prompt") != bool(self.trajectory.negative_prompt),
                "trajectory.negative=prompt and trajectory.negative_prompt belong together; give "
                "both or neither",
            ),
            (
                self.trajectory.negative == "prompt" and self.model.kind != "text-to-image",
                f"trajectory.negative=prompt needs a text, model.kind={self.model.kind} has none; "
                "use attribute, opposite, other or null",
            ),
            (
                any(k > self.score.top for k in self.evaluate.k),
                f"evaluate.k={list(self.evaluate.k)} reaches deeper than score.top="
                f"{self.score.top}; raise score.top",
            ),
            (
                list(self.score.damping) != sorted(set(self.score.damping)),
                f"score.damping={list(self.score.damping)} must ascend, each value once",
            ),
            (
                not self.score.keep_all and "wrong-label" in self.controls,
                "score.keep_all=false leaves no scores for the wrong-label control; keep them, or "
                "leave it out of controls",
            ),
            (
                "wrong-label" in self.controls and not self.data.condition_on,
                "controls=wrong-label gives images other conditions, data.condition_on is empty; "
                "leave it out of controls",
            ),
        ]
        distinct: dict[str, Sequence[Any]] = {
            "methods": self.methods,
            "run.seeds": self.run.seeds,
            "query.scopes": self.query.scopes,
            "counterfactual.methods": self.counterfactual.methods,
            "counterfactual.scenarios": self.counterfactual.scenarios,
        }
        full = distinct | {"score.damping": self.score.damping, "evaluate.k": self.evaluate.k}
        problems += [
            (not values, f"{name} is empty; give at least one") for name, values in full.items()
        ]
        problems += [
            (len(set(values)) < len(values), f"{name}={list(values)} must name each one once")
            for name, values in (distinct | {"data.condition_on": self.data.condition_on}).items()
        ]
        for name in ("methods", "counterfactual.methods"):
            for unknown in (m for m in full[name] if m not in METHODS):
                near = difflib.get_close_matches(unknown, METHODS, 1)
                advice = f"did you mean {near[0]!r}" if near else f"use some of {list(METHODS)}"
                problems.append((True, f"{name}: {unknown!r} is not known; {advice}"))
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
