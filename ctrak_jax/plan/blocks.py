"""The plan of a deep network from shallow ones.

Blocks of one kind are alike, so what a program takes grows by the same with each of them. It is
traced with :data:`FEW` blocks of every kind, and once more per kind with one block more; the
difference is what each further block takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ctrak_jax.models.latent_dit import LatentDiTDenoiser
from ctrak_jax.models.mmdit import FluxDenoiser, SD3Denoiser

FEW = 2


def depths_of(network: Any) -> dict[str, int]:
    """How many blocks of each kind a published transformer has; of other networks none."""
    match network:
        case SD3Denoiser(module=module) if module.dual:
            return {"dual": len(module.dual), "plain": module.depth - len(module.dual)}
        case FluxDenoiser(module=module):
            return {"double": module.depth, "single": module.single_depth}
        case SD3Denoiser(module=module) | LatentDiTDenoiser(module=module):
            return {"plain": module.depth}
    return {}


def with_depths(network: Any, depths: Mapping[str, int]) -> Any:
    """The network with other numbers of blocks, of the kinds of :func:`depths_of`."""
    more: dict[str, Any]
    match network:
        case FluxDenoiser(module=module):
            more = {"depth": depths["double"], "single_depth": depths["single"]}
        case SD3Denoiser(module=module):
            more = {"depth": sum(depths.values()), "dual": tuple(range(depths.get("dual", 0)))}
        case _:
            module, more = network.module, {"depth": depths["plain"]}
    return replace(network, module=module.clone(**more))


def shallow(depths: Mapping[str, int]) -> list[dict[str, int]]:
    """The numbers of blocks that are traced, the fewest first; only the whole where it is hardly
    deeper.

    Args:
        depths: blocks by kind.
    """
    few = {kind: min(count, FEW) for kind, count in depths.items()}
    more = [few | {kind: FEW + 1} for kind, count in depths.items() if count > FEW]
    whole = sum(depths.values())
    return [few, *more] if sum(few.values()) + 1 < whole else [dict(depths)]


def extrapolated(
    found: Sequence[Mapping[str, float]],
    shallower: Sequence[Mapping[str, int]],
    whole: Mapping[str, int],
) -> dict[str, float]:
    """What the whole network takes, number by number.

    Args:
        found: what each shallower network takes.
        shallower: their numbers of blocks, as :func:`shallow` has them.
        whole: the network's.
    """
    (first, *others), (few, *more) = found, shallower
    further = [sum((whole[k] - few[k]) * (blocks[k] - few[k]) for k in few) for blocks in more]
    return {
        name: start + sum(n * (one[name] - start) for n, one in zip(further, others, strict=True))
        for name, start in first.items()
    }
