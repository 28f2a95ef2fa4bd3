"""Networks with random weights, and what is asked of them: features of random images."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ctrak_jax import schedule as schedules
from ctrak_jax.attribution import (
    QueryBatch,
    QueryRecipe,
    Recipe,
    TrainBatch,
    differentiable,
    query_features,
    train_features,
)
from ctrak_jax.attribution.network import Differentiable
from ctrak_jax.bench.accelerator.measuring import LeftOutError
from ctrak_jax.bench.accelerator.sizes import AcceleratorSizes
from ctrak_jax.errors import UsageError
from ctrak_jax.methods import GradientSpec
from ctrak_jax.precision import Level, policy_of
from ctrak_jax.projection import Projection
from ctrak_jax.reward import Mixture
from ctrak_jax.schedule import Schedule
from ctrak_jax.trajectory import grid

GUIDANCE = 7.5
CONDITION = 4
"""Numbers of the diffusion transformer's condition."""
DPS = GradientSpec("dps", "inversion", normalise=True)
SLIDER = GradientSpec("slider", "inversion", normalise=True)
SD14 = {
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
"""The UNet of Stable Diffusion 1.4, as configs/sd14 has it."""
TOKENS = 77
GATES = ("modulation", "final_modulation", "final")
"""Layers of the diffusion transformer whose weights begin at zero."""
OPEN = 0.02
"""Standard deviation of their weights."""
LEAST = (32, 1, 2, 4)
"""Width, depth, heads and patch of the diffusion transformer called ``least``: for a CPU, whose
compiler takes most of the time."""


class RandomNetwork(NamedTuple):
    """A network with random weights, the shapes of its sample and condition, and how many steps of
    a path are taken side by side."""

    found: Differentiable
    schedule: Schedule
    sample: tuple[int, ...]
    condition: tuple[int, ...]
    time_chunk: int | None

    @property
    def d(self) -> int:
        return self.found.params.size


class Featurizing(NamedTuple):
    """``fn(*args)`` gives features of ``batch`` samples."""

    fn: Callable[..., Any]
    args: tuple
    batch: int


def dit(size: str, pixels: int, dtype: Any = "float32", wanted: Level = "default") -> RandomNetwork:
    """A diffusion transformer."""
    with installed():
        from ctrak_jax.models import DiT, create
        from ctrak_jax.models.denoiser import Compute, denoiser_of
    network = DiT(**dit_size(size)._asdict(), dtype=jnp.dtype(dtype))
    shape = (pixels, pixels, 3)
    params = random_like(jax.eval_shape(lambda: create(network, shape, CONDITION, 0)))
    schedule = schedules.linear()
    compute = Compute(dtype, precision=policy_of(wanted))
    model = denoiser_of(network, params, schedule, "eps", compute)
    return _random(model, schedule, shape, (CONDITION,), ("*",), 1)


def dit_size(size: str) -> Any:
    """A named size, :data:`LEAST` among them."""
    from ctrak_jax.models import SIZES, DiTSize

    return DiTSize(*LEAST) if size == "least" else SIZES[size]


def unet(
    which: str, dtype: Any = "float32", wanted: Level = "default", remat: bool = False
) -> RandomNetwork:
    """A UNet of Stable Diffusion, differentiated to its attention to captions."""
    with installed():
        from ctrak_jax.models.denoiser import Compute, denoiser_of
        from ctrak_jax.models.stable_diffusion import unet_of
        from ctrak_jax.models.stable_diffusion.small import Size, unet_config
    size = Size(unet=(32,)) if which == "least" else Size()
    config, tokens = (SD14, TOKENS) if which == "sd14" else (unet_config(size), size.tokens)
    compute = Compute(dtype, remat, which == "sd14", policy_of(wanted))
    with installed():
        network = unet_of(config, Path(which), compute)
    params = random_like(jax.eval_shape(network.init, jax.random.key(0)))
    schedule = schedules.scaled_linear()
    model = denoiser_of(network, params, schedule, "eps", compute)
    condition = (tokens, network.text_width)
    return _random(model, schedule, network.latent_shape, condition, ("*attn2*",), 1)


def _is_gate(path: Any) -> bool:
    return any(str(getattr(key, "key", "")) in GATES for key in path)


@contextmanager
def installed() -> Iterator[None]:
    """What is not installed leaves a measurement out."""
    try:
        yield
    except ImportError as error:
        raise LeftOutError(f"not installed: {error}") from None
    except UsageError as error:
        if "not installed" not in str(error):
            raise
        raise LeftOutError(str(error)) from None


def random_like(template: Any) -> Any:
    """Weights of about the size that initialisation gives, from a few random numbers repeated:
    a billion would take longer than what is measured. Those of :data:`GATES`, which begin at zero,
    are open a little."""
    values = np.random.default_rng(0).standard_normal(2**20 + 1).astype(np.float32)

    def leaf(path: Any, like: Any) -> jax.Array:
        name = str(getattr(path[-1], "key", ""))
        if name == "scale":
            return jnp.ones(like.shape, like.dtype)
        fan_in = like.size // like.shape[-1] if len(like.shape) > 1 else 100
        size = OPEN if _is_gate(path) else fan_in**-0.5
        return jnp.asarray(np.resize(values, like.shape) * np.float32(size))

    return jax.tree_util.tree_map_with_path(leaf, template)


def _random(
    model: Any,
    schedule: Schedule,
    sample: tuple[int, ...],
    condition: tuple[int, ...],
    include: tuple[str, ...],
    time_chunk: int,
) -> RandomNetwork:
    found = differentiable(
        model.eps_fn,
        model.params,
        include=include,
        layers_fn=model.layers_fn,
        exact_fn=model.exact_fn,
        precision=model.precision,
    )
    return RandomNetwork(found, schedule, sample, condition, time_chunk)


def _values(of: RandomNetwork, sizes: AcceleratorSizes, projection: Projection) -> dict[str, Any]:
    return {
        "schedule": of.schedule,
        "grid": grid(of.schedule.steps, sizes.steps, sizes.every),
        "projection": projection,
        "guidance": GUIDANCE,
        "time_chunk": of.time_chunk,
    }


def random_batch(of: RandomNetwork, batch: int) -> Mapping[str, np.ndarray]:
    """Random images with a condition and another one each."""
    rng = np.random.default_rng(1)
    cond = rng.standard_normal((2, batch, *of.condition)).astype(np.float32)
    x0 = rng.uniform(-1, 1, (batch, *of.sample)).astype(np.float32)
    return {"x0": x0, "cond": cond[0], "negative": cond[1]}


def training(
    of: RandomNetwork, sizes: AcceleratorSizes, batch: int, projection: Projection
) -> Featurizing:
    """Training features by ``dps``, normalised, on guided inversions."""
    random = random_batch(of, batch)
    negatives, index = random["negative"][:, None], np.arange(batch)
    given = TrainBatch(random["x0"], random["cond"], index, negatives)
    features = partial(
        train_features, Recipe(**_values(of, sizes, projection)), of.found.network, specs=[DPS]
    )

    def fn(params: Any, given: TrainBatch) -> Any:
        return features(params=params, batch=given).features[:, 0]

    return Featurizing(fn, (of.found.params, given), batch)


def asking(
    of: RandomNetwork, sizes: AcceleratorSizes, batch: int, projection: Projection
) -> Featurizing:
    """Features of questions by ``slider``, on guided inversions."""
    random = random_batch(of, batch)
    minus = Mixture(random["negative"][:, None, None], np.ones((batch, 1, 1), np.float32))
    given = QueryBatch(random["x0"], random["cond"], minus, np.arange(batch))
    null = np.zeros(of.condition, np.float32)
    features = partial(
        query_features,
        QueryRecipe(**_values(of, sizes, projection)),
        of.found.network,
        specs=[SLIDER],
    )

    def fn(params: Any, given: QueryBatch) -> Any:
        return features(params=params, batch=given, null=null)[:, 0, 0]

    return Featurizing(fn, (of.found.params, given), batch)
