"""The recipes of a config: from settings to the values that the mathematics takes."""

from typing import Literal

from ctrak_jax import trajectory
from ctrak_jax.attribution import QueryRecipe, Recipe
from ctrak_jax.config.settings import Config
from ctrak_jax.projection import Projection
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import Grid


def grid_of(config: Config, schedule: Schedule) -> Grid:
    """The timesteps of a config's trajectories."""
    t = config.trajectory
    return trajectory.grid(schedule.steps, t.steps, t.record_every, t.kept)


def projection_of(config: Config) -> Projection:
    """The projection of a config."""
    p = config.projection
    return Projection(p.k, p.kind, p.seed, p.tile, p.implementation)


def recipe_of(config: Config, schedule: Schedule) -> Recipe:
    """How training samples are featurized, with the noise levels of the network."""
    return Recipe(
        schedule=schedule,
        grid=grid_of(config, schedule),
        projection=projection_of(config),
        guidance=config.trajectory.guidance,
        time_chunk=config.gradient.time_chunk,
        seed=config.trajectory.seed,
    )


def query_recipe_of(
    config: Config, schedule: Schedule, scope: Literal["local", "global"]
) -> QueryRecipe:
    """How questions of a scope are featurized, with the noise levels of the network."""
    q, local = config.query, scope == "local"
    return QueryRecipe(
        schedule=schedule,
        grid=grid_of(config, schedule),
        projection=projection_of(config),
        scope=scope,
        path=q.path,
        timesteps=q.timesteps,
        members=q.repetitions if local else q.trajectories,
        guidance=q.guidance if local else q.sampling_guidance,
        eta=q.eta,
        scale=q.scale,
        time_chunk=config.gradient.time_chunk,
        seed=q.seed,
    )
