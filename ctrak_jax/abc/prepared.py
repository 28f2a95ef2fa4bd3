"""The benchmark read and put in words: what every part of a run works with."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from ctrak_jax.abc.checks import latent_factor, require_pictures
from ctrak_jax.abc.controls import CONTROLS, controlled, spare_rows
from ctrak_jax.abc.imported import METHOD, Imported, read_imported
from ctrak_jax.abc.inputs import (
    APART,
    AbcInputs,
    ExemplarInputs,
    Exemplars,
    LaionInputs,
    TaskEncoder,
    TaskQuestion,
    exemplars_of,
    question_of,
)
from ctrak_jax.abc.seeds import require_noise, seed_of
from ctrak_jax.abc.tokens import require_tokens
from ctrak_jax.attribution import Recipe
from ctrak_jax.config import Config
from ctrak_jax.config.recipes import recipe_of
from ctrak_jax.data.abc import LATENTS, Abc, read_abc
from ctrak_jax.data.dataset import candidate_rows
from ctrak_jax.devices import local_mesh
from ctrak_jax.errors import UsageError
from ctrak_jax.inputs.base import NegativeRule
from ctrak_jax.inputs.batches import train_samples
from ctrak_jax.inputs.encoder import BatchEncoder, require_distinct_prompts
from ctrak_jax.log import logger
from ctrak_jax.methods import METHODS, GradientSpec, store_of
from ctrak_jax.models.architecture import Architecture, architecture_of, model_files_of
from ctrak_jax.models.checkpointed import refuse_other
from ctrak_jax.models.denoiser import Denoiser
from ctrak_jax.models.stable_diffusion import ModelFiles, UNet
from ctrak_jax.precision import policy_of
from ctrak_jax.projection import Projection
from ctrak_jax.run import model_file
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.keys import feature_key, published_key
from ctrak_jax.run.network import PlacedNetwork, placed, split
from ctrak_jax.stages import featurize, probe
from ctrak_jax.store import FeatureStore
from ctrak_jax.store.files import digest

FEWEST = 10
"""LAION rows: Recall@10 needs as many candidates."""


class Benchmark(NamedTuple):
    """A prepared run; ``rows`` are those of LAION that are attributed over, and ``factor`` is what
    their latents still have to be multiplied by. ``control`` names other candidates than the
    published ones."""

    config: Config
    folder: RunFolder
    files: ModelFiles
    mesh: Mesh
    architecture: Architecture
    abc: Abc
    asked: tuple[TaskQuestion, ...]
    exemplars: Exemplars
    encoder: TaskEncoder
    rows: np.ndarray
    factor: float
    imported: Imported | None = None
    control: str | None = None

    def under(self, control: str) -> "Benchmark":
        """The same questions about the candidates of a control.

        Raises:
            UsageError: there are no spare rows of LAION for its decoys.
        """
        data, spare = self.config.data, spare_rows(self.rows, len(self.abc.laion))
        drawn = spare, data.decoys, data.seed
        changed = controlled(self.exemplars, CONTROLS[control], *drawn)
        return self._replace(exemplars=changed, control=control)

    @property
    def results(self) -> RunFolder:
        """Where the exemplars' features, scores and measures are."""
        return self.folder.part("" if self.control is None else f"controls/{self.control}")

    @property
    def damping(self) -> float:
        """The largest of ``score.damping``: there are no validation questions to choose by."""
        return max(self.config.score.damping)

    @property
    def dampings(self) -> tuple[float, ...]:
        """That one and those of ``score.oracle``, ascending."""
        return tuple(sorted({self.damping, *self.config.score.oracle}))

    def leave_model(self) -> None:
        """Write model.json, which results are keyed to.

        Raises:
            StoreError: that of another model is there.
        """
        folder, made_from = self.folder.model, published_key(self.config)
        if (folder / "model.json").exists():
            refuse_other(folder, made_from, model_file.about(folder)["made_from"])
        else:
            model_file.adopt(folder, self.files, self.architecture, made_from)

    def load(self) -> Denoiser:
        """The model."""
        return model_file.load(self.folder.model, self.files, self.architecture, self.mesh)

    def probe(self) -> None:
        """Warn where the model predicts something else than its scheduler says, by LAION rows."""
        where = self.folder, self.architecture, self.config.model.dtype, self.mesh
        probe.probe(probe.Probed(*where, self.laion().inputs, len(self.rows), self.load))

    def placed(self) -> PlacedNetwork:
        """The model split and placed."""
        gradient, mesh = self.config.gradient, self.mesh
        found = split(self.load(), gradient.include, gradient.exclude, self.recipe.projection)
        return placed(found, self.architecture, mesh)

    @property
    def recipe(self) -> Recipe:
        """How candidates are featurized."""
        recipe = recipe_of(self.config, self.architecture.schedule)
        return replace(recipe, projection=self.on_imported(recipe.projection))

    def on_imported(self, projection: Projection) -> Projection:
        """The projection at the coordinates of imported features, where there are some."""
        chosen = None if self.imported is None else self.imported.coordinates
        return projection if chosen is None else projection._replace(coordinates=chosen)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters that are differentiated, by path."""
        gradient = self.config.gradient
        whole = self.architecture.denoiser(self.architecture.template, self.mesh)
        found = split(whole, gradient.include, gradient.exclude, self.recipe.projection)
        return {path: leaf.shape for path, leaf in found.params.chosen.items()}

    @property
    def size(self) -> int:
        """d, the number of those parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def key(self, spec: GradientSpec, made_by: Mapping[str, Any], *, query: bool) -> dict[str, Any]:
        """What features of a gradient depend on, beside ``made_by`` the model."""
        config, recipe = self.config, self.recipe
        if self.imported is not None:
            made_by = {**made_by, "coordinates": self.imported.projection}
        return feature_key(
            config,
            spec,
            made_by={**model_file.key(self.folder.model, config.model.dtype), **made_by},
            timesteps=np.asarray(recipe.grid.recorded).tolist(),
            parameters=self.size,
            query=query,
        )

    def laion(self) -> "Candidates":
        """The LAION rows, which every task shares."""
        return Candidates(self, self.folder, self._laion_inputs, self.rows, "LAION")

    def exemplar_candidates(self) -> "Candidates":
        """The exemplars of all tasks."""
        index = APART + np.arange(len(self.exemplars.prompts))
        codecs = model_file.about(self.folder.model)["codecs"]
        form = self.abc.laion, self.encoder, self._negative
        inputs = ExemplarInputs(self.exemplars, self._laion_inputs, codecs, *form, index)
        return Candidates(self, self.results.part("exemplars"), inputs, index, "exemplars")

    @property
    def _laion_inputs(self) -> LaionInputs:
        path, form = self.config.data.path, (self.abc.laion, self.encoder, self._negative)
        assert path is not None  # the config sees to it
        return LaionInputs(path, self.factor, *form, self.rows)

    @property
    def _negative(self) -> NegativeRule:
        t = self.config.trajectory
        return NegativeRule(t.negative, t.negatives, t.negative_prompt)


