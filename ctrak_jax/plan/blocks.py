"""The plan of a deep network from shallow ones.

Blocks of one kind are alike, so what a program takes grows by the same with each of them. It is
traced with :data:`FEW` blocks of every kind, and once more per kind with one block more; the
difference is what each further block takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

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


def continued(
    found: Sequence[Mapping[str, Any]],
    shallower: Sequence[Mapping[str, int]],
    whole: Mapping[str, int],
) -> dict[str, Any]:
    """What the whole network takes, number by number.

    Args:
        found: what each shallower network takes; mappings may be nested.
        shallower: their numbers of blocks, as :func:`shallow` has them.
        whole: the network's.
    """
    few = shallower[0]
    further = [
        sum((whole[kind] - few[kind]) * (blocks[kind] - few[kind]) for kind in few)
        for blocks in shallower[1:]
    ]
    first, *others = (flatten_dict(dict(one)) for one in found)
    total: dict[Any, Any] = {}
    for key in dict.fromkeys(key for one in (first, *others) for key in one):
        start = first.get(key, 0)
        steps = zip(others, further, strict=True)
        total[key] = start + sum(count * (one.get(key, 0) - start) for one, count in steps)
    return unflatten_dict(total)
