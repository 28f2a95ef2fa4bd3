"""The method's training features in PyTorch with ``torch.func``: the peers that are timed here and
in ``benchmarks.peers``. Written from the formulas (method.md, sections 1, 2, 4 and 7); the
diffusion transformer's parameters are those of :class:`ctrak_jax.models.DiT` under their paths.

:func:`gradients_of_loss` differentiates the loss as it is defined, step by step, as the published
code does; :func:`gradients` has what can be had by hand: vector-Jacobian products instead of a
loss, both conditions of the guidance in one call, no copy of a step's gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import grad, vjp, vmap

from ctrak_jax.models import DiTSize
from ctrak_jax.models.dit import BASE, FREQUENCIES, rotary_angles, sincos_positions

Tensor = torch.Tensor
Parameters = dict[str, Tensor]


class Peer(NamedTuple):
    """A network and the path of its samples.

    Attributes:
        eps: ``eps(parameters, x, t, cond)`` of one sample.
        abar: cumulative signal powers [steps].
        times: the inversion's grid.
        every: steps between two recorded states.
        guidance: its scale.
    """

    eps: Callable[[Parameters, Tensor, Tensor, Tensor], Tensor]
    abar: Tensor
    times: list[int]
    every: int
    guidance: float


def _dense(p: Parameters, name: str, x: Tensor) -> Tensor:
    return x @ p[f"{name}/kernel"] + p[f"{name}/bias"]


def _like(x: Tensor, values: np.ndarray) -> Tensor:
    """Constants on the device and in the type of x."""
    return torch.from_numpy(values.astype(np.float32)).to(x)


def _rms(x: Tensor, scale: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * scale


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).reshape(x.shape)


def eps(size: DiTSize, p: Parameters, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """The network on one image [H, W, C]."""
    side, _, channels = x.shape
    rows, patch, width = side // size.patch, size.patch, size.width
    patches = x.reshape(rows, patch, rows, patch, channels).permute(0, 2, 1, 3, 4)
    tokens = _dense(p, "patch_embedding", patches.reshape(rows * rows, -1))
    tokens = tokens + _like(x, sincos_positions(rows, width))
    half = FREQUENCIES // 2
    frequencies = BASE ** (-np.arange(half, dtype=np.float32) / half)
    angle = t * torch.from_numpy(frequencies).to(x.device)
    c = _dense(p, "time_embedding_0", torch.cat([angle.cos(), angle.sin()]).to(x.dtype))
    c = _dense(p, "time_embedding_1", F.silu(c)) + _dense(p, "condition_embedding", cond)
    angles = rotary_angles(rows, width // size.heads)
    cos, sin = (_like(x, wave(angles))[:, None] for wave in (np.cos, np.sin))

    for i in range(size.depth):
        b = f"block_{i}"
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = _dense(
            p, f"{b}/modulation", F.silu(c)
        ).chunk(6)
        h = _rms(tokens, p[f"{b}/norm1/scale"]) * (1 + scale_a) + shift_a
        qkv = _dense(p, f"{b}/attn/qkv", h).reshape(len(tokens), 3, size.heads, -1)
        q = _rotate(_rms(qkv[:, 0], p[f"{b}/attn/q_norm/scale"]), cos, sin)
        k = _rotate(_rms(qkv[:, 1], p[f"{b}/attn/k_norm/scale"]), cos, sin)
        weights = (torch.einsum("qhd,khd->hqk", q, k) / (width // size.heads) ** 0.5).softmax(-1)
        mixed = torch.einsum("hqk,khd->qhd", weights, qkv[:, 2]).reshape(tokens.shape)
        tokens = tokens + gate_a * _dense(p, f"{b}/attn/proj", mixed)
        h = _rms(tokens, p[f"{b}/norm2/scale"]) * (1 + scale_m) + shift_m
        gate, value = _dense(p, f"{b}/mlp/w12", h).chunk(2, -1)
        tokens = tokens + gate_m * _dense(p, f"{b}/mlp/w3", F.silu(gate) * value)

    shift, scale = _dense(p, "final_modulation", F.silu(c)).chunk(2)
    out = _dense(p, "final", _rms(tokens, p["final_norm/scale"]) * (1 + scale) + shift)
    return out.reshape(rows, rows, patch, patch, channels).permute(0, 2, 1, 3, 4).reshape(x.shape)


def dit(size: DiTSize) -> Callable[[Parameters, Tensor, Tensor, Tensor], Tensor]:
    """The ``eps`` of a :class:`Peer`."""
    return partial(eps, size)


def _time(x: Tensor, t: int) -> Tensor:
    return torch.tensor(float(t), device=x.device)


@torch.no_grad()
def inversions(
    peer: Peer, p: Parameters, x0: Tensor, cond: Tensor, against: Tensor
) -> list[tuple[int, Tensor]]:
    """Guided DDIM inversion of a batch: the recorded (t, states)."""
    network = vmap(lambda x, t, c: peer.eps(p, x, t, c), (0, None, 0))
    x, found, pair = x0, [], torch.cat([cond, against])
    last = len(peer.times) - 1 - peer.every
    for i, (t, t_next) in enumerate(zip(peer.times[:last], peer.times[1 : last + 1], strict=True)):
        wanted, other = network(torch.cat([x, x]), _time(x0, t), pair).chunk(2)
        e = other + peer.guidance * (wanted - other)
        now, then = peer.abar[t], peer.abar[t_next]
        x = then.sqrt() * (x - (1 - now).sqrt() * e) / now.sqrt() + (1 - then).sqrt() * e
        if (i + 1) % peer.every == 0:
            found.append((t_next, x))
    return found


def gradients(peer: Peer, p: Parameters, x0: Tensor, cond: Tensor, against: Tensor) -> Tensor:
    """Per-sample ``dps`` gradients, each timestep's of norm one, summed: [sample, d]."""

    def one(x: Tensor, t: Tensor, signal: Tensor, noise: Tensor, c: Tensor, x0: Tensor) -> Any:
        e, pull_x = vjp(lambda x: peer.eps(p, x, t, c), x)
        slope = 2 * ((x - noise * e) / signal - x0) / x.numel()
        delta = (slope - noise * pull_x(slope)[0]) / signal
        _, pull = vjp(lambda p: peer.eps(p, x, t, c), p)
        g = pull(-2 * delta / x.numel())[0]
        norm = sum(leaf.square().sum() for leaf in g.values()).sqrt()
        return {name: leaf / norm for name, leaf in g.items()}

    batched = vmap(one, (0, None, None, None, 0, 0))
    total: Parameters = {}
    for t, x in inversions(peer, p, x0, cond, against):
        abar = peer.abar[t]
        g = batched(x, _time(x0, t), abar.sqrt(), (1 - abar).sqrt(), cond, x0)
        total = {name: total[name] + leaf for name, leaf in g.items()} if total else g
    return torch.cat([total[name].flatten(1) for name in sorted(total)], 1)


