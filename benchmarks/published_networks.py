"""How far the networks here are from PyTorch's classes, on the same random files of many sizes.

    python -m benchmarks.published_networks [--seeds 0 1] [--only FLUX]

Needs torch, diffusers and transformers 5 beside the package. PyTorch's class writes a folder of
random weights, both sides read it: theirs computes in float64 by the formulas of
docs/explanation/method.md (its sinusoids too, which diffusers rounds to float32 in a network of
float64), ours in float32. A row has the largest relative differences over the
seeds: of predictions, inversions and embeddings the largest one by the largest number expected, of
gradients (all parameters, nine timesteps of one sample, summed as they are and each of norm 1)
that of the norms.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import ctrak_jax as ct
from benchmarks.random_models import (
    AUTOENCODERS,
    DENOISERS,
    ENCODERS,
    Model,
    autoencoder,
    pair,
    use_exact_waves,
)
from ctrak_jax import reward
from ctrak_jax import schedule as schedules
from ctrak_jax.gradient import path_gradients
from ctrak_jax.models.denoiser import denoiser_of
from ctrak_jax.models.network import SizedTextCondition, TextCondition
from ctrak_jax.models.stable_diffusion import weights

SCALE, STRENGTH, SHIFT = 3.0, 5.0, 3.0
"""Of guidance, of the slider and of the flows' levels."""
TOKENS = 7
LOSSES = ("dsm", "dps", "slider")
COLUMNS = ("output", "inversion", *LOSSES, *(f"{loss}, normalised" for loss in LOSSES))
BARS = dict.fromkeys(COLUMNS, 1e-4) | {"output": 1e-5}
"""A difference above its column's ends the command with status 1."""


class Sample(NamedTuple):
    """What both sides are given: a clean latent and states [time, ...], channels first, and two
    conditions."""

    x0: Any
    states: Any
    cond: Any
    other: Any


def apart(found: Any, expected: torch.Tensor) -> float:
    """The largest difference, by the largest number expected."""
    wanted = expected.numpy()
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def last(x: torch.Tensor) -> torch.Tensor:
    """Channels last."""
    return torch.movedim(x, -3, -1)


def condition_of(network: Any, random: np.random.Generator) -> Any:
    """A random condition, float32 or a class."""
    if hasattr(network, "classes"):
        return np.int32(random.integers(network.classes + 1))
    text = random.normal(size=(TOKENS, network.text_width)).astype(np.float32)
    if network.pooled_width is None:
        return text
    pooled = random.normal(size=network.pooled_width).astype(np.float32)
    if not hasattr(network.module, "size_waves"):
        return TextCondition(text, pooled)
    return SizedTextCondition(text, pooled, random.integers(1, 1024, 6).astype(np.float32))


def in_double(value: Any) -> torch.Tensor:
    found = torch.as_tensor(value)
    return found.double() if found.is_floating_point() else found.long()