class Candidates(NamedTuple):
    """LAION rows or exemplars, featurized as training samples; ``rows`` fix their noise."""

    benchmark: Benchmark
    folder: RunFolder
    inputs: AbcInputs
    rows: np.ndarray
    name: str

    def key(self, spec: GradientSpec) -> dict[str, Any]:
        """What their features depend on."""
        made_by = {"dataset": digest([self.name, self.rows.tolist()]), **self.inputs.key}
        imported, released = self.benchmark.imported, self.benchmark.config.table[METHOD].train
        if imported is not None and spec == released and self.name == "LAION":
            made_by["imported"] = imported.features
        return self.benchmark.key(spec, made_by, query=False)

    def featurize(self) -> None:
        """Complete their feature stores."""
        bench, config = self.benchmark, self.benchmark.config
        samples, batch = train_samples(self.inputs, self.rows), config.gradient.batch
        featurizer = featurize.Featurizer(
            bench.placed(), bench.recipe, samples, bench.mesh, batch, config.table
        )
        form = featurize.form_of(config)
        featurize.complete(featurizer, self.folder, config.methods, self.key, form, "featurize")

    def store(self, method: str) -> FeatureStore:
        """A method's features, complete."""
        spec = self.benchmark.config.table[method].train
        assert spec is not None
        return FeatureStore.open(self.folder.features(store_of(method)), self.key(spec))


