"""A whole config: its sections, and its own settings."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator
from pydantic.fields import FieldInfo

from ctrak_jax.config.base import Section
from ctrak_jax.config.customise import CustomiseConfig
from ctrak_jax.config.data import DataConfig
from ctrak_jax.config.model import ModelConfig, ScheduleConfig
from ctrak_jax.config.presets import PRESETS, below
from ctrak_jax.config.query import QueryConfig
from ctrak_jax.config.rules import RULES, AbcControl, references_of
from ctrak_jax.config.run import MeshConfig, RunConfig, StoreConfig
from ctrak_jax.config.scoring import (
    CounterfactualConfig,
    EvaluateConfig,
    LdsConfig,
    Methods,
    References,
    ReportConfig,
    ScoreConfig,
    SimilarityConfig,
    UnlearningConfig,
    UnnamedConfig,
)
from ctrak_jax.config.training import AutoencoderConfig, EncodeConfig, TrainConfig, TuneConfig
from ctrak_jax.config.trajectory import GradientConfig, ProjectionConfig, TrajectoryConfig
from ctrak_jax.methods import CONCEPT_METHODS, METHODS, Method, concept_methods

Control = Literal["no-condition-embedding", "wrong-label", AbcControl]


class Config(Section):
    """A whole run."""

    name: str = "run"
    """Title of the report."""
    preset: Literal["published"] | None = None
    """Other defaults than these: published, the paper's settings and its projection, for AbC those
    of the published code."""
    out: Path | None = None
    """Where results go, unless `--out` says; empty for runs/NAME with a config NAME.yaml."""
    methods: Methods = ("concept-trak", "trak", "d-trak", "das")
    """Attribution methods compared."""
    references: References = "auto"
    """Rankings that cost nothing, shown below the methods: a list of labels, random,
    similarity-pixels, similarity-latents and similarity-text (text-to-image), similarity-clip
    (similarity.clip). auto: all that there can be; an empty list: none. `ctrak abc` has labels,
    which looks the token up, random and similarity-latents."""
    controls: tuple[Control, ...] = ("wrong-label",)
    """Control experiments reported beside the main table. wrong-label gives images other
    conditions, and is left out where data.condition_on is empty. Those of `ctrak abc`:
    without-token, exemplars under their prompt without the token; decoys, LAION rows under the
    exemplars' prompt (data.decoys); decoys-without-token, both."""
    run: RunConfig = RunConfig()
    mesh: MeshConfig = MeshConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    encode: EncodeConfig = EncodeConfig()
    tune: TuneConfig = TuneConfig()
    customise: CustomiseConfig = CustomiseConfig()
    trajectory: TrajectoryConfig = TrajectoryConfig()
    gradient: GradientConfig = GradientConfig()
    projection: ProjectionConfig = ProjectionConfig()
    store: StoreConfig = StoreConfig()
    query: QueryConfig = QueryConfig()
    unlearning: UnlearningConfig = UnlearningConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    score: ScoreConfig = ScoreConfig()
    unnamed: UnnamedConfig = UnnamedConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    counterfactual: CounterfactualConfig = CounterfactualConfig()
    lds: LdsConfig = LdsConfig()

    @property
    def compared(self) -> tuple[str, ...]:
        """Everything that ranks: the methods, then the references."""
        return (*self.methods, *self.compared_references)

    @property
    def compared_references(self) -> tuple[str, ...]:
        """The references that a run has."""
        wanted = self.references
        return tuple(references_of(self)) if wanted == "auto" else wanted

    @property
    def compared_controls(self) -> Collection[str]:
        """The controls that a run has: a wrong label where there are labels."""
        labelled = bool(self.data.condition_on) and self.data.kind != "abc"
        return tuple(name for name in self.controls if labelled or name != "wrong-label")

    @property
    def guided(self) -> bool:
        """Are training samples inverted under their own condition, guided against negatives?"""
        t = self.trajectory
        asked = any(name in self.methods for name in CONCEPT_METHODS)
        if asked and t.path == "inversion" and t.condition != "null":
            return True
        specs = [self.table[name].train for name in self.methods]
        return any(s.path == "inversion" and s.condition == "own" for s in specs if s is not None)

    @property
    def negatives(self) -> int:
        """Negative conditions per sample, where the data set has so many."""
        kind, wanted = self.trajectory.negative, self.trajectory.negatives
        attributes = len(self.data.condition_on)
        opposite = wanted if attributes else 0
        most = {"null": 1, "prompt": 1, "attribute": attributes, "opposite": opposite}
        return min(wanted, most.get(kind, wanted))

    @property
    def table(self) -> dict[str, Method]:
        """Everything that ranks, with Concept-TRAK as this config sets it where no attribute is
        left out."""
        t = self.trajectory
        return METHODS | concept_methods(t.path, "own" if t.condition == "own" else "null")

    @property
    def timesteps(self) -> int:
        """Attribution timesteps."""
        return self.trajectory.kept

    @model_validator(mode="before")
    @classmethod
    def _above_preset(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        return below(preset, given) if isinstance(preset, str) and preset in PRESETS else given

    @model_validator(mode="before")
    @classmethod
    def _with_the_reward(cls, given: Any) -> Any:
        """A reward is asked by the method of that name."""
        query = given.get("query") if isinstance(given, dict) else None
        asked = query.get("reward") if isinstance(query, dict) else getattr(query, "reward", None)
        if asked in (None, "slider"):
            return given
        methods = given.get("methods", cls.model_fields["methods"].default)
        named = not isinstance(methods, (list, tuple)) or "reward" in methods
        return given if named else given | {"methods": [*methods, "reward"]}

    def problems(self) -> Iterator[str]:
        yield from filter(None, (rule(self) for rule in RULES))


def sections() -> dict[str, type[Section]]:
    """The nested sections of the config by name."""
    return {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def fields() -> dict[str, FieldInfo]:
    """Every setting by its name on the command line: ``name``, ``data.kind``, ..."""
    nested = sections()
    found = {name: field for name, field in Config.model_fields.items() if name not in nested}
    for section, model in nested.items():
        found |= {f"{section}.{name}": field for name, field in model.model_fields.items()}
    return found