class Theirs:
    """PyTorch's network: its noise or velocity, paths and gradients, with the shares of the image
    and of the noise by timestep (``signal``, ``noise``), and those of the image and of what is
    predicted (``clean``, ``predicted``)."""

    def __init__(self, model: Model, network: Any) -> None:
        self.model, self.network = model, network
        if model.prediction == "flow":
            u = np.arange(1001) / 1000
            self.noise = SHIFT * u / (1 + (SHIFT - 1) * u)
            self.signal, self.clean = 1 - self.noise, np.ones(1001)
        else:
            powers = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
            self.signal = self.clean = np.sqrt(powers)
            self.noise = np.sqrt(1 - powers)

    def prediction(self, x: torch.Tensor, t: int, cond: Any) -> torch.Tensor:
        told = float(self.noise[t]) if self.model.prediction == "flow" else t
        found = self.model.call(self.network, x, told, cond)
        velocity = self.model.prediction == "v"
        return self.signal[t] * found + self.noise[t] * x if velocity else found

    def image(self, x: torch.Tensor, t: int, p: torch.Tensor) -> torch.Tensor:
        return (x - self.noise[t] * p) / self.clean[t]

    @torch.no_grad()
    def inversion(self, sample: Sample, times: list[int]) -> list[torch.Tensor]:
        """States at all of ``times``, guided."""
        states = [sample.x0]
        for t, after in pairwise(times):
            x = states[-1]
            wanted, negative = (self.prediction(x, t, c) for c in (sample.cond, sample.other))
            p = negative + SCALE * (wanted - negative)
            states.append(self.clean[after] * self.image(x, t, p) + self.noise[after] * p)
        return states

    def loss(self, name: str, x: torch.Tensor, t: int, sample: Sample) -> torch.Tensor:
        """One of LOSSES at a state."""
        x = x.clone().requires_grad_()
        p = self.prediction(x, t, sample.cond)
        if name == "dsm":
            target = (x - self.clean[t] * sample.x0) / self.noise[t]
        elif name == "dps":
            error = torch.mean((self.image(x, t, p) - sample.x0) ** 2)
            target = p + torch.autograd.grad(error, x, retain_graph=True)[0]
        else:
            target = p + STRENGTH * (p - self.prediction(x, t, sample.other))
        return torch.mean((target.detach() - p) ** 2)

    def gradients(self, name: str, times: list[int], sample: Sample) -> list[dict[str, Any]]:
        """The sum over the steps, and that of steps of norm 1, by parameter."""
        names, values = zip(*self.network.named_parameters(), strict=True)
        sums = [[torch.zeros_like(value) for value in values] for _ in range(2)]
        for x, t in zip(sample.states, times, strict=True):
            loss = self.loss(name, x, t, sample)
            found = torch.autograd.grad(loss, values, materialize_grads=True)
            norm = math.sqrt(sum(float((g**2).sum()) for g in found))
            for i, g in enumerate(found):
                sums[0][i] += g
                sums[1][i] += g / norm
        return [{n: g.numpy() for n, g in zip(names, each, strict=True)} for each in sums]


def ours(network: Any, schedule: Any, steps: Any, prediction: str) -> Callable[..., Any]:
    """Outputs at the states, the inversion and the gradients of LOSSES, of parameters and a
    sample; compiled once for all seeds."""
    times = jnp.asarray(steps.recorded)

    def all_of(params: Any, sample: Sample) -> Any:
        denoiser = denoiser_of(network, params, schedule, prediction)
        x0, states, cond, other = sample
        guidance = ct.Guidance(SCALE, other)
        part = ct.select(params)

        def layers_fn(chosen: Any, *rest: Any) -> Any:
            return denoiser.layers_fn(part.merge(chosen, {}), *rest)

        losses = reward.dsm(schedule, x0), reward.dps(schedule, x0), reward.slider(other, STRENGTH)

        def of_loss(which: Any) -> Any:
            def loss(step: Any) -> Any:
                return jnp.tensordot(which, jnp.stack([each(step) for each in losses]), 1)

            path, both = ct.Path(states, times), [False, True]
            rest = part.params, path, cond
            return path_gradients(loss, layers_fn, *rest, normalise=both, time_chunk=1)

        def output(state: Any) -> Any:
            return denoiser.eps_fn(params, *state, cond)

        path = ct.invert(denoiser.eps_fn, params, schedule, steps, x0, cond, guidance=guidance)
        outputs = jax.lax.map(output, (states, times))
        return outputs, path.x, jax.lax.map(of_loss, jnp.eye(len(LOSSES)))

    return jax.jit(all_of)


