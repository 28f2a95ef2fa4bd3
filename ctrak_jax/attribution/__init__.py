"""The method as a whole, over values: recipes, features of training samples and of questions.

The mathematics is in docs/explanation/method.md.
"""

from ctrak_jax.attribution.conditions import by_name, stacked, zeros_like
from ctrak_jax.attribution.explanation import Parts, influence_map, query_parts, train_parts
from ctrak_jax.attribution.gradients import denoising_errors
from ctrak_jax.attribution.network import Differentiable, Network, Weights, differentiable
from ctrak_jax.attribution.query import QueryBatch, mixtures, query_features
from ctrak_jax.attribution.recipe import QueryRecipe, Recipe, guidance_of
from ctrak_jax.attribution.train import (
    TrainBatch,
    TrainFeatures,
    guided_inversions,
    train_features,
)

__all__ = [
    "Differentiable",
    "Network",
    "Parts",
    "QueryBatch",
    "QueryRecipe",
    "Recipe",
    "TrainBatch",
    "TrainFeatures",
    "Weights",
    "by_name",
    "denoising_errors",
    "differentiable",
    "guidance_of",
    "guided_inversions",
    "influence_map",
    "mixtures",
    "query_features",
    "query_parts",
    "stacked",
    "train_features",
    "train_parts",
    "zeros_like",
]