def prepare(config: Config, out: Path, *, allow_missing_token: bool = False) -> Benchmark:
    """Read the benchmark and put the tasks in words; nothing is computed.

    Args:
        config: of the run.
        out: its folder.
        allow_missing_token: continue where a model folder has no file of its token.

    Raises:
        UsageError: another kind of data set, a method without features, a concept that the text
            encoder does not know, an image or a latent without a seed's noise, or too few LAION
            rows.
    """
    _require_able(config)
    checkpoint, path = config.model.checkpoint, config.data.path
    assert checkpoint is not None  # the config sees to it
    assert path is not None
    files = model_files_of(config.model, checkpoint)
    architecture = architecture_of(
        config.model,
        config.schedule,
        files=files,
        image_shape=(0, 0, 3),
        condition_size=0,
        precision=policy_of(config.run.precision),
    )
    height, width, channels = architecture.sample
    if config.query.path == "resample":
        require_noise(architecture.sample, "use query.path: inversion")
    network = architecture.network
    if not isinstance(network, UNet) or network.pooled_width is not None:
        raise UsageError(
            f"model.checkpoint={checkpoint} is no Stable Diffusion 1.x or 2.x; the benchmark has "
            "latents and text embeddings of Stable Diffusion 1.x, give such a model."
        )
    token, embedding = architecture.condition.shape
    abc = read_abc(
        path,
        customised=config.data.customised,
        latent=(channels, height, width),
        text=(token, embedding),
    )
    require_tokens(abc.tasks, embedding, allow_missing=allow_missing_token)
    asked = tuple(question_of(number, task) for number, task in enumerate(abc.tasks))
    plain = [q for q in asked if q.prompt.learned is None]
    if len(config.score.damping) > 1:
        logger.warning(
            "score.damping: %s are given and there are no validation questions to choose by; the "
            "largest, %g, is taken for every method",
            *(list(config.score.damping), max(config.score.damping)),
        )
    # A learned token is heard: it has an embedding of its own.
    require_distinct_prompts(files, [(q.prompt.text, q.minus.text) for q in plain])
    mesh = local_mesh(config.run.devices, config.mesh.model)
    encoder = BatchEncoder(files, mesh, config.gradient.batch)
    rows, exemplars = _laion_rows(config, len(abc.laion)), exemplars_of(abc.tasks)
    images = [task.image for task in abc.tasks]
    require_pictures([*exemplars.files, *images])
    for image in images if config.query.path == "resample" else []:
        seed_of(image)
    scaling = files.config("vae")[0].get("scaling_factor", 0.18215)
    return Benchmark(
        config=config,
        folder=RunFolder(root=out, url=config.store.url),
        files=files,
        mesh=mesh,
        architecture=architecture,
        abc=abc,
        asked=asked,
        exemplars=exemplars,
        encoder=TaskEncoder(encoder, (height, width, channels)),
        rows=rows,
        factor=latent_factor(path / LATENTS, abc.laion.latents, rows, scaling),
        imported=read_imported(out),
    )


def _require_able(config: Config) -> None:
    if config.data.kind != "abc":
        raise UsageError(
            f"data.kind={config.data.kind} is no benchmark for `ctrak abc`; use data.kind: abc, or "
            "`ctrak run`."
        )
    unfit = [name for name in config.methods if METHODS[name].kind != "gradients"]
    if unfit:
        raise UsageError(
            f"methods: {unfit[0]} keeps no features, and `ctrak abc` ranks by features; leave it "
            "out."
        )


def _laion_rows(config: Config, total: int) -> np.ndarray:
    count = total if config.data.candidates is None else config.data.candidates
    index = candidate_rows(total, count, config.data.seed, config.data.order)
    if len(index) < FEWEST:
        raise UsageError(
            f"{len(index)} LAION rows, Recall@10 needs at least {FEWEST}; raise "
            "data.candidates or use a larger benchmark."
        )
    return index
