"""A customised model: a token's vectors are trained, and pictures generated with it.

Programs are compiled once for all concepts: every token takes the same rows of the table. A
concept's random numbers follow from the seed and its name, so neither the other concepts nor a
resumed command can change them.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float

from ctrak_jax import devices
from ctrak_jax.abc.seeds import noise_of
from ctrak_jax.attribution import guidance_of
from ctrak_jax.config import CustomiseConfig
from ctrak_jax.customise.concepts import NewConcept
from ctrak_jax.data import ShuffledRows
from ctrak_jax.errors import StoreError
from ctrak_jax.inputs.encoder import BatchEncoder
from ctrak_jax.models import Denoiser
from ctrak_jax.models.stable_diffusion import CLIPText, Component
from ctrak_jax.models.stable_diffusion.textual_inversion import NewToken, begin
from ctrak_jax.models.training import OptimizerSpec, optimizer
from ctrak_jax.models.tuning import noise_loss
from ctrak_jax.schedule import Schedule, level
from ctrak_jax.trajectory import Grid, sample
from ctrak_jax.typing import Array, Params, PRNGKey

STRETCH = 10
"""Steps between two looks at the loss."""
JUDGED = 16
"""Batches whose loss is taken before and after the training, by the same noise."""

FAINTEST = 0.01
"""The squared error of the velocity is that of the noise over the signal's power, which is taken
for this where it is less. Of the noise's own error almost all lies where little noise is left, not
where a picture's composition is decided."""


class LearnedToken(NamedTuple):
    """A token's vectors [vector, width], and the loss of the same batches before and after."""

    rows: np.ndarray
    before: float
    after: float


