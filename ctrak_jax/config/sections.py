"""The sections of a config: every setting with its default and its meaning."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NullByName = BeforeValidator(lambda value: "null" if value is None else value)
"""YAML reads a bare null as nothing; here it is the name of a condition."""


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused, numbers finite, defaults documented."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class RunConfig(Section):
    """Seeds and devices."""

    seeds: tuple[Seed, ...] = (0,)
    """Training seeds; each trains, featurizes and is asked on its own."""
    devices: int | None = Field(default=None, ge=1)
    """Local devices to use; empty for all."""
    compilation_cache: Literal["auto", "none"] | Path = "auto"
    """Where compiled programs are kept for the next command: in the user's cache folder, nowhere,
    or in a folder of this name."""


class MeshConfig(Section):
    """How a process's devices are laid out."""

    model: int = Field(default=1, ge=1)
    """Devices that share one copy of the parameters, for networks that do not fit on one; samples
    are split over all devices either way."""


class DataConfig(Section):
    """The training images."""

    kind: Literal["synthetic", "folder", "celeba", "abc"] = "synthetic"
    """Drawn shapes, a folder of images and attributes, the files of CelebA-HQ or CelebA, or those
    of the AbC benchmark (`ctrak abc`)."""
    path: Path | None = None
    """The folder (folder, celeba, abc)."""
    size: int = Field(default=2000, ge=1)
    """Images drawn, held-out ones included (synthetic)."""
    image_size: int = Field(default=16, ge=8)
    """Side of the drawn or resized images in pixels (synthetic, celeba, and folder if resized)."""
    resize: bool = False
    """Crop each picture to its centred square and resize it to image_size (folder of picture
    files; celeba always)."""
    shapes: tuple[str, ...] = ("triangle", "circle")
    """Shapes drawn (synthetic)."""
    colors: tuple[str, ...] = ("red", "blue")
    """Colours drawn (synthetic)."""
    seed: Seed = 0
    """Seed of the drawn images (synthetic)."""
    condition_on: tuple[str, ...] = ("shape", "color")
    """Attributes that make up the condition, in order; those asked about. A text-to-image model
    is conditioned on captions and may have none."""
    candidates: int | None = Field(default=None, ge=1)
    """Training images that are attributed over, drawn at random; empty for all of them."""
    hold_out: tuple[dict[str, str], ...] = ()
    """Combinations of values kept out of training: the out-of-distribution queries."""


class ModelConfig(Section):
    """The network."""

    kind: Literal["dit", "text-to-image"] = "dit"
    """A class-conditional diffusion transformer of images, or Stable Diffusion."""
    size: Literal["tiny", "paper"] = "tiny"
    """Named size of the diffusion transformer."""
    width: int | None = Field(default=None, ge=8)
    """Channels of a token; overrides the size's."""
    depth: int | None = Field(default=None, ge=1)
    """Blocks; overrides the size's."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads; overrides the size's."""
    patch: int | None = Field(default=None, ge=1)
    """Side of a patch in pixels; overrides the size's."""
    checkpoint: Path | None = None
    """Used instead of training: a published checkpoint (safetensors; dit), or the folder of a
    Stable Diffusion 1.x or 2.x model in diffusers' format (text-to-image)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in (text-to-image); parameters, gradients and guidance stay
    float32."""
    remat: bool = False
    """Keep only the blocks' outputs for the way back: less memory, more work (text-to-image)."""
    efficient_attention: bool = False
    """Attention over chunks of queries: less memory (text-to-image)."""


class ScheduleConfig(Section):
    """The noise schedule and what the network predicts."""

    kind: Literal["linear", "scaled-linear", "cosine"] = "linear"
    """Noise schedule."""
    steps: int = Field(default=1000, ge=10)
    """Timesteps of the schedule."""
    prediction: Literal["eps", "v", "x0"] = "eps"
    """What the network predicts."""


