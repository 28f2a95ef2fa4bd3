"""What the stages of one training seed work with: the config's values, made once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from ctrak_jax import rewards
from ctrak_jax.attribution import QueryRecipe, Recipe
from ctrak_jax.config import Config
from ctrak_jax.config.recipes import query_recipe_of, recipe_of
from ctrak_jax.data import Dataset
from ctrak_jax.inputs.arrays import has_arrays
from ctrak_jax.inputs.base import Inputs, NegativeRule
from ctrak_jax.inputs.batches import TrainSamples, relabelled_samples, train_samples
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.inputs.latents import Latents
from ctrak_jax.inputs.pixels import Pixels
from ctrak_jax.inputs.questions import QuestionInputs, concept_of
from ctrak_jax.methods import METHODS, GradientSpec, store_of
from ctrak_jax.models import Denoiser
from ctrak_jax.models.architecture import Architecture, architecture_of, model_files_of
from ctrak_jax.models.dit import DiT
from ctrak_jax.models.stable_diffusion import ModelFiles
from ctrak_jax.precision import policy_of
from ctrak_jax.rewards import Concept, ConceptReward
from ctrak_jax.run import keys, model_file, questions
from ctrak_jax.run.folder import RunFolder
from ctrak_jax.run.network import PlacedNetwork, placed, split
from ctrak_jax.run.questions import Question
from ctrak_jax.run.variants import MAIN, Variant, featurized_in, table_of
from ctrak_jax.store import FeatureStore


@dataclass(frozen=True, kw_only=True)
class Context:
    """One training seed of a run.

    Attributes:
        training_set: what the model is trained on.
        dataset: the part of it that is attributed over (all of it unless ``data.candidates`` says
            otherwise).
    """

    config: Config
    folder: RunFolder
    seed: int
    training_set: Dataset
    dataset: Dataset
    mesh: Mesh

    @cached_property
    def model_source(self) -> ModelFiles:
        """Where a text-to-image model is: the files given, or the folder that training leaves."""
        return model_files_of(self.config.model, self.folder.model)

    @cached_property
    def architecture(self) -> Architecture:
        with jax.ensure_compile_time_eval():  # cached: values, also when first asked for in a trace
            return architecture_of(
                self.config.model,
                self.config.schedule,
                files=self.model_source,
                image_shape=self.training_set.image_shape,
                condition_size=self.dataset.conditions.size,
                precision=policy_of(self.config.run.precision),
            )

    @cached_property
    def inputs(self) -> Inputs:
        return self.inputs_of(self.dataset)

    def inputs_of(self, dataset: Dataset) -> Inputs:
        """The same of other candidates, or of the same under other conditions."""
        t, path = self.config.trajectory, self.config.data.path
        negative = NegativeRule(t.negative, t.negatives, t.negative_prompt)
        if isinstance(self.architecture.network, DiT):
            return Pixels(dataset, negative)
        given = path is not None and has_arrays(path, self.architecture.condition)
        return Latents(
            dataset,
            negative,
            BatchEncoder(self.model_source, self.mesh, self.config.gradient.batch),
            path if path is not None and given else self.folder.encoded,
            dataset.raw.prompts if given else self.dataset.captions,
            self.architecture.sample,
            self.architecture.condition,
        )

    def candidates(self, variant: Variant = MAIN) -> Dataset:
        """The training images that a variant ranks, with the conditions that it gives them."""
        dataset = self.dataset
        if variant.candidates is not None:
            count = min(variant.candidates, len(dataset.train_index))
            dataset = dataset.subset(count, self.config.data.seed)
        return dataset if variant.without is None else dataset.without(variant.without)

    @cached_property
    def recipe(self) -> Recipe:
        return recipe_of(self.config, self.architecture.schedule)

    def query_recipe(self, scope: Literal["local", "global"]) -> QueryRecipe:
        return query_recipe_of(self.config, self.architecture.schedule, scope)

    @property
    def question_inputs(self) -> QuestionInputs:
        return QuestionInputs(
            inputs=self.inputs,
            conditions=self.dataset.conditions,
            minus=self.config.query.minus,
            folder=self.folder.queries,
            image_shape=self.dataset.image_shape,
        )

    def questions(self, variant: Variant = MAIN) -> list[Question]:
        """All questions of the run, or those that a variant answers."""
        return [self._all_questions[row] for row in self.question_rows(variant)]

    def question_rows(self, variant: Variant) -> list[int]:
        """The rows of queries.csv that a variant answers."""
        asked, attribute = self._all_questions, variant.without
        return [row for row, q in enumerate(asked) if attribute in (None, q.attribute)]

    @property
    def _all_questions(self) -> list[Question]:
        return questions.read_questions(self.folder.questions)

    def samples(self, variant: Variant = MAIN) -> TrainSamples:
        """The training samples of an experiment."""
        if variant.relabel:
            seed = self.config.trajectory.seed
            return relabelled_samples(self.inputs, self.dataset, variant.relabel, seed)
        dataset = self.candidates(variant)
        inputs = self.inputs if dataset is self.dataset else self.inputs_of(dataset)
        return train_samples(inputs, dataset.train_index)

    def compared(self, variant: Variant = MAIN) -> tuple[str, ...]:
        """Everything that ranks in an experiment: a reference reads no parameter, so none takes
        part in a control that leaves parameters out."""
        return self.config.methods if variant.exclude else self.config.compared

    @cached_property
    def concepts(self) -> list[Concept]:
        """Every value that the run's questions may be about."""
        known = self.dataset.conditions.vocabulary
        return [Concept(name, value) for name, values in known.items() for value in values]

    @cached_property
    def reward(self) -> ConceptReward | None:
        """The reward of the network's samples by which the run's questions are asked; None for the
        slider."""
        found = self.reward_for(self.concepts)
        return None if found is None else self.inputs.reward_of_samples(found)

    def reward_for(self, concepts: Sequence[Concept]) -> ConceptReward | None:
        """The config's reward of pictures for some concepts."""
        return rewards.of(self.config, concepts, self.dataset.image_shape, self.folder.root)

    def answered(self, method: str, asked: Sequence[Question]) -> np.ndarray:
        """Which questions a method that works by gradients answers: bool [question]."""
        query = METHODS[method].query
        if query is None or not query.by_reward or self.reward is None:
            return np.ones(len(asked), bool)
        return np.array([concept_of(question) in self.reward.targets for question in asked])

    def load(self) -> Denoiser:
        """The model."""
        return model_file.load(self.folder.model, self.model_source, self.architecture, self.mesh)

    def placed(self, denoiser: Denoiser, variant: Variant = MAIN) -> PlacedNetwork:
        """The model split and placed for an experiment."""
        found = split(denoiser, *self._patterns(variant), self.recipe.projection)
        return placed(found, self.architecture, self.mesh)

    def parameters(self, variant: Variant = MAIN) -> int:
        """How many parameters an experiment differentiates.

        Raises:
            UsageError: the patterns of ``gradient`` select none.
        """
        shapes = self.architecture.denoiser(self.architecture.template, self.mesh)
        return split(shapes, *self._patterns(variant), self.recipe.projection).params.size

    def _patterns(self, variant: Variant) -> tuple[Sequence[str], Sequence[str]]:
        gradient = self.config.gradient
        return gradient.include, (*gradient.exclude, *variant.exclude)

    def upstream(self) -> dict[str, Any]:
        """The keys of the model and the data."""
        return {
            **model_file.key(self.folder.model, self.config.model.dtype),
            "dataset": self.dataset.fingerprint,
            **self.inputs.key,
        }

    def feature_key(self, spec: GradientSpec, variant: Variant) -> dict[str, Any]:
        """What the features of training samples depend on."""
        key = self.variant_key(variant)
        changed = {name: key[name] for name in ("relabel", "without", "candidates")}
        return self._key(changed, spec, variant, query=False)

    def variant_key(self, variant: Variant) -> dict[str, Any]:
        """What a variant is; of its candidates how many, drawn by what seed, or None for all."""
        every = variant.ranks_all(len(self.dataset.train_index))
        part = None if every else [variant.candidates, self.config.data.seed]
        return {**variant._asdict(), "candidates": part}

    def query_key(self, spec: GradientSpec, variant: Variant) -> dict[str, Any]:
        """What the features of questions depend on."""
        asked: dict[str, Any] = {"questions": questions.fingerprint(self.folder.queries)}
        if spec.by_reward:
            asked["reward"] = rewards.key(self.config, self.folder.root)
        return self._key(asked, spec, variant, query=True)

    def _key(
        self, more: dict[str, Any], spec: GradientSpec, variant: Variant, *, query: bool
    ) -> dict[str, Any]:
        return keys.feature_key(
            self.config,
            spec,
            made_by=self.upstream() | more,
            timesteps=np.asarray(self.recipe.grid.recorded).tolist(),
            parameters=self.parameters(variant),
            exclude=variant.exclude,
            query=query,
        )

    def features(self, method: str, variant: Variant = MAIN) -> FeatureStore:
        """A method's features of training samples, complete.

        Raises:
            StoreError: missing, damaged, or made from something else.
        """
        variant = featurized_in(self.config, method, variant, len(self.dataset.train_index))
        spec = table_of(self.config, variant)[method].train
        folder = self.folder.part(variant.folder)
        assert spec is not None
        return FeatureStore.open(folder.features(store_of(method)), self.feature_key(spec, variant))