class TokenTrainer:
    """Trains the tokens of some concepts, equation (B.6), weighed by ``settings.loss``."""

    def __init__(
        self,
        denoiser: Denoiser,
        text: Component[CLIPText],
        schedule: Schedule,
        settings: CustomiseConfig,
        mesh: Mesh,
    ) -> None:
        self._denoiser, self._text, self._schedule = denoiser, text, schedule
        self._settings, self._mesh = settings, mesh
        warmup = max(settings.steps // 10, 1)
        spec = OptimizerSpec(
            settings.steps, settings.learning_rate, 0.0, "adamw", warmup=warmup, clip=np.inf
        )
        self._optimizer = optimizer(spec)
        self._frozen: Any = None
        self._step: Any = None

    def train(
        self, concept: NewConcept, latents: np.ndarray, advance: Callable[[int], None]
    ) -> LearnedToken:
        """Train a concept's token on its exemplars' latents [picture, h, w, c].

        Args:
            advance: told how many steps are done.

        Raises:
            StoreError: the loss is not finite.
        """
        settings = self._settings
        new = begin(self._text, concept.token, concept.initial, settings.vectors)
        self._prepare(new)
        key = self._key(concept)
        place = partial(devices.put_replicated, mesh=self._mesh)
        tokens = place(jnp.asarray(new.tokens(concept.train_prompt)))
        start = state = place((new.rows, self._optimizer.init(new.rows)))
        drawn = partial(self._batches, concept, latents)

        def judged(state: Any) -> float:
            judge = jax.random.fold_in(key, settings.steps)
            losses = [
                self._step(self._frozen, state, tokens, batch, jax.random.fold_in(judge, i))[1]
                for i, batch in enumerate(drawn(0, JUDGED))
            ]
            return float(jnp.stack(losses).mean())

        before = judged(start)
        for first in range(0, settings.steps, STRETCH):
            count, losses = min(STRETCH, settings.steps - first), []
            for step, batch in enumerate(drawn(first, count), first):
                step_key = jax.random.fold_in(key, step)
                state, loss = self._step(self._frozen, state, tokens, batch, step_key)
                losses.append(loss)
            _require_finite(jnp.stack(losses), concept, first + count)
            advance(count)
        return LearnedToken(np.asarray(state[0], np.float32), before, judged(state))

    def _batches(
        self, concept: NewConcept, latents: np.ndarray, first: int, count: int
    ) -> Iterator[Array]:
        """Latents [batch, h, w, c] of some steps."""
        settings = self._settings
        seed = (settings.seed + zlib.crc32(concept.name.encode())) % 2**31
        rows = ShuffledRows(len(latents), batch=settings.batch, seed=seed)(first, count)
        for step_rows in rows:
            spec = devices.samples_spec(self._mesh)
            yield devices.put(jnp.asarray(latents[step_rows]), self._mesh, spec)

    def _key(self, concept: NewConcept) -> PRNGKey:
        name = zlib.crc32(concept.name.encode())
        return jax.random.fold_in(jax.random.key(self._settings.seed), name)

    def _prepare(self, new: NewToken) -> None:
        """Compile by the first token; the others differ in what the tokenizer calls it."""
        if self._step is not None:
            return
        self._frozen = devices.put_replicated((self._denoiser.params, *new.frozen), self._mesh)
        eps_fn, schedule, update = self._denoiser.eps_fn, self._schedule, self._optimizer.update
        faintest = FAINTEST if self._settings.loss == "velocity" else 1.0

        def loss(rows: Array, frozen: Params, tokens: Array, batch: Array, key: PRNGKey) -> Array:
            denoiser, table, others = frozen
            cond = new.embed(rows, table, others, tokens)

            def one(latent: Array, key: PRNGKey) -> Array:
                time_key, noise_key = jax.random.split(key)
                t = jax.random.randint(time_key, (), 0, schedule.steps)
                noise = jax.random.normal(noise_key, latent.shape)
                error = noise_loss(
                    lambda x, t: eps_fn(denoiser, x, t, cond), schedule, latent, t, noise
                )
                return error / jnp.maximum(level(schedule, t)[0] ** 2, faintest)

            return jnp.mean(jax.vmap(one)(batch, jax.random.split(key, len(batch))))

        @jax.jit
        def step(frozen: Params, state: Any, tokens: Array, batch: Array, key: PRNGKey) -> Any:
            rows, moments = state
            found, gradient = jax.value_and_grad(loss)(rows, frozen, tokens, batch, key)
            updates, moments = update(gradient, moments, rows)
            return (optax.apply_updates(rows, updates), moments), found

        self._step = step


def _require_finite(losses: Float[Array, " step"], concept: NewConcept, step: int) -> None:
    if not np.isfinite(np.asarray(losses)).all():
        raise StoreError(
            f"concept {concept.name!r}: the loss is not finite before step {step}; lower "
            "customise.learning_rate."
        )


class Illustrator:
    """Generates pictures, each from PyTorch's noise of its seed, ``size`` side by side."""

    def __init__(
        self,
        denoiser: Denoiser,
        encoder: BatchEncoder,
        schedule: Schedule,
        grid: Grid,
        guidance: float,
        shape: tuple[int, int, int],
        mesh: Mesh,
        size: int,
    ) -> None:
        self._encoder, self._size = encoder, size + -size % mesh.size
        self._params = devices.put_replicated(denoiser.params, mesh)
        null = jnp.asarray(encoder.texts([""])[0])

        self._shape = shape

        def one(params: Params, cond: Array, noise: Array) -> Array:
            guided = guidance_of(guidance, null)
            return sample(
                denoiser.exact_fn, params, schedule, grid, noise, cond, guidance=guided
            ).x0

        self._draw = devices.over_samples(
            lambda params, batch: jax.vmap(one, (None, 0, 0))(params, *batch), mesh
        )

    def draw(
        self, text: Component[CLIPText], prompts: Sequence[str], seeds: Sequence[int]
    ) -> np.ndarray:
        """Pictures uint8 [n, H, W, 3] of prompts, each by its seed."""
        cond = self._encoder.texts(prompts, text)
        noise = np.stack([noise_of(seed, self._shape) for seed in seeds])

        def some(rows: np.ndarray) -> Array:
            return self._draw(self._params, (cond[rows], noise[rows]))

        return self._encoder.decode(jnp.asarray(devices.in_batches(some, len(seeds), self._size)))