def compare(model: Model, seeds: list[int]) -> Iterator[dict[str, float]]:
    """The differences of one denoiser, by seed."""
    flow = model.prediction == "flow"
    schedule = schedules.rectified_flow(SHIFT) if flow else schedules.scaled_linear()
    steps, run = ct.grid(schedule.steps), None
    times = steps.recorded.tolist()
    for seed in seeds:
        network, (mine, params) = pair(model.cls(**model.config), seed, model.load)
        run = run or ours(mine, schedule, steps, model.prediction)
        random = np.random.default_rng(seed)
        x0, *states = random.normal(size=(1 + len(times), *model.latent)).astype(np.float32)
        both = (condition_of(mine, random) for _ in range(2))
        given = Sample(x0, np.stack(states), *both)
        latents = (np.moveaxis(array, -3, -1) for array in given[:2])
        outputs, path, gradients = run(params, Sample(*latents, *given[2:]))

        sample, theirs = jax.tree.map(in_double, given), Theirs(model, network)
        with torch.no_grad():
            wanted = [
                last(theirs.prediction(x, t, sample.cond))
                for x, t in zip(sample.states, times, strict=True)
            ]
        reached = theirs.inversion(sample, steps.times.tolist())[steps.every : -1 : steps.every]
        found = {
            "output": max(map(apart, outputs, wanted)),
            "inversion": max(map(apart, path, map(last, reached))),
        }
        for i, loss in enumerate(LOSSES):
            sums = theirs.gradients(loss, times, sample)
            for ending, rows, named in zip(("", ", normalised"), gradients, sums, strict=True):
                expected = weights.convert(named, params)
                squares = sum(np.sum((rows[path][i] - g) ** 2) for path, g in expected.items())
                norm = sum(np.sum(g**2) for g in expected.values())
                found[loss + ending] = math.sqrt(squares / norm)
        yield found


def compare_text(
    make: Callable[[], Any], load: Any, tokens: int, seeds: list[int]
) -> Iterator[Any]:
    """The largest difference of a text encoder's outputs, by seed."""
    for seed in seeds:
        network, (mine, params) = pair(make(), seed, load)
        text = np.random.default_rng(seed).integers(2, 97, tokens)
        text[tokens // 2 :] = 98
        with torch.no_grad():
            wanted = network(torch.tensor(text)[None], output_hidden_states=True)
        found = mine.apply(params, text)
        if not isinstance(found, tuple):
            yield {"output": apart(found, wanted.last_hidden_state[0])}
            continue
        pooled = "text_embeds" if found.projected is not None else "pooler_output"
        pairs = (
            (found.last, wanted.last_hidden_state),
            (found.penultimate, wanted.hidden_states[-2]),
            (found.pooled if found.projected is None else found.projected, wanted[pooled]),
        )
        yield {"output": max(apart(a, b[0]) for a, b in pairs)}


def compare_autoencoder(config: dict[str, Any], seeds: list[int]) -> Iterator[dict[str, float]]:
    """The larger difference of latent and image, by seed."""
    for seed in seeds:
        network, (mine, params) = autoencoder(config, seed)
        image = np.random.default_rng(seed).uniform(-1, 1, (3, 16, 24)).astype(np.float32)
        scale, shift = network.config.scaling_factor, network.config.shift_factor or 0.0
        with torch.no_grad():
            mean = network.encode(in_double(image)[None]).latent_dist.mean
            decoded = network.decode(mean).sample[0]
        latent = last((mean[0] - shift) * scale)
        made = mine.encode(params, jnp.asarray(np.moveaxis(image, 0, -1)))
        back = mine.decode(params, jnp.asarray(latent.numpy(), jnp.float32))
        yield {"output": max(apart(made, latent), apart(back, last(decoded)))}


def main() -> None:
    """Print the table.

    Raises:
        SystemExit: a difference is above its bar.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    asked = parser.parse_args()
    use_exact_waves()
    # Compiling is most of the time of networks as small as these.
    jax.config.update("jax_disable_most_optimizations", True)
    rows = {name: partial(compare, model) for name, model in DENOISERS.items()}
    rows |= {name: partial(compare_text, *how) for name, how in ENCODERS.items()}
    rows |= {name: partial(compare_autoencoder, how) for name, how in AUTOENCODERS.items()}
    above = []
    table = Table("network", *COLUMNS, title=f"largest relative differences, seeds {asked.seeds}")
    for name, differences in rows.items():
        if asked.only not in name:
            continue
        most: dict[str, float] = defaultdict(float)
        for found in differences(asked.seeds):
            for column, value in found.items():
                most[column] = max(most[column], value)
        shown = [f"{most[column]:.0e}" if column in most else "" for column in COLUMNS]
        print(name, *shown, flush=True)
        above += [
            f"{name}: {column} {value:.0e}, expected at most {BARS[column]:.0e}"
            for column, value in most.items()
            if not value <= BARS[column]
        ]
        table.add_row(name, *shown)
    Console(width=140).print(table)
    if above:
        raise SystemExit("\n".join(above))


if __name__ == "__main__":
    main()