class TrainConfig(Section):
    """Training of the network."""

    steps: int = Field(default=6000, ge=1)
    """Optimiser steps."""
    batch: int = Field(default=128, ge=1)
    """Images a step, over all devices."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for matrices with Adam for embeddings and vectors, or AdamW."""
    learning_rate: float = Field(default=1e-2, gt=0)
    """Peak learning rate."""
    adam_learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate of what Muon leaves to Adam."""
    warmup: int = Field(default=100, ge=0)
    """Steps of linear warm-up; a cosine to zero follows."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    clip: float = Field(default=1.0, gt=0)
    """Global norm at which gradients are clipped."""
    ema: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the averaged parameters, which are the model afterwards."""
    attribute_dropout: float = Field(default=0.02, ge=0, lt=1)
    """Probability that an attribute of a sample's condition becomes null, each on its own; of a
    text-to-image model, that the caption becomes empty."""
    scan: int = Field(default=50, ge=1)
    """Steps compiled into one call."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """Steps between checkpoints; a multiple of scan."""


class AutoencoderConfig(Section):
    """Training of the autoencoder, before the network of a text-to-image model trained here."""

    steps: int = Field(default=1200, ge=1)
    """Optimiser steps; the optimiser is that of train."""
    batch: int = Field(default=32, ge=1)
    """Images a step, over all devices."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Peak learning rate."""
    adam_learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of what Muon leaves to Adam."""
    kl: float = Field(default=1e-3, ge=0)
    """Weight of the latents' distance from a unit normal."""


class TrajectoryConfig(Section):
    """Paths of the training samples."""

    steps: int = Field(default=50, ge=2)
    """Grid steps S of the DDIM trajectories."""
    record_every: int = Field(default=5, ge=1)
    """Every how many steps a state becomes an attribution timestep."""
    timesteps: int | None = Field(default=None, ge=1)
    """Attribution timesteps, those of the least noise; empty for all that are recorded."""
    guidance: float = Field(default=2.0, ge=0)
    """Guidance scale of the training samples' inversion; 1 for none, 7.5 as published."""
    negative: Annotated[Literal["attribute", "opposite", "other", "null", "prompt"], NullByName] = (
        "attribute"
    )
    """The negative condition of guidance, fixed by the sample's index. attribute: its condition
    with one attribute changed; opposite: with every attribute changed; other: another training
    condition; null; prompt: one text."""
    negative_prompt: str = ""
    """The negative prompt (negative: prompt)."""
    negatives: int = Field(default=2, ge=1)
    """Negative conditions per sample, one inversion each (negative: attribute, at most one per
    attribute; opposite, at most the product of their numbers of values less one; other)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the forward noise, one draw a (sample, timestep)."""


class EncodeConfig(Section):
    """Latents and text embeddings of a data set (text-to-image)."""

    flip: bool = False
    """Also encode every image mirrored; unlearning takes the larger score of the two."""
    dtype: Literal["float32", "float16"] = "float32"
    """How both are kept."""


class GradientConfig(Section):
    """Per-sample gradients."""

    include: tuple[str, ...] = ("*",)
    """Patterns of the parameters whose gradients are taken."""
    exclude: tuple[str, ...] = ()
    """Patterns left out of them."""
    time_chunk: int = Field(default=9, ge=1)
    """Timesteps side by side; a divisor of their number. Fewer take less memory."""
    batch: int = Field(default=32, ge=1)
    """Samples side by side, over all devices."""


class ProjectionConfig(Section):
    """The random projection."""

    kind: Literal["rademacher", "gaussian", "sjlt", "srht", "mask", "factored"] = "rademacher"
    """The matrix: dense signs or normals, sparse signs, a subsampled Hadamard matrix with random
    signs, two small sign matrices a layer (all five Johnson-Lindenstrauss), or k coordinates at
    random as in the published code."""
    k: int = Field(default=4096, ge=1)
    """Columns: the length of a feature; a multiple of 32."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the matrix."""
    tile: int = Field(default=1024, ge=1)
    """Rows made at a time; changes speed and memory, never the matrix."""
    implementation: Literal["auto", "xla", "pallas_tpu", "pallas_gpu"] = "auto"
    """What makes the matrix: a kernel where the backend has one, or always the one named."""