def gradients_of_loss(
    peer: Peer, p: Parameters, x0: Tensor, cond: Tensor, against: Tensor
) -> Tensor:
    """The same features by ``vmap(grad(loss))`` at every timestep: [sample, d]."""

    def loss(p: Parameters, x: Tensor, t: Tensor, abar: Tensor, c: Tensor, x0: Tensor) -> Tensor:
        def error(x: Tensor) -> Tensor:
            e = peer.eps(p, x, t, c)
            return (((x - (1 - abar).sqrt() * e) / abar.sqrt() - x0) ** 2).mean()

        delta = grad(error)(x).detach()
        e = peer.eps(p, x, t, c)
        return ((e.detach() + delta - e) ** 2).mean()

    batched = vmap(grad(loss), (None, 0, None, None, 0, 0))
    network = vmap(lambda x, t, c: peer.eps(p, x, t, c), (0, None, 0))
    total, x = torch.zeros((), device=x0.device), x0
    last = len(peer.times) - 1 - peer.every
    for i, (t, t_next) in enumerate(zip(peer.times[:last], peer.times[1 : last + 1], strict=True)):
        with torch.no_grad():
            wanted = network(x, _time(x0, t), cond)
            other = network(x, _time(x0, t), against)
            e = other + peer.guidance * (wanted - other)
            now, then = peer.abar[t], peer.abar[t_next]
            x = then.sqrt() * (x - (1 - now).sqrt() * e) / now.sqrt() + (1 - then).sqrt() * e
        if (i + 1) % peer.every == 0:
            g = batched(p, x, _time(x0, t_next), then, cond, x0)
            rows = torch.cat([g[name].flatten(1) for name in sorted(g)], 1)
            total = total + rows / rows.norm(dim=1, keepdim=True)
    return total
