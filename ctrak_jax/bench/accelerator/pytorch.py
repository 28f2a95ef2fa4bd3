"""The same work in PyTorch, where it is installed: projections by a generated matrix, features with
``torch.func`` in the published form (the loss differentiated, batch 4, half precision) and in the
best form found (vector-Jacobian products by hand, larger batches)."""

import importlib.util
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from ctrak_jax.bench.accelerator import torch_peer
from ctrak_jax.bench.accelerator.measuring import LeftOutError, Measurement
from ctrak_jax.bench.accelerator.networks import (
    CONDITION,
    GUIDANCE,
    SD14,
    TOKENS,
    dit_size,
    installed,
)
from ctrak_jax.bench.accelerator.sizes import AcceleratorSizes
from ctrak_jax.bench.accelerator.torch_peer import Parameters, Peer

TILE = 1024
"""Rows of the matrix that are generated at a time."""
PUBLISHED = 4
"""The published code's batch."""
FORMS: dict[str, Callable[..., torch.Tensor]] = {
    "grad of the loss": torch_peer.gradients_of_loss,
    "by hand": torch_peer.gradients,
}


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _timed(fn: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Median seconds of a call after one that is not counted, and the most memory."""
    gpu, seconds = torch.cuda.is_available(), []
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(repeats + 1):
        start = time.perf_counter()
        fn()
        if gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    found: dict[str, Any] = {"run_s": float(np.median(seconds[1:]))}
    if gpu:
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def _rate(batch: int, found: dict[str, Any]) -> dict[str, Any]:
    return {"batch": batch, "samples_per_second": batch / found["run_s"], **found}


def projection(sizes: AcceleratorSizes, d: int, batch: int, kind: str) -> dict[str, Any]:
    """g R with R of random numbers, a tile of rows at a time: generated, multiplied, dropped."""
    where = device()
    rows = max(d // sizes.cut, 1)
    g = torch.randn((batch, rows), device=where)
    low = torch.bfloat16 if where.type == "cuda" else torch.float32
    generator = torch.Generator(where)

    def run() -> torch.Tensor:
        generator.manual_seed(0)
        total = torch.zeros((batch, sizes.k), device=where)
        for first in range(0, rows, TILE):
            part = g[:, first : first + TILE]
            shape = (part.shape[1], sizes.k)
            if kind == "rademacher":
                bits = torch.randint(
                    0, 2, shape, generator=generator, device=where, dtype=torch.int8
                )
                total += (part.to(low) @ bits.to(low).mul_(2).sub_(1)).float()
            else:
                total += part @ torch.randn(shape, generator=generator, device=where)
        return total / sizes.k**0.5

    found = _timed(run, sizes.repeats)
    found["run_s"] *= d / rows
    return _rate(batch, found) | {"d": d, "k": sizes.k, "rows_timed": rows}


def dattri(sizes: AcceleratorSizes, d: int, batch: int) -> dict[str, Any]:
    """dattri's projector with rademacher signs."""
    if importlib.util.find_spec("dattri") is None:
        raise LeftOutError("dattri is not installed")
    from dattri.func.projection import random_project

    where = device()
    g = torch.randn((batch, d), device=where)
    project = random_project(
        g, batch, proj_dim=sizes.k, proj_max_batch_size=8, proj_seed=0, device=where.type,
        proj_type="rademacher",
    )  # fmt: skip
    return _rate(batch, _timed(lambda: project(g), sizes.repeats)) | {"d": d, "k": sizes.k}


def traker(sizes: AcceleratorSizes, d: int, batch: int) -> dict[str, Any]:
    """traker's projector: that of its CUDA extension where there is one."""
    if importlib.util.find_spec("trak") is None:
        raise LeftOutError("traker is not installed")
    from trak.projectors import BasicProjector, CudaProjector, ProjectionType

    where, signs = device(), ProjectionType.rademacher
    fast = where.type == "cuda" and importlib.util.find_spec("fast_jl") is not None
    if fast:
        made = CudaProjector(d, sizes.k, 0, signs, where, max_batch_size=8)
    else:
        made = BasicProjector(d, sizes.k, 0, signs, where)
    g = torch.randn((batch, d), device=where)
    found = _timed(lambda: made.project(g, model_id=0), sizes.repeats)
    return _rate(batch, found) | {"d": d, "k": sizes.k, "projector": type(made).__name__}


def _peer(sizes: AcceleratorSizes, eps: Any, abar: np.ndarray) -> Peer:
    times = np.floor((len(abar) - 1) * np.arange(sizes.steps + 1) / sizes.steps + 1e-6)
    powers = torch.tensor(np.asarray(abar, np.float32), device=device())
    return Peer(eps, powers, times.astype(int).tolist(), sizes.every, GUIDANCE)


def dit(sizes: AcceleratorSizes, form: str, dtype: str, batch: int) -> dict[str, Any]:
    """Gradients by ``dps`` along guided inversions, normalised, not projected."""
    low = getattr(torch, dtype)
    weights = {name: leaf.to(low) for name, leaf in _dit_weights(sizes).items()}
    peer = _peer(sizes, torch_peer.dit(dit_size(sizes.network)), _linear())
    shapes = (sizes.pixels, sizes.pixels, 3), (CONDITION,), (CONDITION,)
    given = [torch.randn((batch, *shape), device=device()).to(low) for shape in shapes]
    run = partial(FORMS[form], peer, weights, *given)
    return _rate(batch, _timed(run, sizes.repeats))


@lru_cache(maxsize=1)
def _dit_weights(sizes: AcceleratorSizes) -> Parameters:
    import jax

    from ctrak_jax.gradient import parameter_paths
    from ctrak_jax.models import DiT, create

    shape = (sizes.pixels, sizes.pixels, 3)
    network = DiT(**dit_size(sizes.network)._asdict())
    like = jax.eval_shape(lambda: create(network, shape, CONDITION, 0))
    leaves = zip(parameter_paths(like), jax.tree.leaves(like), strict=True)
    return {name: 0.02 * torch.randn(leaf.shape, device=device()) for name, leaf in leaves}


def _linear() -> np.ndarray:
    return np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


def _scaled_linear() -> np.ndarray:
    return np.cumprod(1.0 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def _published_unet(config: dict[str, Any]) -> Any:
    """diffusers' class, attention written out."""
    from diffusers.models.attention_processor import AttnProcessor
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    made = UNet2DConditionModel(**config)
    made.set_attn_processor(AttnProcessor())
    return made


def unet(sizes: AcceleratorSizes, form: str, dtype: str, batch: int) -> dict[str, Any]:
    """The same of diffusers' UNet, to its attention to captions."""
    config: dict[str, Any] = SD14
    if sizes.unet != "sd14":
        from ctrak_jax.models.stable_diffusion.small import Size, unet_config

        small = Size(unet=(32,)) if sizes.unet == "least" else Size()
        config = {k: v for k, v in unet_config(small).items() if not k.startswith("_")}
    low = getattr(torch, dtype)
    with installed():
        made = _published_unet(config).to(device(), low).requires_grad_(False)
    chosen = {name: p.detach() for name, p in made.named_parameters() if "attn2" in name}

    def eps(p: Parameters, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        return functional_call(made, p, (x[None], t, cond[None])).sample[0]

    peer = _peer(sizes, eps, _scaled_linear())
    side, width = config["sample_size"], config["cross_attention_dim"]
    tokens = TOKENS if sizes.unet == "sd14" else 32
    shapes = (config["in_channels"], side, side), (tokens, width), (tokens, width)
    given = [torch.randn((batch, *shape), device=device()).to(low) for shape in shapes]
    run = partial(FORMS[form], peer, chosen, *given)
    d = sum(leaf.numel() for leaf in chosen.values())
    return _rate(batch, _timed(run, 1)) | {"d": d}


def measurements(sizes: AcceleratorSizes) -> list[Measurement]:
    """Published forms first, then the best ones. On a GPU products of float32 are TF32, which they
    are in JAX by default."""
    found = []
    if device().type == "cuda":
        torch.set_float32_matmul_precision("high")
    half = "float16" if device().type == "cuda" else "float32"
    d, part = sizes.d[0], "pytorch"
    for i, batch in enumerate(sizes.batches):
        for kind in ("rademacher", "gaussian"):
            name = f"generate and multiply, {kind}, d = {d:,}, batch {batch}"
            run = partial(projection, sizes, d, batch, kind)
            found.append(Measurement(part, name, sizes.costs.torch_projection, run, 1 + 3 * i))
        for fn in (dattri, traker):
            name = f"{fn.__name__}, rademacher, d = {d:,}, batch {batch}"
            run = partial(fn, sizes, d, batch)
            found.append(Measurement(part, name, sizes.costs.torch_projection, run, 2 + 3 * i))
    costs = {"DiT": sizes.costs.torch_dit, "UNet": sizes.costs.torch_unet}
    for which, fn in (("DiT", dit), ("UNet", unet)):
        size = sizes.network if which == "DiT" else sizes.unet
        larger = sizes.batches_dit if which == "DiT" else sizes.batches_unet
        jobs = [("grad of the loss", half, PUBLISHED)]
        dtypes = dict.fromkeys((half, "float32"))
        jobs += [("by hand", dtype, b) for b in larger for dtype in dtypes]
        for i, (form, dtype, batch) in enumerate(dict.fromkeys(jobs)):
            name = f"{size} {which}, {form}, {dtype}, batch {batch}"
            run = partial(fn, sizes, form, dtype, batch)
            found.append(Measurement(part, name, costs[which], run, 2 * i))
    return found