class StoreConfig(Section):
    """Features on disk."""

    chunk: int = Field(default=64, ge=1)
    """Rows written, and after a kill computed again, at a time."""
    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    """How features are kept; int8 with a scale a row."""
    url: str | None = None
    """Where the features of training images go instead of DIR/features: any URL that tensorstore
    opens, such as gs://bucket/folder or s3://bucket/folder."""


class QueryConfig(Section):
    """The questions asked."""

    scopes: tuple[Literal["local", "global"], ...] = ("local", "global")
    """Local: one image. Global: the model's own samples under the condition."""
    per_combination: int = Field(default=8, ge=1)
    """Local queries a combination of attribute values."""
    validation: int = Field(default=4, ge=1)
    """Further in-distribution queries a combination, used only to choose the damping."""
    combinations: int = Field(default=16, ge=1)
    """At most this many combinations of attribute values each in and out of distribution."""
    trajectories: int = Field(default=16, ge=1)
    """Sampling trajectories of a global query."""
    check: Literal["shapes", "none"] = "shapes"
    """How a generated image is checked for its concepts before it becomes a query."""
    attempts: int = Field(default=8, ge=1)
    """Images generated per one wanted before giving up."""
    sampling_guidance: float = Field(default=1.0, ge=0)
    """Guidance scale (against the null) with which queries are generated; 1 for none."""
    guidance: float = Field(default=1.0, ge=0)
    """Guidance scale of the query's own inversion; 1 for none."""
    eta: float = Field(default=0.1, ge=0)
    """Fresh noise in the query's inversion."""
    repetitions: int = Field(default=8, ge=1)
    """Inversions a query is averaged over (1 is enough at eta 0)."""
    scale: float = Field(default=7.5, gt=0)
    """Slider scale lambda_c."""
    minus: Annotated[Literal["others", "other", "null"], NullByName] = "other"
    """The condition without the concept: the mean over all other values of its attribute, one of
    them, or the null value; of a text, their captions, or the caption without the value's words."""
    seed: Seed = 1_000_000
    """Seed of the generated queries."""


class UnlearningConfig(Section):
    """The unlearning baseline."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Size of the one preconditioned ascent step: large enough to raise the query's own loss well
    above its neighbours', small enough to leave the model standing."""
    fisher_samples: int = Field(default=256, ge=1)
    """Training samples behind the diagonal Fisher."""


class ScoreConfig(Section):
    """Damping and rankings."""

    damping: tuple[Positive, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
    """Damping multiples r tried on the validation queries."""
    damping_for: Literal["method", "attribute"] = "method"
    """One is chosen for each method, or for each method and attribute asked about, on the
    validation queries about it."""
    solver: Literal["auto", "spectrum", "cg"] = "auto"
    """Spectrum: exact, in memory. Cg: iterates over features on disk. Auto: by size and memory,
    among these, Cholesky and the dual."""
    top: int = Field(default=100, ge=1)
    """Rows a query in the top lists."""
    keep_all: bool = True
    """Keep every score, not only the top ones."""


class EvaluateConfig(Section):
    """Metrics."""

    k: tuple[Natural, ...] = (10,)
    """Depths of precision@k; the first chooses the damping."""
    bootstrap: int = Field(default=10_000, ge=100)
    """Bootstrap replicates of the confidence intervals."""


class CounterfactualConfig(Section):
    """Retraining without the top samples (`ctrak counterfactual`)."""

    remove: int = Field(default=500, ge=1)
    """Training images left out: those that rank highest for a concept, among data.candidates."""
    methods: tuple[str, ...] = ("concept-trak",)
    """Methods whose rankings are put to the test; images at random always are."""
    scenarios: tuple[Literal["id", "ood"], ...] = ("ood",)
    """Whose global questions are asked: those of trained or of held-out combinations. One training
    a method and question, and one for all without images at random."""
    images: int = Field(default=64, ge=1)
    """Images generated under each question's condition by each model."""
